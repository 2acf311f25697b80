//! Translates paths below `/_concert/api/` into queries to the archive.

use std::time::Duration;

use concert_runtime::bus::Bus;
use concert_runtime::service;
use concert_wire::RESERVED_CONCEPT;
use concert_wire::envelope::{Object, encode};
use concert_wire::id::FlowId;
use serde_json::{Value, json};

use super::Refusal;

/// Parameters of `/_concert/api/flows`; true: the value is a number.
const FLOWS_PARAMETERS: [(&str, bool); 9] = [
    ("path", false),
    ("concept", false),
    ("action", false),
    ("outcome", false),
    ("text", false),
    ("before", false),
    ("since_us", true),
    ("until_us", true),
    ("limit", true),
];

/// Name and input of the query for a path and its parameters.
pub(super) fn parse(path: &str, query: &str) -> Result<(&'static str, Object), Refusal> {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["flows"] => Ok(("_flows", input(query, &FLOWS_PARAMETERS)?)),
        ["flow", flow] => Ok(("_flow", Object::from_iter([flow_id(flow)?]))),
        ["flow", flow, "why-not", sync] => {
            let sync = ("sync".to_owned(), Value::String((*sync).to_owned()));
            Ok(("_whyNot", Object::from_iter([flow_id(flow)?, sync])))
        }
        ["rules"] => Ok(("_rules", input(query, &[("version", false)])?)),
        // `wrong` is the former name of `problems`.
        ["problems" | "wrong"] => Ok(("_wrong", Object::new())),
        _ => Err(Refusal::NotFound),
    }
}

fn flow_id(text: &str) -> Result<(String, Value), Refusal> {
    let flow: FlowId = text
        .parse()
        .map_err(|_| Refusal::Query(format!("`{text}` is not a flow ID; flow IDs are UUIDs")))?;
    Ok(("flow".to_owned(), Value::String(flow.to_string())))
}

fn input(query: &str, known: &[(&str, bool)]) -> Result<Object, Refusal> {
    let mut input = Object::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let is_number =
            known.iter().find(|(known, _)| *known == name).map(|(_, is_number)| *is_number);
        let value = match is_number {
            Some(false) => Value::String(value.into_owned()),
            Some(true) => match value.parse::<u64>() {
                Ok(number) => json!(number),
                Err(_) => {
                    return Err(Refusal::Query(format!("`{name}` must be a non-negative integer")));
                }
            },
            None => {
                let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
                return Err(Refusal::Query(format!(
                    "unknown parameter `{name}`; known parameters: {}",
                    names.join(", ")
                )));
            }
        };
        input.insert(name.into_owned(), value);
    }
    Ok(input)
}

/// Runs a query of the archive, and returns its rows as JSON.
pub(super) async fn run(
    bus: &Bus,
    name: &str,
    input: &Object,
    within: Duration,
) -> Result<Vec<u8>, Refusal> {
    let result = service::ask(bus, (RESERVED_CONCEPT, name), None, input, within).await?;
    Ok(encode(&result.body))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOW: &str = "0198c5d2-7d11-7c3a-9d38-9b1f0a6d1c11";

    #[test]
    fn known_paths_map_to_queries_and_others_are_refused() {
        let flow = format!("flow/{FLOW}");
        let why_not = format!("flow/{FLOW}/why-not/WhoAmI");
        for (path, query, expected) in [
            ("flows", "", Some(("_flows", json!({})))),
            (
                "flows",
                "path=%2Fauth%2Flogin&limit=5&since_us=17&before=a%3Db",
                Some((
                    "_flows",
                    json!({"path": "/auth/login", "limit": 5, "since_us": 17, "before": "a=b"}),
                )),
            ),
            ("flows", "limit=many", None),
            ("flows", "limit=-1", None),
            ("flows", "page=2", None),
            (&flow, "", Some(("_flow", json!({"flow": FLOW})))),
            ("flow/x", "", None),
            ("flow/*", "", None),
            (&why_not, "", Some(("_whyNot", json!({"flow": FLOW, "sync": "WhoAmI"})))),
            ("rules", "version=abc", Some(("_rules", json!({"version": "abc"})))),
            ("problems", "", Some(("_wrong", json!({})))),
            ("wrong", "", Some(("_wrong", json!({})))),
            ("", "", None),
            ("dead", "", None),
            ("flow", "", None),
        ] {
            let found = parse(path, query).ok().map(|(name, input)| (name, Value::Object(input)));
            assert_eq!(found, expected, "{path}?{query}");
        }
    }
}
