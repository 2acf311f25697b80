//! AsyncAPI description of the bus, for each action and query of the specs; see `docs/wire.md`.

use concert_wire::envelope::{ERROR, FAULT, Fault};
use concert_wire::id::FlowId;
use concert_wire::{FIRED, IN_FORCE, RESERVED_CONCEPT, header};
use serde_json::{Map, Value, json};

use super::schema::{Secrets, any_of, is_requesting, object, of_params};
use concert_lang::program::Program;
use concert_lang::spec::{ActionSpec, ConceptSpec, QuerySpec, Rows};

/// Creates the document.
pub fn asyncapi(program: &Program) -> Value {
    let mut document = Document::default();
    for concept in &program.concepts {
        for action in &concept.actions {
            document.action(concept, action);
        }
        for query in &concept.queries {
            document.query(concept, query);
        }
    }
    document.records();
    let Document { channels, operations, messages } = document;
    json!({
        "asyncapi": "3.1.0",
        "info": {
            "title": "Concert",
            "version": program.version,
            "description": concat!(
                "Messages on the bus, derived from the specs. ",
                "The version is the version of rules and specs. ",
                "`receive` is a message that clients can send: an invocation or a query. ",
                "`send` is an event that the system publishes. ",
                "`x-concert-effects` of an operation that invokes an action is true ",
                "if the action changes state. ",
                "If it is false, the action may be skipped after the deadline of its request.",
            ),
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": { "messages": messages, "schemas": schemas() },
    })
}

/// Extension of the operations that invoke an action: `true` if the spec has `effects`.
const EFFECTS: &str = "x-concert-effects";

#[derive(Default)]
struct Document {
    channels: Map<String, Value>,
    operations: Map<String, Value>,
    messages: Map<String, Value>,
}

/// Parameters of a subject.
fn parameters(names: &[&str]) -> Value {
    let all = [("flow", "the flow id"), ("id", "the action id, a UUID")];
    let named = all.iter().filter(|(name, _)| names.contains(name));
    named
        .map(|(name, text)| ((*name).to_owned(), json!({ "description": text })))
        .collect::<Map<_, _>>()
        .into()
}

impl Document {
    fn channel(&mut self, name: &str, address: &str, params: &[&str], messages: &[&str]) {
        let messages: Map<String, Value> = messages
            .iter()
            .map(|message| {
                let reference = json!({ "$ref": format!("#/components/messages/{message}") });
                ((*message).to_owned(), reference)
            })
            .collect();
        let mut channel = json!({ "address": address, "messages": messages });
        if let (false, Some(channel)) = (params.is_empty(), channel.as_object_mut()) {
            channel.insert("parameters".to_owned(), parameters(params));
        }
        self.channels.insert(name.to_owned(), channel);
    }

    fn message(&mut self, name: &str, summary: String, payload: Value, headers: Option<&str>) {
        let mut message = json!({ "name": name, "summary": summary, "payload": payload });
        if let (Some(headers), Some(message)) = (headers, message.as_object_mut()) {
            let reference = json!({ "$ref": format!("#/components/schemas/{headers}") });
            message.insert("headers".to_owned(), reference);
        }
        self.messages.insert(name.to_owned(), message);
    }

    fn operation(&mut self, name: &str, action: &str, channel: &str, summary: String) {
        let reference = json!({ "$ref": format!("#/channels/{channel}") });
        self.operations.insert(
            name.to_owned(),
            json!({ "action": action, "channel": reference, "summary": summary }),
        );
    }

    fn action(&mut self, concept: &ConceptSpec, action: &ActionSpec) {
        let (of, name) = (&concept.name, &action.name);
        let whole = format!("{of}.{name}");
        let key = |what: &str| format!("{what}_{of}_{name}");
        let completed = key("completed");
        self.message(
            &completed,
            format!("{whole} completed with this input and output."),
            completion(action),
            (!is_requesting(of)).then_some("CompletionHeaders"),
        );
        self.channel(
            &completed,
            &format!("done.{{flow}}.{of}.{name}.{{id}}"),
            &["flow", "id"],
            &[&completed],
        );
        self.operation(&key("tell"), "send", &completed, format!("{whole} completed."));
        if is_requesting(of) {
            return;
        }
        let asked = key("asked");
        self.message(
            &asked,
            format!("Invocation of {whole}."),
            of_params(&action.input, Secrets::Either),
            Some("InvocationHeaders"),
        );
        self.channel(&asked, &format!("action.{of}.{name}.{{id}}"), &["id"], &[&asked]);
        let ask = key("ask");
        self.operation(
            &ask,
            "receive",
            &asked,
            format!(
                "Invokes {whole} durably. Without an id token or the header {}, it starts a flow.",
                header::FLOW
            ),
        );
        let dead = key("dead");
        self.message(
            &dead,
            format!(
                "A dead-lettered invocation of {whole}. \
                 The body is stored only if its secrets could be encrypted."
            ),
            json!({ "type": "object" }),
            Some("DeadLetterHeaders"),
        );
        self.channel(&dead, &format!("dead.{of}.{name}"), &[], &[&dead]);
        self.operation(&key("giveUp"), "send", &dead, format!("{whole} was dead-lettered."));
        let outcome = action.success.as_ref().map(|params| of_params(params, Secrets::Either));
        let failed = json!({ "$ref": "#/components/schemas/Failure" });
        let reply = any_of(outcome.into_iter().chain([failed]).collect());
        self.service(concept, name, of_params(&action.input, Secrets::Either), reply);
        for operation in [ask, key("serve")] {
            self.extend(&operation, EFFECTS, action.has_effects.into());
        }
    }

    /// Adds a key to an operation.
    fn extend(&mut self, operation: &str, key: &str, value: Value) {
        if let Some(operation) = self.operations.get_mut(operation).and_then(Value::as_object_mut) {
            operation.insert(key.to_owned(), value);
        }
    }

    fn query(&mut self, concept: &ConceptSpec, query: &QuerySpec) {
        let row = of_params(&query.output, Secrets::Either);
        let mut rows = json!({ "type": "array", "items": row });
        let bounds = match query.rows {
            Rows::One => (Some(1), Some(1)),
            Rows::AtMostOne => (None, Some(1)),
            Rows::Any => (None, None),
        };
        if let Some(rows) = rows.as_object_mut() {
            rows.extend(bounds.0.map(|least| ("minItems".to_owned(), json!(least))));
            rows.extend(bounds.1.map(|most| ("maxItems".to_owned(), json!(most))));
        }
        let reply =
            object(Map::from_iter([("rows".to_owned(), rows)]), vec!["rows".to_owned()], false);
        self.service(concept, &query.name, of_params(&query.input, Secrets::Either), reply);
    }

    /// Adds `concept.<Concept>.<name>`, a request with a reply.
    fn service(&mut self, concept: &ConceptSpec, name: &str, input: Value, reply: Value) {
        let of = &concept.name;
        let key = |what: &str| format!("{what}_{of}_{name}");
        let (request, answered, inbox) = (key("request"), key("answer"), key("inbox"));
        self.message(
            &request,
            format!("Calls {of}.{name} and waits for the reply."),
            input,
            Some("RequestHeaders"),
        );
        self.message(&answered, format!("Reply of {of}.{name}."), reply, Some("AnswerHeaders"));
        self.channel(&request, &format!("concept.{of}.{name}"), &[], &[&request]);
        let messages =
            json!({ &answered: { "$ref": format!("#/components/messages/{answered}") } });
        self.channels.insert(inbox.clone(), json!({ "address": null, "messages": messages }));
        let of_channel = |channel: &str| json!({ "$ref": format!("#/channels/{channel}") });
        self.operations.insert(
            key("serve"),
            json!({
                "action": "receive",
                "channel": of_channel(&request),
                "summary": format!("Serves {of}.{name}."),
                "reply": {
                    "channel": of_channel(&inbox),
                    "address": { "location": "$message.header#/reply" },
                },
            }),
        );
    }

    /// Adds the router's own records.
    fn records(&mut self) {
        let uuid = || json!({ "type": "string", "format": "uuid" });
        let text = || json!({ "type": "string" });
        let firing = json!({
            "type": "object",
            "properties": {
                "sync": text(),
                "causes": { "type": "array", "items": uuid() },
                "frames": { "type": "array", "items": {
                    "type": "object",
                    "properties": {
                        "frame": { "type": "object" },
                        "else": { "type": "integer", "minimum": 0 },
                    },
                    "required": ["frame"],
                    "additionalProperties": false,
                } },
            },
            "required": ["sync", "causes", "frames"],
            "additionalProperties": false,
        });
        let halt = json!({
            "type": "object",
            "properties": { "status": { "type": "integer" }, "why": text() },
            "required": ["status", "why"],
        });
        let output = any_of(vec![
            members([("firings", json!({ "type": "array", "items": firing }))]),
            members([("halt", halt)]),
        ]);
        let input = members([("cause", uuid()), ("rules", text())]);
        self.message(
            FIRED,
            "Firings of rules with queries for one completion.".to_owned(),
            members([("input", input), ("output", output)]),
            Some("CompletionHeaders"),
        );
        let address = format!("done.{{flow}}.{RESERVED_CONCEPT}.{FIRED}.{{id}}");
        self.channel(FIRED, &address, &["flow", "id"], &[FIRED]);
        self.operation("record", "send", FIRED, "Rules with queries fired.".to_owned());
        self.message(
            IN_FORCE,
            "A rule version was activated.".to_owned(),
            members([("input", members([("rules", text())])), ("output", members([]))]),
            None,
        );
        let address = format!("done.{}.{RESERVED_CONCEPT}.{IN_FORCE}.{{id}}", FlowId::of_rules());
        self.channel(IN_FORCE, &address, &["id"], &[IN_FORCE]);
        self.operation("putInForce", "send", IN_FORCE, "A rule version was activated.".to_owned());
    }
}

/// Schema of an object with exactly these keys.
fn members<const N: usize>(members: [(&str, Value); N]) -> Value {
    let required = members.iter().map(|(name, _)| (*name).to_owned()).collect();
    let properties = members.into_iter().map(|(name, schema)| (name.to_owned(), schema));
    object(properties.collect(), required, false)
}

/// Schema of a completion: a success, a refusal if the spec declares one, or a fault, whose input
/// may be invalid.
fn completion(action: &ActionSpec) -> Value {
    let input = of_params(&action.input, Secrets::Sealed);
    let of = |output: Value| members([("input", input.clone()), ("output", output)]);
    let mut outcomes: Vec<Value> =
        action.success.iter().map(|success| of(of_params(success, Secrets::Sealed))).collect();
    if action.can_fail {
        outcomes.push(of(members([(ERROR, json!({ "type": "string", "minLength": 1 }))])));
    }
    let faults =
        [Fault::Deadline, Fault::Unavailable, Fault::Throttled, Fault::Expired, Fault::Invalid];
    let words = faults.map(Fault::word);
    let fault = members([
        (ERROR, json!({ "type": "string", "minLength": 1 })),
        (FAULT, json!({ "enum": words })),
    ]);
    outcomes.push(members([("input", json!({ "type": "object" })), ("output", fault)]));
    any_of(outcomes)
}

fn schemas() -> Value {
    let text = |about: &str| json!({ "type": "string", "description": about });
    let uuid = |about: &str| json!({ "type": "string", "format": "uuid", "description": about });

    let work = || text("for humans: processing time in microseconds, and its parts");
    let headers = |properties: Vec<(&str, Value)>, required: &[&str]| {
        let properties = properties.into_iter().map(|(name, schema)| (name.to_owned(), schema));
        let required = required.iter().map(|name| (*name).to_owned()).collect();
        object(properties.collect(), required, true)
    };
    let invocation = || {
        vec![
            (header::FLOW, uuid("the flow; if missing, the invocation starts one")),
            (header::DEADLINE, text("deadline of the response, in milliseconds since 1970")),
            (header::CLIENT, text("keyed hash of the HTTP client's address")),
            (header::DEVICE, text("the device of that client")),
            (header::POSITION, text("log positions of the flow's root and of the cause")),
            (header::CAUSE, text("for humans: ids of the causes, separated by commas")),
            (header::SYNC, text("for humans: the rule")),
            (header::RULES, text("for humans: the version of the rules")),
            (header::TRACEPARENT, text("W3C trace context")),
        ]
    };
    let mut asked = invocation();
    asked.push((header::REPLY, text("inbox for the output")));
    let mut dead = invocation();
    dead.extend([
        (header::REASON, text("reason why the message was dead-lettered")),
        (header::SUBJECT, text("subject of the original message")),
        (header::ACTION, uuid("the action id, if it was valid")),
        (header::ATTEMPTS, text("number of deliveries")),
    ]);
    json!({
        "Failure": {
            "type": "object",
            "properties": { ERROR: { "type": "string" }, FAULT: { "type": "string" } },
            "required": [ERROR],
            "additionalProperties": false,
        },
        "InvocationHeaders": headers(asked, &[]),
        "CompletionHeaders": headers(
            vec![
                (header::WORK, work()),
                (header::SYNC, text("only if the router itself responds to a request")),
            ],
            &[],
        ),
        "DeadLetterHeaders": headers(dead, &[header::REASON, header::SUBJECT]),
        "RequestHeaders": headers(
            vec![(header::FLOW, uuid("the flow of encrypted secrets in the query"))],
            &[],
        ),
        "AnswerHeaders": headers(
            vec![
                (header::FLOW, uuid("the flow of encrypted secrets in the reply")),
                (header::WORK, work()),
                (header::SERVICE_ERROR, text("reason why there is no reply")),
                (header::SERVICE_ERROR_CODE, text("error kind, as an HTTP status")),
            ],
            &[],
        ),
    })
}
