//! OpenAPI: every path that the rules answer, what it takes, and every status with its body.

use std::collections::BTreeMap;

use concert_wire::envelope::{ERROR, Fault};
use serde_json::{Map, Value, json};

use super::schema::{self, Typing, any_of};
use crate::explore::{Rules, Schedule, Site, explain, explore, is_answer};
use concert_lang::expr::Expr;
use concert_lang::program::{Arg, Call, Program, Sync};

/// The text of the status of an answer that a rule computes.
const COMPUTED: &str = "default";

/// What the edge, or the router, may answer at any path: name in the document, status, what it
/// says, whether `Retry-After` says when to come back.
const OF_THE_EDGE: &[(&str, u16, &str, bool)] = &[
    (
        "BadRequest",
        400,
        "the body is no JSON object, a key is missing, or a value is of another type",
        false,
    ),
    (
        "CrossSite",
        403,
        "only where sessions are kept in cookies: the request comes from another site's page, or relies on the cookie without saying so",
        false,
    ),
    ("SlowBody", 408, "the body did not arrive in time", false),
    ("TooLarge", 413, "the body is larger than the edge takes", false),
    ("ContentType", 415, "the content type is not application/json", false),
    (
        "Throttled",
        429,
        "too many attempts like this one have failed lately; it was not tried",
        true,
    ),
    ("Failed", 500, "the request could not be carried out; the action may have happened", false),
    (
        "Unavailable",
        503,
        "too many requests are under way, or a part is not there; or the action has happened, and its answer cannot be read yet",
        true,
    ),
    ("Deadline", 504, "no answer in time; the action may still happen", false),
    ("Stopped", 508, "the flow reached a limit", false),
];

/// The document; `base` stands before every path.
///
/// A status that a rule computes stands under `default`.
pub fn openapi(program: &Program, base: &str) -> Value {
    let rules = Rules::new(program);
    let mut paths = Map::new();
    for (path, route) in &program.routes.routes {
        let operation = json!({
            "operationId": operation_id(path),
            "tags": [tag(path)],
            "summary": summary(program, path),
            "description": explain(program, path, base).unwrap_or_default(),
            "parameters": [
                { "$ref": "#/components/parameters/IdempotencyKey" },
                { "$ref": "#/components/parameters/traceparent" },
            ],
            "requestBody": {
                "required": true,
                "content": { "application/json": { "schema": schema::of_route(route) } },
            },
            "responses": responses(program, &rules, path),
        });
        paths.insert(path.clone(), json!({ "post": operation }));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Concert",
            "version": program.version,
            "description": "What the rules in force answer. Derived from rules and specs; the version is theirs. `Concert-Answered-By` tells an answer of the rules from one of the edge, which never says that an action did not happen when it may have.",
        },
        "servers": [{ "url": if base.is_empty() { "/" } else { base } }],
        "paths": paths,
        "components": components(),
    })
}

/// `/auth/login` becomes `auth_login`.
fn operation_id(path: &str) -> String {
    let parts = path.split(|c: char| !c.is_ascii_alphanumeric());
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { "root".to_owned() } else { parts.join("_") }
}

fn tag(path: &str) -> &str {
    let first = path.split('/').find(|part| !part.is_empty());
    first.unwrap_or("/")
}

fn summary(program: &Program, path: &str) -> String {
    let mut begins = program.syncs.iter().filter(|sync| {
        let alone = sync.when.len() == 1;
        alone && sync.path() == Some(path)
    });
    match (begins.next(), begins.next()) {
        (Some(only), None) => format!("Begins with {}", only.name),
        (Some(first), Some(second)) => format!("Begins with {}, {} …", first.name, second.name),
        (None, _) => format!("A request of {path}"),
    }
}

/// The calls that answer a request of the path: those of all of its runs, or where there are too
/// many, those of all of its rules.
fn answers<'a>(program: &'a Program, rules: &Rules<'_>, path: &str) -> Vec<(&'a Sync, &'a Call)> {
    let scope = rules.scope(path, &program.routes);
    let mut sites: Vec<(usize, Site)> = Vec::new();
    let is_complete = explore(&scope, Schedule::AmongOthers, |run| {
        for answer in run.answers {
            if !sites.contains(&answer) {
                sites.push(answer);
            }
        }
    });
    if is_complete {
        let calls = sites.into_iter().filter_map(|(rule, site)| {
            let sync: &Sync = program.syncs.get(rule)?;
            Some((sync, site.call(sync)?))
        });
        return calls.collect();
    }
    let syncs = scope.rules.iter().filter_map(|rule| program.syncs.get(*rule));
    syncs
        .flat_map(|sync| {
            sync.calls().filter(|call| is_answer(call)).map(move |call| (&**sync, call))
        })
        .collect()
}

fn responses(program: &Program, rules: &Rules<'_>, path: &str) -> Value {
    let mut by_status: BTreeMap<String, (Vec<String>, Vec<Value>)> = BTreeMap::new();
    for (sync, call) in answers(program, rules, path) {
        let body = Typing::new(program, sync).body(&call.args);
        for status in statuses(&call.args) {
            let (names, bodies) = by_status.entry(status).or_default();
            if !names.contains(&sync.name.to_string()) {
                names.push(sync.name.to_string());
            }
            bodies.push(body.clone());
        }
    }
    let mut responses = Map::new();
    for (status, (names, mut bodies)) in by_status {
        let mut told = format!("answered by {}", names.join(", "));
        let of_edge = OF_THE_EDGE.iter().find(|(_, code, ..)| code.to_string() == status);
        if let Some((_, _, says, _)) = of_edge {
            told = format!("{told}; or {says}");
            bodies.push(json!({ "$ref": "#/components/schemas/Error" }));
        }
        responses.insert(status, response(&told, &any_of(bodies), of_edge.is_some_and(|it| it.3)));
    }
    for (name, status, ..) in OF_THE_EDGE {
        let reference = json!({ "$ref": format!("#/components/responses/{name}") });
        responses.entry(status.to_string()).or_insert(reference);
    }
    // Numbers first, as a person would look for them.
    let computed = responses.shift_remove(COMPUTED);
    responses.sort_keys();
    responses.extend(computed.map(|response| (COMPUTED.to_owned(), response)));
    Value::Object(responses)
}

/// The statuses that an answer may have, as the edge makes them.
fn statuses(args: &[Arg]) -> Vec<String> {
    let arg = |key: &str| args.iter().find(|arg| &*arg.key == key);
    if let Some(status) = arg("status") {
        return vec![match &status.value {
            Expr::Literal(Value::Number(number)) => number.to_string(),
            _ => COMPUTED.to_owned(),
        }];
    }
    match arg(ERROR) {
        None => vec!["200".to_owned()],
        Some(error) if error.omit_null => vec!["200".to_owned(), "400".to_owned()],
        Some(_) => vec!["400".to_owned()],
    }
}

fn response(told: &str, schema: &Value, retries: bool) -> Value {
    let mut headers = json!({
        "Concert-Flow": { "$ref": "#/components/headers/Concert-Flow" },
        "Concert-Answered-By": { "$ref": "#/components/headers/Concert-Answered-By" },
    });
    if let (true, Some(headers)) = (retries, headers.as_object_mut()) {
        headers.insert(
            "Retry-After".to_owned(),
            json!({ "$ref": "#/components/headers/Retry-After" }),
        );
    }
    json!({
        "description": told,
        "headers": headers,
        "content": { "application/json": { "schema": schema } },
    })
}

fn components() -> Value {
    let error = json!({ "$ref": "#/components/schemas/Error" });
    let responses: Map<String, Value> = OF_THE_EDGE
        .iter()
        .map(|(name, status, says, retries)| {
            let of_router = [Fault::Throttled, Fault::Unavailable, Fault::Deadline, Fault::Invalid];
            let fault = of_router.into_iter().find(|fault| fault.status() == *status);
            let told = match fault {
                Some(fault) => {
                    format!("{says} (a fault `{}` that no rule answers ends so, too)", fault.word())
                }
                None => (*says).to_owned(),
            };
            ((*name).to_owned(), response(&told, &error, *retries))
        })
        .collect();
    json!({
        "schemas": {
            "Error": {
                "type": "object",
                "properties": { "error": { "type": "string" } },
                "required": ["error"],
                "additionalProperties": false,
            },
        },
        "responses": responses,
        "parameters": {
            "IdempotencyKey": {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "a second request with the same key, path and body is the first one: it gets the first one's answer, for a UTC day and while the log has it",
                "schema": { "type": "string" },
            },
            "traceparent": {
                "name": "traceparent",
                "in": "header",
                "description": "W3C trace context",
                "schema": { "type": "string" },
            },
        },
        "headers": {
            "Concert-Flow": {
                "description": "the flow of the request, where it got one",
                "schema": { "type": "string", "format": "uuid" },
            },
            "Concert-Answered-By": {
                "description": "whether rules answered, or the edge by itself",
                "schema": { "type": "string", "enum": ["rules", "edge"] },
            },
            "Retry-After": {
                "description": "when to try again, in seconds",
                "schema": { "type": "integer", "minimum": 1 },
            },
        },
    })
}
