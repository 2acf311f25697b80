//! Symbolic values, such as `⟨user of Profile.authenticate⟩`. They are JSON values that the engine
//! can carry; decisions about them are stored separately.

use std::collections::HashMap;

use concert_wire::routes::ValueType;
use concert_wire::value::canonical;
use serde_json::{Map, Value};

use super::scope::Scope;

/// Marks a symbolic string.
const MARK: char = '⟨';

/// Kind of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Null,
    Boolean,
    Number,
    String,
    List,
    Object,
    /// Unknown kind.
    Any,
}

/// Symbolic values of a run.
#[derive(Debug, Default)]
pub(super) struct Values {
    kinds: HashMap<String, ValueType>,
    names: HashMap<String, usize>,
    numbers: u32,
}

impl Values {
    /// Creates a new symbolic value; the caller chooses Booleans.
    pub(super) fn fresh(&mut self, name: &str, kind: &ValueType, scope: &Scope<'_>) -> Value {
        let count = self.names.entry(name.to_owned()).or_default();
        *count += 1;
        let name = if *count == 1 { name.to_owned() } else { format!("{name}, {count}") };
        let value = match kind {
            ValueType::Number => {
                self.numbers += 1;
                // A number that is unlikely in a rule.
                Value::from(f64::from(self.numbers) + 100_000.007_812_5)
            }
            // A comparison decides a Boolean within a list or record.
            ValueType::Any | ValueType::Nullable(_) | ValueType::Boolean => {
                return self.anything(&name, scope, scope.depth);
            }
            ValueType::Record(fields) => {
                let fields = fields.iter().map(|field| {
                    // An absent field is null.
                    let kind = match &field.kind {
                        _ if field.optional => &ValueType::Any,
                        kind => kind,
                    };
                    (
                        field.name.clone(),
                        self.fresh(&format!("{} of {name}", field.name), kind, scope),
                    )
                });
                Value::Object(fields.collect::<Map<_, _>>())
            }
            _ => Value::String(format!("⟨{name}⟩")),
        };
        self.mark_symbolic(&value, kind.clone());
        value
    }

    /// Creates a value of unknown type, with every field that the rules read.
    fn anything(&mut self, name: &str, scope: &Scope<'_>, depth: usize) -> Value {
        let value = if depth == 0 || scope.fields.is_empty() {
            Value::String(format!("⟨{name}⟩"))
        } else {
            let fields = scope.fields.iter();
            let fields = fields.map(|field| {
                (field.clone(), self.anything(&format!("{field} of {name}"), scope, depth - 1))
            });
            Value::Object(fields.collect::<Map<_, _>>())
        };
        self.mark_symbolic(&value, ValueType::Any);
        value
    }

    /// Marks a value as symbolic with this type.
    pub(super) fn mark_symbolic(&mut self, value: &Value, kind: ValueType) {
        self.kinds.insert(canonical(value), kind);
    }

    /// Returns whether a value is concrete, not symbolic.
    pub(super) fn is_known(&self, value: &Value) -> bool {
        match value {
            Value::Null | Value::Bool(_) => true,
            Value::Number(_) => !self.kinds.contains_key(&canonical(value)),
            Value::String(text) => !text.contains(MARK),
            Value::Array(items) => items.iter().all(|item| self.is_known(item)),
            Value::Object(members) => members.values().all(|member| self.is_known(member)),
        }
    }

    /// The values that a symbolic value of an enumeration can have.
    pub(super) fn domain(&self, value: &Value) -> Option<&[String]> {
        match self.kinds.get(&canonical(value))? {
            ValueType::Enum(values) => Some(values),
            _ => None,
        }
    }

    /// The type of the elements, if the value is a symbolic list.
    pub(super) fn elements(&self, list: &Value) -> Option<ValueType> {
        match self.kinds.get(&canonical(list))? {
            ValueType::Seq(of) | ValueType::Set(of) => Some((**of).clone()),
            ValueType::Any => Some(ValueType::Any),
            _ => None,
        }
    }

    pub(super) fn shape(&self, value: &Value) -> Shape {
        match self.kinds.get(&canonical(value)) {
            Some(ValueType::Any) => return Shape::Any,
            Some(ValueType::Seq(_) | ValueType::Set(_)) => return Shape::List,
            _ => {}
        }
        match value {
            Value::Null => Shape::Null,
            Value::Bool(_) => Shape::Boolean,
            Value::Number(_) => Shape::Number,
            Value::String(_) => Shape::String,
            Value::Array(_) => Shape::List,
            Value::Object(_) => Shape::Object,
        }
    }
}
