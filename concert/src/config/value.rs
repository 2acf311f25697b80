//! Kinds of values, and how they are read from text and TOML.

use std::fmt;

use serde_json::{Map, Number, Value};
use toml::de::{DeInteger, DeTable, DeValue};

/// Allowed values of a key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer {
        /// Minimum.
        min: i128,
        /// Maximum.
        max: i128,
    },
    /// A number.
    Float {
        /// Minimum.
        min: f64,
        /// Maximum.
        max: f64,
    },
    /// Any string.
    Text,
    /// An address to listen on, or a port.
    Address,
    /// One of several strings or numbers.
    Choice(Vec<Value>),
    /// A list of strings.
    List,
    /// A table with free keys.
    Table,
}

impl Kind {
    /// Derives the kind from a schema.
    pub(super) fn of(schema: &Value) -> Self {
        if let Some(choices) = choices(schema) {
            return Self::Choice(choices);
        }
        let kinds: Vec<&str> = match schema.get("type") {
            Some(Value::String(kind)) => vec![kind],
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let float = |name, or| schema.get(name).and_then(Value::as_f64).unwrap_or(or);
        match kinds.first().copied() {
            Some("boolean") => Self::Bool,
            Some("integer") => Self::Integer {
                min: integer(schema.get("minimum")).unwrap_or(i128::from(i64::MIN)),
                max: integer(schema.get("maximum")).unwrap_or(i128::from(i64::MAX)),
            },
            Some("number") => {
                Self::Float { min: float("minimum", f64::MIN), max: float("maximum", f64::MAX) }
            }
            Some("array") => Self::List,
            Some("object") => Self::Table,
            _ if schema.get("format").is_some_and(|format| format == "address") => Self::Address,
            _ => Self::Text,
        }
    }

    /// Reads the text of a variable or a flag. The text of a table is TOML.
    pub(super) fn read(&self, text: &str, separator: char) -> Result<Value, String> {
        let wrong = || format!("{self} is expected, not `{text}`");
        let value = match self {
            Self::Bool => Value::Bool(boolean(text).ok_or_else(wrong)?),
            Self::Integer { .. } => {
                text.trim().parse().ok().and_then(of_integer).ok_or_else(wrong)?
            }
            Self::Float { .. } => {
                text.trim().parse().ok().and_then(Number::from_f64).ok_or_else(wrong)?.into()
            }
            Self::Text | Self::Address => Value::String(text.to_owned()),
            Self::Choice(choices) => {
                let found = choices.iter().find(|choice| plain(choice) == text);
                found.cloned().unwrap_or_else(|| Value::String(text.to_owned()))
            }
            Self::List if text.trim_start().starts_with('[') => literal(text).ok_or_else(wrong)?,
            Self::List => {
                let items = text.split(separator).map(str::trim);
                Value::Array(items.filter(|item| !item.is_empty()).map(Value::from).collect())
            }
            Self::Table => literal(text).ok_or_else(wrong)?,
        };
        self.check(&value)?;
        Ok(value)
    }

    /// Checks the kind and range of a value.
    pub(super) fn check(&self, value: &Value) -> Result<(), String> {
        let is_right = match (self, value) {
            (Self::Bool, Value::Bool(_))
            | (Self::Text, Value::String(_))
            | (Self::Table, Value::Object(_)) => true,
            // The syntax of an address is checked when it is parsed.
            (Self::Address, value) => {
                value.is_string() || value.as_u64().is_some_and(|port| port <= 65_535)
            }
            (Self::Integer { min, max }, value) => {
                integer(Some(value)).is_some_and(|n| (min..=max).contains(&&n))
            }
            (Self::Float { min, max }, Value::Number(n)) => {
                n.as_f64().is_some_and(|n| (*min..=*max).contains(&n))
            }
            (Self::Choice(choices), value) => choices.contains(value),
            (Self::List, Value::Array(items)) => items.iter().all(Value::is_string),
            _ => false,
        };
        if is_right { Ok(()) } else { Err(format!("{self} is expected, not {value}")) }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("true or false"),
            Self::Integer { min, max } => write!(f, "a number from {min} to {max}"),
            Self::Float { min, max } => write!(f, "a number from {min} to {max}"),
            Self::Text => f.write_str("a string"),
            Self::Address => f.write_str("an address or a port"),
            Self::Choice(choices) => {
                let choices: Vec<String> = choices.iter().map(plain).collect();
                write!(f, "one of {}", choices.join(", "))
            }
            Self::List => f.write_str("a list of strings"),
            Self::Table => f.write_str("a table"),
        }
    }
}

/// The constants of an enumeration. With descriptions, the schema has one variant per constant.
fn choices(schema: &Value) -> Option<Vec<Value>> {
    let of = |variant: &Value| -> Option<Vec<Value>> {
        variant.get("const").map(|constant| vec![constant.clone()]).or_else(|| choices(variant))
    };
    if let Some(variants) = schema.get("oneOf").and_then(Value::as_array) {
        let values: Option<Vec<Vec<Value>>> = variants.iter().map(of).collect();
        return values.map(|values| values.concat());
    }
    let values = schema.get("enum")?.as_array()?.iter();
    Some(values.filter(|value| !value.is_null()).cloned().collect())
}

/// A choice as users write it.
pub(super) fn plain(choice: &Value) -> String {
    choice.as_str().map_or_else(|| choice.to_string(), str::to_owned)
}

fn integer(value: Option<&Value>) -> Option<i128> {
    let number = value?;
    let signed = number.as_i64().map(i128::from);
    signed.or_else(|| number.as_u64().map(i128::from))
}

fn of_integer(number: i128) -> Option<Value> {
    let signed = i64::try_from(number).ok().map(Value::from);
    signed.or_else(|| u64::try_from(number).ok().map(Value::from))
}

/// Reads a boolean in any of the usual forms.
fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Reads the text of a key whose type is unknown: as TOML, or else as a string.
pub(super) fn guess(text: &str) -> Value {
    literal(text).unwrap_or_else(|| Value::String(text.to_owned()))
}

fn literal(text: &str) -> Option<Value> {
    of_toml(DeValue::parse(text).ok()?.get_ref())
}

/// Converts a TOML value; `None` for dates and numbers that JSON cannot represent.
pub(super) fn of_toml(value: &DeValue<'_>) -> Option<Value> {
    Some(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => whole(number)?,
        DeValue::Float(number) => Number::from_f64(number.as_str().parse().ok()?)?.into(),
        DeValue::Boolean(truth) => Value::Bool(*truth),
        DeValue::Datetime(_) => return None,
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| of_toml(item.get_ref())).collect::<Option<_>>()?)
        }
        DeValue::Table(table) => Value::Object(of_table(table)?),
    })
}

fn of_table(table: &DeTable<'_>) -> Option<Map<String, Value>> {
    let entries = table.iter();
    entries
        .map(|(name, value)| Some((name.get_ref().to_string(), of_toml(value.get_ref())?)))
        .collect()
}

fn whole(number: &DeInteger<'_>) -> Option<Value> {
    let parsed = i128::from_str_radix(number.as_str(), number.radix()).ok();
    parsed.and_then(of_integer)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_is_read_as_the_kind_of_its_key() {
        let port = Kind::Integer { min: 0, max: 65_535 };
        let choice = Kind::Choice(vec![json!("json"), json!(422)]);
        for (kind, text, expected) in [
            (Kind::Bool, "YES", Some(json!(true))),
            (Kind::Bool, "On", Some(json!(true))),
            (Kind::Bool, "1", Some(json!(true))),
            (Kind::Bool, "off", Some(json!(false))),
            (Kind::Bool, "No", Some(json!(false))),
            (Kind::Bool, "0", Some(json!(false))),
            (Kind::Bool, "maybe", None),
            (port.clone(), "4222", Some(json!(4222))),
            (port.clone(), "65536", None),
            (port.clone(), "-1", None),
            (port, "tcp://10.0.0.1:4222", None),
            (Kind::Float { min: 0.0, max: 1.0 }, "0.25", Some(json!(0.25))),
            (Kind::Float { min: 0.0, max: 1.0 }, "NaN", None),
            (choice.clone(), "json", Some(json!("json"))),
            (choice.clone(), "422", Some(json!(422))),
            (choice.clone(), "421", None),
            (choice, "yaml", None),
            (Kind::Text, "true", Some(json!("true"))),
            (Kind::List, "a, b,", Some(json!(["a", "b"]))),
            (Kind::List, "[\"a,b\"]", Some(json!(["a,b"]))),
            (Kind::Table, "{ \"A.b\" = \"why\" }", Some(json!({ "A.b": "why" }))),
            (Kind::Table, "A.b", None),
        ] {
            assert_eq!(kind.read(text, ',').ok(), expected, "{kind}: {text}");
        }
    }

    #[test]
    fn an_error_names_the_range() {
        let few = Kind::Integer { min: 1, max: 9 };
        assert_eq!(few.read("10", ','), Err("a number from 1 to 9 is expected, not 10".to_owned()));
        assert_eq!(few.read("x", ','), Err("a number from 1 to 9 is expected, not `x`".to_owned()));
    }

    #[test]
    fn text_without_a_known_type_is_toml_or_itself() {
        assert_eq!(guess("64"), json!(64));
        assert_eq!(guess("[\"a\"]"), json!(["a"]));
        assert_eq!(guess("true"), json!(true));
        assert_eq!(guess("reader"), json!("reader"));
        assert_eq!(guess("\"64\""), json!("64"));
    }
}
