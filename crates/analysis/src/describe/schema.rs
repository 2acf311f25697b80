//! JSON Schemas of declared types and of the values that rules compute.

use std::collections::BTreeMap;

use concert_wire::envelope::{BODY, ERROR};
use concert_wire::nested;
use concert_wire::routes::{Route, RouteKey, ValueType};
use concert_wire::{REQUESTING, RESPOND_WITH};
use serde_json::{Map, Value, json};

use concert_lang::expr::{Expr, Operator};
use concert_lang::program::{Call, Gathered, Join, Match, Out, Program, Slot, Step, Sync, walk};
use concert_lang::spec::{ActionSpec, Params};

/// Form of secret values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Secrets {
    /// In clear text, for callers over HTTP.
    Open,
    /// In clear text or encrypted, on the bus: the length of the secret is not that of the value.
    Either,
    /// Encrypted, in the log.
    Sealed,
}

/// The schema of a declared type.
pub(super) fn of_type(kind: &ValueType, secrets: Secrets) -> Value {
    match kind {
        ValueType::Any => json!({}),
        ValueType::String => json!({ "type": "string" }),
        ValueType::Number => json!({ "type": "number" }),
        ValueType::Boolean => json!({ "type": "boolean" }),
        ValueType::Date => json!({
            "type": "string",
            "description": "an RFC 3339 date, or date and time",
            "examples": ["2026-01-31", "2026-01-31T12:00:00Z"],
        }),
        ValueType::Secret | ValueType::BoundedSecret(_) if secrets == Secrets::Sealed => {
            json!({ "type": "string", "pattern": "^sealed:" })
        }
        ValueType::BoundedSecret(max) if secrets == Secrets::Open => {
            json!({ "type": "string", "format": "password", "maxLength": max })
        }
        ValueType::Secret | ValueType::BoundedSecret(_) => {
            json!({ "type": "string", "format": "password" })
        }
        ValueType::BoundedString(max) => json!({ "type": "string", "maxLength": max }),
        ValueType::Enum(values) => json!({ "type": "string", "enum": values }),
        ValueType::Nullable(of) => or_null(of_type(of, secrets)),
        ValueType::Record(fields) => object(
            fields
                .iter()
                .map(|field| (field.name.clone(), of_type(&field.kind, secrets)))
                .collect(),
            fields.iter().filter(|field| !field.optional).map(|field| field.name.clone()).collect(),
            false,
        ),
        ValueType::Id(name) => json!({ "type": "string", "minLength": 1, "title": name }),
        ValueType::Seq(of) => json!({ "type": "array", "items": of_type(of, secrets) }),
        ValueType::Set(of) => {
            json!({ "type": "array", "items": of_type(of, secrets), "uniqueItems": true })
        }
    }
}

/// The schema of an object with declared parameters.
pub(super) fn of_params(params: &Params, secrets: Secrets) -> Value {
    let properties = params.params.iter();
    let properties =
        properties.map(|param| (param.name.to_string(), of_type(&param.kind, secrets)));
    let required = params.params.iter().filter(|param| !param.optional);
    object(
        properties.collect(),
        required.map(|param| param.name.to_string()).collect(),
        params.open,
    )
}

/// The schema of a request body.
pub(super) fn of_route(route: &Route) -> Value {
    of_keys(route.keys.iter().map(|(name, key)| (name.as_str(), key)))
}

/// The schema of an object with keys of a route. An object in it is required if one of its keys is.
fn of_keys<'a>(keys: impl Iterator<Item = (&'a str, &'a RouteKey)>) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    let mut objects: BTreeMap<&str, Vec<(&str, &RouteKey)>> = BTreeMap::new();
    for (name, key) in keys {
        if let Some((object, rest)) = name.split_once(nested::SEPARATOR) {
            objects.entry(object).or_default().push((rest, key));
            continue;
        }
        properties.insert(name.to_owned(), of_type(&key.kind, Secrets::Open));
        if key.required {
            required.push(name.to_owned());
        }
    }
    for (name, keys) in objects {
        if keys.iter().any(|(_, key)| key.required) {
            required.push(name.to_owned());
        }
        properties.insert(name.to_owned(), of_keys(keys.into_iter()));
    }
    // The edge drops further keys; it does not reject them.
    object(properties, required, true)
}

pub(super) fn object(properties: Map<String, Value>, required: Vec<String>, open: bool) -> Value {
    let mut schema = json!({ "type": "object", "properties": properties });
    if let Some(schema) = schema.as_object_mut() {
        if !required.is_empty() {
            schema.insert("required".to_owned(), required.into());
        }
        if !open {
            schema.insert("additionalProperties".to_owned(), false.into());
        }
    }
    schema
}

/// A schema that accepts values of any of these.
pub(super) fn any_of(mut schemas: Vec<Value>) -> Value {
    if schemas.is_empty() {
        // An empty list has no items.
        return json!(false);
    }
    let mut different: Vec<Value> = Vec::new();
    for schema in schemas.drain(..) {
        if !different.contains(&schema) {
            different.push(schema);
        }
    }
    match different.as_slice() {
        [only] => only.clone(),
        _ => json!({ "anyOf": different }),
    }
}

fn or_null(schema: Value) -> Value {
    any_of(vec![schema, json!({ "type": "null" })])
}

/// Schemas of the variables and expressions of a rule.
pub(super) struct Typing<'a> {
    program: &'a Program,
    sync: &'a Sync,
}

impl<'a> Typing<'a> {
    pub(super) const fn new(program: &'a Program, sync: &'a Sync) -> Self {
        Self { program, sync }
    }

    /// The schema of the body of a response.
    pub(super) fn body(&self, call: &Call) -> Value {
        if &*call.action == RESPOND_WITH {
            let body = call.args.iter().find(|arg| &*arg.key == BODY);
            return body.map_or_else(|| json!({}), |body| self.expr(&body.value));
        }
        let keys = call.args.iter().filter(|arg| !matches!(&*arg.key, "request" | "status"));
        let required = keys.clone().filter(|arg| !arg.omit_null);
        object(
            keys.map(|arg| (arg.key.to_string(), self.expr(&arg.value))).collect(),
            required.map(|arg| arg.key.to_string()).collect(),
            false,
        )
    }

    fn expr(&self, expr: &Expr) -> Value {
        match expr {
            Expr::Variable(slot) => self.variable(*slot),
            Expr::Literal(value) => json!({ "const": value }),
            Expr::List(items) => {
                let items = items.iter().map(|item| self.expr(item)).collect();
                json!({ "type": "array", "items": any_of(items) })
            }
            Expr::Object(members) => object(
                members.iter().map(|(key, value)| (key.clone(), self.expr(value))).collect(),
                members.iter().map(|(key, _)| key.clone()).collect(),
                false,
            ),
            Expr::Field(value, field) => field_of(&self.expr(value), field),
            Expr::Not(_) => json!({ "type": "boolean" }),
            Expr::Binary(left, Operator::Default, right) => {
                any_of(vec![self.expr(left), self.expr(right)])
            }
            // The result is null for other operands.
            Expr::Binary(left, Operator::Add, right) => {
                let is_text = |side: &Expr| match self.expr(side) {
                    Value::Object(schema) => {
                        schema.get("type") == Some(&"string".into())
                            || schema.get("const").is_some_and(Value::is_string)
                    }
                    _ => false,
                };
                match (is_text(left), is_text(right)) {
                    (true, true) => json!({ "type": "string" }),
                    (false, false) => json!({ "type": ["number", "string", "array", "null"] }),
                    _ => json!({ "type": ["string", "null"] }),
                }
            }
            Expr::Binary(_, Operator::Subtract | Operator::Multiply | Operator::Divide, _) => {
                json!({ "type": ["number", "null"] })
            }
            Expr::Binary(..) => json!({ "type": "boolean" }),
        }
    }

    fn variable(&self, slot: Slot) -> Value {
        self.in_when(slot)
            .or_else(|| self.in_steps(slot))
            .or_else(|| self.in_calls(slot))
            .unwrap_or_else(|| json!({}))
    }

    fn in_when(&self, slot: Slot) -> Option<Value> {
        self.sync.when.iter().find_map(|pattern| {
            let spec = self.action(&pattern.concept, &pattern.action)?;
            let route = pattern.path().and_then(|path| self.program.routes.routes.get(path));
            let input = |key: &str| match (spec.input.get(key), route) {
                (Some(param), _) => of_type(&param.kind, Secrets::Open),
                (None, Some(route)) => {
                    let key = route.keys.get(key);
                    key.map_or_else(|| json!({}), |key| of_type(&key.kind, Secrets::Open))
                }
                (None, None) => json!({}),
            };
            let output = |key: &str| output(spec, key);
            matched(&pattern.input, slot, input).or_else(|| matched(&pattern.output, slot, output))
        })
    }

    fn in_steps(&self, slot: Slot) -> Option<Value> {
        let mut found = None;
        walk(&self.sync.steps, &mut |step| {
            if found.is_none() {
                found = self.in_step(step, slot);
            }
        });
        found
    }

    fn in_step(&self, step: &Step, slot: Slot) -> Option<Value> {
        match step {
            Step::Query { join, query, .. } => {
                let concept =
                    self.program.concepts.iter().find(|concept| concept.name == query.concept)?;
                let spec = concept.queries.iter().find(|spec| spec.name == query.name)?;
                let of = |key: &str| {
                    spec.output
                        .get(key)
                        .map_or_else(|| json!({}), |param| of_type(&param.kind, Secrets::Open))
                };
                let bound = matched(&query.output, slot, of)?;
                Some(if *join == Join::Optional { or_null(bound) } else { bound })
            }
            Step::Let(bound, value) if *bound == slot => Some(self.expr(value)),
            Step::Each(bound, list) if *bound == slot => Some(match self.expr(list) {
                Value::Object(mut schema) => schema.remove("items").unwrap_or_else(|| json!({})),
                _ => json!({}),
            }),
            Step::Collect { gathered, into, .. } if *into == slot => {
                let items = match gathered {
                    Gathered::Values(slot) => self.variable(*slot),
                    Gathered::Records(fields) => object(
                        fields
                            .iter()
                            .map(|(key, slot)| (key.to_string(), self.variable(*slot)))
                            .collect(),
                        fields.iter().map(|(key, _)| key.to_string()).collect(),
                        false,
                    ),
                };
                Some(json!({ "type": "array", "items": items }))
            }
            _ => None,
        }
    }

    fn in_calls(&self, slot: Slot) -> Option<Value> {
        let taken =
            |outs: &[Out]| outs.iter().find(|out| out.slot == slot).map(|out| out.key.clone());
        let of_calls = self.sync.calls().find_map(|call| {
            let key = taken(&call.outs)?;
            let spec = self.action(&call.concept, &call.action)?;
            Some(output(spec, &key))
        });
        of_calls.or_else(|| {
            let key = taken(&self.sync.otherwise.as_ref()?.outs)?;
            Some(if &*key == ERROR { json!({ "type": "string" }) } else { json!({}) })
        })
    }

    fn action(&self, concept: &str, action: &str) -> Option<&'a ActionSpec> {
        let concept = self.program.concepts.iter().find(|spec| &*spec.name == concept)?;
        concept.actions.iter().find(|spec| &*spec.name == action)
    }
}

/// The schema of a field, if the schema of the object declares it. It is null if the object is, or
/// if the field is absent.
fn field_of(object: &Value, field: &str) -> Value {
    let members = object.get("anyOf").and_then(Value::as_array);
    let record = match members.map(Vec::as_slice) {
        Some([record, null]) if null["type"] == "null" => record,
        _ => object,
    };
    let Some(kind) = record.pointer("/properties").and_then(|known| known.get(field)) else {
        return json!({});
    };
    let required = record.get("required").and_then(Value::as_array);
    let is_required = required.is_some_and(|names| names.iter().any(|name| name == field));
    if is_required && members.is_none() { kind.clone() } else { or_null(kind.clone()) }
}

/// The schema of an output key.
fn output(spec: &ActionSpec, key: &str) -> Value {
    let declared = spec.success.as_ref().and_then(|params| params.get(key));
    match declared {
        Some(param) => of_type(&param.kind, Secrets::Open),
        None if key == ERROR => json!({ "type": "string" }),
        None => json!({}),
    }
}

fn matched(demands: &[Match], slot: Slot, of: impl Fn(&str) -> Value) -> Option<Value> {
    let demand = demands.iter().find(|demand| demand.slot() == Some(slot))?;
    let schema = of(&demand.key);
    Some(if demand.optional { or_null(schema) } else { schema })
}

/// Returns whether the concept is Requesting, which has no worker: its actions cannot be injected.
pub(super) fn is_requesting(concept: &str) -> bool {
    concept == REQUESTING
}
