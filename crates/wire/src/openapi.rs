//! The OpenAPI document of an edge. The router publishes one for all edges; each adds its base and
//! its status of refusals.

use serde_json::{Map, Value, json};

/// Adapts the document of the rules to an edge with this base. `has_refusals_as_200` is set if it
/// sends refusals of rules with status 200.
pub fn of_edge(document: &mut Value, base: &str, has_refusals_as_200: bool) {
    let base = base.trim_end_matches('/');
    let url = if base.is_empty() { "/" } else { base };
    if let Some(document) = document.as_object_mut() {
        document.insert("servers".to_owned(), json!([{ "url": url }]));
    }
    let paths = document.get_mut("paths").and_then(Value::as_object_mut);
    let items = paths.into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut);
    for operation in items.flat_map(Map::values_mut).filter(|_| has_refusals_as_200) {
        let responses = operation.get_mut("responses").and_then(Value::as_object_mut);
        responses.into_iter().for_each(move_refusals);
    }
}

/// The schema of the edge's own errors.
fn error_of_edge() -> Value {
    json!({ "$ref": "#/components/schemas/Error" })
}

const SCHEMA: &str = "/content/application~1json/schema";

/// Moves the refusals of rules to status 200. A status that the edge also sends itself keeps the
/// part of the edge.
fn move_refusals(responses: &mut Map<String, Value>) {
    let is_refusal = |status: &str| status.starts_with('4') && status != "429";
    let of_rules: Vec<String> = responses
        .iter()
        .filter(|(status, response)| is_refusal(status) && response.get("$ref").is_none())
        .map(|(status, _)| status.clone())
        .collect();
    for status in of_rules {
        let Some(mut refusal) = responses.remove(&status) else { continue };
        let text = refusal.get("description").and_then(Value::as_str).unwrap_or_default();
        let (by_rules, by_edge) = match text.split_once("; or ") {
            Some((rules, edge)) => (rules.to_owned(), Some(edge.to_owned())),
            None => (text.to_owned(), None),
        };
        let mut schemas = schemas_of(&refusal);
        if let Some(text) = by_edge {
            schemas.retain(|schema| *schema != error_of_edge());
            let mut response = refusal.clone();
            set(&mut response, &text, error_of_edge());
            responses.insert(status.clone(), response);
        }
        let by_rules = format!("{by_rules} (a refusal with status {status})");
        match responses.get_mut("200") {
            Some(success) => {
                let text = success.get("description").and_then(Value::as_str).unwrap_or_default();
                let text = format!("{text}; or {by_rules}");
                let mut all = schemas_of(success);
                schemas.retain(|schema| !all.contains(schema));
                all.extend(schemas);
                set(success, &text, any_of(all));
            }
            None => {
                set(&mut refusal, &by_rules, any_of(schemas));
                responses.insert("200".to_owned(), refusal);
            }
        }
    }
    responses.sort_keys();
}

fn schemas_of(response: &Value) -> Vec<Value> {
    let schema = response.pointer(SCHEMA).cloned().unwrap_or_else(|| json!({}));
    match schema.get("anyOf").and_then(Value::as_array) {
        Some(schemas) => schemas.clone(),
        None => vec![schema],
    }
}

fn any_of(mut schemas: Vec<Value>) -> Value {
    if schemas.len() == 1 { schemas.remove(0) } else { json!({ "anyOf": schemas }) }
}

fn set(response: &mut Value, text: &str, schema: Value) {
    if let Some(of) = response.pointer_mut(SCHEMA) {
        *of = schema;
    }
    if let Some(response) = response.as_object_mut() {
        response.insert("description".to_owned(), text.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(text: &str, schema: &Value) -> Value {
        json!({ "description": text, "content": { "application/json": { "schema": schema } } })
    }

    /// The responses of one path, for an edge.
    fn adapted(responses: &Value, has_refusals_as_200: bool) -> Value {
        let mut document = json!({ "paths": { "/a": { "post": { "responses": responses } } } });
        of_edge(&mut document, "/api/", has_refusals_as_200);
        assert_eq!(document["servers"], json!([{ "url": "/api" }]));
        document["paths"]["/a"]["post"]["responses"].clone()
    }

    #[test]
    fn refusals_of_rules_move_to_200_and_errors_of_the_edge_stay() {
        let (user, refused) = (json!({ "title": "user" }), json!({ "title": "refused" }));
        let both = json!({ "anyOf": [refused, error_of_edge()] });
        let of_edge = json!({ "$ref": "#/components/responses/TooLarge" });
        let responses = json!({
            "200": response("response of A", &user),
            "400": response("response of B; or the body is wrong", &both),
            "409": response("response of C", &refused),
            "413": of_edge,
            "429": response("response of D", &refused),
            "500": response("response of E", &refused),
        });
        assert_eq!(adapted(&responses, false), responses);
        let expected = json!({
            "200": response(
                "response of A; or response of B (a refusal with status 400); \
                 or response of C (a refusal with status 409)",
                &json!({ "anyOf": [user, refused] }),
            ),
            "400": response("the body is wrong", &error_of_edge()),
            "413": of_edge,
            "429": response("response of D", &refused),
            "500": response("response of E", &refused),
        });
        assert_eq!(adapted(&responses, true), expected);
    }

    #[test]
    fn path_that_only_refuses_has_a_200() {
        let responses = json!({ "404": response("response of A", &json!({ "title": "refused" })) });
        let expected =
            response("response of A (a refusal with status 404)", &json!({ "title": "refused" }));
        assert_eq!(adapted(&responses, true), json!({ "200": expected }));
    }
}
