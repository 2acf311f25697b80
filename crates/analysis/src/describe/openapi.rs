//! OpenAPI description: every path of the rules with its request body and its responses by status.

use std::collections::BTreeMap;

use concert_wire::envelope::{ERROR, Fault};
use concert_wire::routes::{Pattern, SecretHeader, split};
use serde_json::{Map, Value, json};

use super::operation::{Operations, secret_schemes};
use super::schema::{Typing, any_of};
use crate::explore::{Rules, Schedule, Site, explain, explore, is_answer};
use concert_lang::expr::Expr;
use concert_lang::program::{Arg, Call, Program, Sync};

/// Key of responses whose status a rule computes.
const COMPUTED: &str = "default";

/// Responses of the edge and the router at any path: component name, status, description, and
/// whether there is a `Retry-After` header.
const OF_THE_EDGE: &[(&str, u16, &str, bool)] = &[
    (
        "BadRequest",
        400,
        "the body is not a JSON object, a key is missing, or a value has the wrong type",
        false,
    ),
    (
        "CrossSite",
        403,
        concat!(
            "only with session cookies: the request comes from another site, ",
            "or uses the cookie without the required header",
        ),
        false,
    ),
    ("NotFound", 404, "the path has an empty or malformed segment", false),
    ("SlowBody", 408, "timed out reading the request body", false),
    (
        "Repeated",
        409,
        concat!(
            "only with an Idempotency-Key: the request was sent before, ",
            "and its response holds a secret",
        ),
        false,
    ),
    ("Expired", 410, "a large value of the request or the response has expired", false),
    ("TooLarge", 413, "the body is too large", false),
    ("ContentType", 415, "the content type is not application/json", false),
    ("Throttled", 429, "too many failed attempts; this one was not processed", true),
    ("Failed", 500, "the request failed; an action may have completed", false),
    (
        "Unavailable",
        503,
        concat!(
            "too many concurrent requests, or a component is unavailable; ",
            "or the action completed, but its response cannot be decrypted yet",
        ),
        true,
    ),
    ("Deadline", 504, "timed out; an action may still complete", false),
    ("Stopped", 508, "the flow exceeded a limit", false),
];

/// Creates the document; `base` is the URL prefix of all paths.
///
/// Responses whose status a rule computes are under `default`.
pub fn openapi(program: &Program, base: &str) -> Value {
    let rules = Rules::new(program);
    let mut operations = Operations::default();
    for (path, route) in &program.routes.routes {
        let operation = [
            ("operationId", json!(operation_id(path))),
            ("tags", json!([tag(path)])),
            ("summary", json!(summary(program, path))),
            ("description", json!(explain(program, path, base).unwrap_or_default())),
        ];
        let operation = operation.map(|(name, value)| (name.to_owned(), value)).into_iter();
        let responses = responses(program, &rules, path);
        operations.add(path, route, &program.routes.headers, operation.collect(), responses);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Concert",
            "version": program.version,
            "description": concat!(
                "Paths and responses of the active rules, derived from rules and specs. ",
                "The version is the version of the rules. `Concert-Answered-By` shows ",
                "whether rules or the edge created a response. ",
                "The edge never reports an action as not done if it may have completed.",
            ),
        },
        "servers": [{ "url": if base.is_empty() { "/" } else { base } }],
        "paths": operations.paths,
        "components": components(&program.routes.headers),
    })
}

/// `/auth/login` becomes `auth_login`, and `GET /articles/:slug` becomes `GET_articles_slug`.
fn operation_id(path: &str) -> String {
    let parts = path.split(|c: char| !c.is_ascii_alphanumeric());
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { "root".to_owned() } else { parts.join("_") }
}

fn tag(path: &str) -> &str {
    let (_, path) = split(path);
    let first = path.split('/').find(|part| !part.is_empty());
    first.unwrap_or("/")
}

fn summary(program: &Program, path: &str) -> String {
    let mut begins =
        program.syncs.iter().filter(|sync| sync.when.len() == 1 && sync.path() == Some(path));
    match (begins.next(), begins.next()) {
        (Some(only), None) => format!("Starts with {}", only.name),
        (Some(first), Some(second)) => format!("Starts with {}, {} …", first.name, second.name),
        (None, _) => format!("Request to {path}"),
    }
}

/// The calls that respond to a request of the path: those in its runs, or if there are too many
/// runs, those of all its rules.
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
        let body = Typing::new(program, sync).body(call);
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
        let mut text = format!("response of {}", names.join(", "));
        let mut of_edge = OF_THE_EDGE.iter().filter(|(_, code, ..)| is_possible(path, *code));
        let of_edge = of_edge.find(|(_, code, ..)| code.to_string() == status);
        if let Some((_, _, says, _)) = of_edge {
            text = format!("{text}; or {says}");
            bodies.push(json!({ "$ref": "#/components/schemas/Error" }));
        }
        let mut response = response(&text, &any_of(bodies), of_edge.is_some_and(|it| it.3));
        // Responses with these statuses have no body.
        if let (Some(response), "204" | "304") = (response.as_object_mut(), &*status) {
            response.shift_remove("content");
        }
        responses.insert(status, response);
    }
    for (name, status, ..) in OF_THE_EDGE {
        if !is_possible(path, *status) {
            continue;
        }
        let reference = json!({ "$ref": format!("#/components/responses/{name}") });
        responses.entry(status.to_string()).or_insert(reference);
    }
    // Numeric statuses first.
    let computed = responses.shift_remove(COMPUTED);
    responses.sort_keys();
    responses.extend(computed.map(|response| (COMPUTED.to_owned(), response)));
    Value::Object(responses)
}

/// Returns whether the edge can send a status at a path. Only requests with a body have errors of
/// the body, and only paths with parameters have values for which there is no route.
fn is_possible(path: &str, status: u16) -> bool {
    match status {
        404 => Pattern::parse(path).is_ok_and(|pattern| pattern.parameters().next().is_some()),
        408 | 413 | 415 => split(path).0.takes_body(),
        _ => true,
    }
}

/// Statuses that a response can have.
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

fn response(about: &str, schema: &Value, retries: bool) -> Value {
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
        "description": about,
        "headers": headers,
        "content": { "application/json": { "schema": schema } },
    })
}

fn components(headers: &[SecretHeader]) -> Value {
    let error = json!({ "$ref": "#/components/schemas/Error" });
    let responses: Map<String, Value> = OF_THE_EDGE
        .iter()
        .map(|(name, status, says, retries)| {
            let of_router = [
                Fault::Throttled,
                Fault::Unavailable,
                Fault::Deadline,
                Fault::Expired,
                Fault::Invalid,
            ];
            let fault = of_router.into_iter().find(|fault| fault.status() == *status);
            let text = match fault {
                Some(fault) => {
                    format!("{says} (also for a fault `{}` without a rule)", fault.word())
                }
                None => (*says).to_owned(),
            };
            ((*name).to_owned(), response(&text, &error, *retries))
        })
        .collect();
    let mut components = json!({
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
                "description": concat!(
                    "a request with the same key, path and body as an earlier one gets the ",
                    "earlier response, during one UTC day and while the log has it",
                ),
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
                "description": "the flow of the request, if it started one",
                "schema": { "type": "string", "format": "uuid" },
            },
            "Concert-Answered-By": {
                "description": "whether rules or the edge created the response",
                "schema": { "type": "string", "enum": ["rules", "edge"] },
            },
            "Retry-After": {
                "description": "seconds until the next attempt",
                "schema": { "type": "integer", "minimum": 1 },
            },
        },
    });
    if let (false, Some(components)) = (headers.is_empty(), components.as_object_mut()) {
        components.insert("securitySchemes".to_owned(), secret_schemes(headers));
    }
    components
}
