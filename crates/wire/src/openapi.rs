//! The OpenAPI document of an edge. The router publishes one for all edges; each adds its base, its
//! status of refusals, and the shape of its own errors.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Shape of the errors of an edge itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorShape {
    /// `{"error": "…"}`.
    #[default]
    Plain,
    /// Problem details (RFC 9457).
    Problem,
    /// `{"errors": {"<key>": ["…"]}}`.
    Fields,
}

impl ErrorShape {
    /// The content type of the errors.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Plain | Self::Fields => "application/json",
            Self::Problem => "application/problem+json",
        }
    }

    fn schema(self) -> Value {
        let text = || json!({ "type": "string" });
        match self {
            Self::Plain => json!({
                "type": "object",
                "properties": { "error": text() },
                "required": ["error"],
                "additionalProperties": false,
            }),
            Self::Problem => json!({
                "type": "object",
                "properties": {
                    "title": text(),
                    "status": { "type": "integer" },
                    "detail": text(),
                    "errors": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": { "pointer": text(), "detail": text() },
                            "required": ["pointer", "detail"],
                            "additionalProperties": false,
                        },
                    },
                },
                "required": ["title", "status", "detail"],
                "additionalProperties": false,
            }),
            Self::Fields => json!({
                "type": "object",
                "properties": {
                    "errors": {
                        "type": "object",
                        "additionalProperties": { "type": "array", "items": text() },
                    },
                },
                "required": ["errors"],
                "additionalProperties": false,
            }),
        }
    }
}

/// Settings of an edge that its document depends on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EdgeSettings {
    /// Whether refusals of rules have status 200.
    pub has_refusals_as_200: bool,
    /// Shape of the edge's own errors.
    pub errors: ErrorShape,
    /// Status of a request with a missing or invalid key; 0 is 400.
    pub misfit_status: u16,
}

/// The operations of all paths.
fn operations(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    let paths = document.get_mut("paths").and_then(Value::as_object_mut);
    let items = paths.into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut);
    items.flat_map(Map::values_mut)
}

/// The responses of each operation, by status.
fn responses(document: &mut Value) -> impl Iterator<Item = &mut Map<String, Value>> {
    operations(document).filter_map(|operation| operation.get_mut("responses")?.as_object_mut())
}

/// Turns the parameter of each key that a readable header fills into a header parameter; before, it
/// is one of the query string. `headers`: the names of the headers, by key.
pub fn name_headers(document: &mut Value, headers: &BTreeMap<String, String>) {
    let parameters = operations(document).filter_map(|operation| operation.get_mut("parameters"));
    let parameters = parameters.filter_map(Value::as_array_mut).flatten();
    for parameter in parameters.filter_map(Value::as_object_mut) {
        let is_in_query = parameter.get("in").is_some_and(|place| place == "query");
        let header = parameter.get("name").and_then(Value::as_str).and_then(|key| headers.get(key));
        if let Some(header) = header.filter(|_| is_in_query) {
            parameter.insert("name".to_owned(), header.as_str().into());
            parameter.insert("in".to_owned(), "header".into());
        }
    }
}

/// Adapts the document of the rules to an edge with this base and these settings.
pub fn of_edge(document: &mut Value, base: &str, settings: EdgeSettings) {
    let base = base.trim_end_matches('/');
    let url = if base.is_empty() { "/" } else { base };
    if let Some(document) = document.as_object_mut() {
        document.insert("servers".to_owned(), json!([{ "url": url }]));
    }
    if settings.has_refusals_as_200 {
        responses(document).for_each(move_refusals);
    }
    if settings.errors != ErrorShape::Plain
        && let Some(schema) = document.pointer_mut("/components/schemas/Error")
    {
        *schema = settings.errors.schema();
    }
    set_errors(document, settings);
}

/// Gives the errors of the edge their content type, and misfits their status.
fn set_errors(document: &mut Value, settings: EdgeSettings) {
    let media_type = settings.errors.media_type();
    let set_media_type = |response: &mut Value| {
        if settings.errors != ErrorShape::Problem {
            return;
        }
        let mut schemas = schemas_of(response);
        if !schemas.contains(&error_of_edge()) {
            return;
        }
        schemas.retain(|schema| *schema != error_of_edge());
        let Some(content) = response.get_mut("content").and_then(Value::as_object_mut) else {
            return;
        };
        content.insert(media_type.to_owned(), json!({ "schema": error_of_edge() }));
        match schemas.is_empty() {
            true => drop(content.shift_remove("application/json")),
            false => {
                content.insert("application/json".to_owned(), json!({ "schema": any_of(schemas) }));
            }
        }
    };
    let components = document.pointer_mut("/components/responses").and_then(Value::as_object_mut);
    components.into_iter().flat_map(Map::values_mut).for_each(set_media_type);
    for responses in responses(document) {
        if settings.misfit_status == 422 {
            let misfit = json!({ "$ref": "#/components/responses/BadRequest" });
            match responses.get_mut("422") {
                Some(of_rules) => {
                    let mut schemas = schemas_of(of_rules);
                    schemas.push(error_of_edge());
                    schemas.dedup();
                    let text = of_rules.get("description").and_then(Value::as_str);
                    let text = format!("{}; or a key is missing", text.unwrap_or_default());
                    set(of_rules, &text, any_of(schemas));
                }
                None => drop(responses.insert("422".to_owned(), misfit)),
            }
            responses.sort_keys();
        }
        responses.values_mut().for_each(set_media_type);
    }
}

/// The schema of the edge's own errors.
fn error_of_edge() -> Value {
    json!({ "$ref": "#/components/schemas/Error" })
}

const SCHEMA: &str = "/content/application~1json/schema";

/// Moves the refusals of rules to status 200. If the edge sends the same status for an error of its
/// own, the status keeps the description of that error.
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
        let settings = EdgeSettings { has_refusals_as_200, ..EdgeSettings::default() };
        of_edge(&mut document, "/api/", settings);
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
    fn errors_have_the_shape_and_the_status_of_the_edge() {
        let refused = json!({ "title": "refused" });
        let both = json!({ "anyOf": [refused, error_of_edge()] });
        let mut document = json!({
            "paths": { "/a": { "get": { "responses": { "404": response("a", &both) } } } },
            "components": {
                "schemas": { "Error": ErrorShape::Plain.schema() },
                "responses": { "BadRequest": response("b", &error_of_edge()) },
            },
        });
        let settings = EdgeSettings {
            errors: ErrorShape::Problem,
            misfit_status: 422,
            ..EdgeSettings::default()
        };
        of_edge(&mut document, "", settings);
        let problem = json!({ "schema": error_of_edge() });
        let content = json!({
            "application/json": { "schema": refused },
            "application/problem+json": problem,
        });
        let responses = &document["paths"]["/a"]["get"]["responses"];
        assert_eq!(responses["404"]["content"], content);
        assert_eq!(responses["422"], json!({ "$ref": "#/components/responses/BadRequest" }));
        let bad_request = &document["components"]["responses"]["BadRequest"]["content"];
        assert_eq!(*bad_request, json!({ "application/problem+json": problem }));
        assert_eq!(document["components"]["schemas"]["Error"], ErrorShape::Problem.schema());
    }

    #[test]
    fn key_of_a_readable_header_is_a_header() {
        let parameter = |name: &str, place: &str| json!({ "name": name, "in": place });
        let parameters = [parameter("ifNoneMatch", "query"), parameter("ifNoneMatch", "path")];
        let mut document = json!({ "paths": { "/a": { "get": { "parameters": parameters } } } });
        let headers = BTreeMap::from([("ifNoneMatch".to_owned(), "if-none-match".to_owned())]);
        name_headers(&mut document, &headers);
        assert_eq!(
            document["paths"]["/a"]["get"]["parameters"],
            json!([parameter("if-none-match", "header"), parameter("ifNoneMatch", "path")])
        );
    }

    #[test]
    fn path_that_only_refuses_has_a_200() {
        let responses = json!({ "404": response("response of A", &json!({ "title": "refused" })) });
        let expected =
            response("response of A (a refusal with status 404)", &json!({ "title": "refused" }));
        assert_eq!(adapted(&responses, true), json!({ "200": expected }));
    }
}
