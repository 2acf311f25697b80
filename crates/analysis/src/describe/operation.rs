//! The request of an OpenAPI operation: path, parameters, body and security.

use std::collections::BTreeMap;

use concert_wire::nested;
use concert_wire::routes::{Method, Pattern, Route, RouteKey, SecretHeader, Segment, ValueType};
use serde_json::{Map, Value, json};

use super::schema::{Secrets, of_route, of_type};

/// The paths of a document.
#[derive(Default)]
pub(super) struct Operations {
    /// Path items by template, such as `/articles/{slug}`.
    pub(super) paths: Map<String, Value>,
    /// Names of the parameters of each template. Paths that differ only in these names are one
    /// path in OpenAPI.
    templates: BTreeMap<Vec<String>, (String, Vec<String>)>,
}

impl Operations {
    /// Adds the request and the responses to an operation, and the operation to its path.
    pub(super) fn add(
        &mut self,
        text: &str,
        route: &Route,
        headers: &[SecretHeader],
        mut operation: Map<String, Value>,
        responses: Value,
    ) {
        let Ok(pattern) = Pattern::parse(text) else { return };
        let (template, names) = self.template(text, &pattern);
        let request = Request { pattern: &pattern, route, headers };
        let members = [
            ("security", request.security()),
            ("parameters", Some(request.parameters(&names))),
            ("requestBody", request.body()),
            ("responses", Some(responses)),
        ];
        let members = members.into_iter();
        operation.extend(members.filter_map(|(name, value)| Some((name.to_owned(), value?))));
        let item = self.paths.entry(template).or_insert_with(|| json!({}));
        if let Some(item) = item.as_object_mut() {
            item.insert(pattern.method.name().to_ascii_lowercase(), operation.into());
        }
    }

    /// The template of a pattern, and the names of its parameters there.
    fn template(&mut self, text: &str, pattern: &Pattern) -> (String, Vec<String>) {
        if text.starts_with('/') {
            return (text.to_owned(), Vec::new());
        }
        let shape = pattern.segments.iter().map(|segment| match segment {
            Segment::Literal(text) => text.clone(),
            Segment::Parameter(_) => "{}".to_owned(),
        });
        let template = pattern.segments.iter().map(|segment| match segment {
            Segment::Literal(text) => format!("/{text}"),
            Segment::Parameter(name) => format!("/{{{name}}}"),
        });
        let new = || {
            let template: String = template.collect();
            let names = pattern.parameters().map(str::to_owned).collect();
            (if template.is_empty() { "/".to_owned() } else { template }, names)
        };
        self.templates.entry(shape.collect()).or_insert_with(new).clone()
    }
}

/// The request of a route.
struct Request<'a> {
    pattern: &'a Pattern,
    route: &'a Route,
    headers: &'a [SecretHeader],
}

impl Request<'_> {
    /// Returns whether the key is in the query string. A DELETE may have it in its body instead.
    fn is_in_query(&self, key: &RouteKey) -> bool {
        let is_text = !matches!(
            key.kind.without_null(),
            ValueType::Seq(_) | ValueType::Set(_) | ValueType::Record(_)
        );
        self.pattern.method.takes_query() && !key.secret && is_text
    }

    fn is_parameter(&self, name: &str) -> bool {
        self.pattern.parameters().any(|parameter| parameter == name)
    }

    /// The headers that fill a key.
    fn filling<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a SecretHeader> {
        self.headers.iter().filter(move |header| header.key == name)
    }

    /// The parameters; `names` are those of the template.
    fn parameters(&self, names: &[String]) -> Value {
        let mut parameters = Vec::new();
        let schema = |kind: &ValueType| of_type(kind.without_null(), Secrets::Open);
        for (name, own) in names.iter().zip(self.pattern.parameters()) {
            let key = self.route.keys.get(own);
            let schema = key.map_or_else(|| json!({ "type": "string" }), |key| schema(&key.kind));
            let parameter = json!({ "name": name, "in": "path", "required": true });
            parameters.push(with(parameter, "schema", schema));
        }
        for (name, key) in &self.route.keys {
            if !self.is_in_query(key) || self.is_parameter(name) || nested::is_path(name) {
                continue;
            }
            let mut parameter = json!({ "name": name, "in": "query" });
            if key.required {
                parameter = with(parameter, "required", json!(true));
            }
            parameters.push(with(parameter, "schema", schema(&key.kind)));
        }
        parameters.push(json!({ "$ref": "#/components/parameters/IdempotencyKey" }));
        parameters.push(json!({ "$ref": "#/components/parameters/traceparent" }));
        parameters.into()
    }

    /// The body, with the keys that are not in the URL.
    fn body(&self) -> Option<Value> {
        if !self.pattern.method.takes_body() {
            return None;
        }
        let keys = self
            .route
            .keys
            .iter()
            .filter(|(name, key)| nested::is_path(name) || !self.is_in_query(key))
            .filter(|(name, _)| !self.is_parameter(name));
        let keys = keys.map(|(name, key)| {
            let required = key.required && self.filling(name).next().is_none();
            (name.clone(), RouteKey { required, ..key.clone() })
        });
        let route = Route { keys: keys.collect() };
        let is_delete = self.pattern.method == Method::Delete;
        if is_delete && route.keys.is_empty() {
            return None;
        }
        Some(json!({
            "required": !is_delete || route.keys.values().any(|key| key.required),
            "content": { "application/json": { "schema": of_route(&route) } },
        }))
    }

    /// The headers that fill secret keys. Without a header, a key may be in the body instead.
    fn security(&self) -> Option<Value> {
        let mut secrets = self.route.keys.iter().filter(|(_, key)| key.secret);
        let (name, key) = secrets.find(|(name, _)| self.filling(name).next().is_some())?;
        let mut ways: Vec<Value> =
            self.filling(name).map(|header| json!({ scheme_name(header): [] })).collect();
        if !key.required || self.pattern.method.takes_body() {
            ways.push(json!({}));
        }
        Some(ways.into())
    }
}

fn with(mut object: Value, name: &str, value: Value) -> Value {
    if let Some(members) = object.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
    object
}

fn scheme_name(header: &SecretHeader) -> String {
    match &header.scheme {
        Some(scheme) => format!("{}_{}_{scheme}", header.key, header.name),
        None => format!("{}_{}", header.key, header.name),
    }
}

/// The security schemes of headers.
pub(super) fn secret_schemes(headers: &[SecretHeader]) -> Value {
    let schemes = headers.iter().map(|header| {
        let key = &header.key;
        let scheme = match &header.scheme {
            Some(scheme)
                if header.name == "authorization" && !scheme.eq_ignore_ascii_case("token") =>
            {
                json!({
                    "type": "http",
                    "scheme": scheme.to_ascii_lowercase(),
                    "description": format!("the key `{key}`"),
                })
            }
            scheme => {
                let form = scheme.as_ref().map(|scheme| format!(", after `{scheme} `"));
                json!({
                    "type": "apiKey",
                    "in": "header",
                    "name": header.name,
                    "description": format!("the key `{key}`{}", form.unwrap_or_default()),
                })
            }
        };
        (scheme_name(header), scheme)
    });
    Value::Object(schemes.collect())
}
