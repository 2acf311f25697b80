//! Reads JSON values so that each text has exactly one meaning.
//!
//! `serde_json` takes the last of two equal keys, and treats `1` and `1.0` as different. Here,
//! duplicate keys and integers that a double cannot represent are errors, and numbers are equal by
//! value (RFC 8785).

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::large::Reference;

/// Largest integer up to which every integer is exactly representable as a double.
pub const MAX_SAFE_INTEGER: u64 = 1 << 53;

/// Errors of reading a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadValue {
    /// Not JSON, a duplicate key, or an integer out of range; with the position.
    #[error("malformed JSON: {0}")]
    Malformed(String),
    /// JSON, but not an object.
    #[error("expected a JSON object, found {0}")]
    NotAnObject(&'static str),
}

/// Reads a JSON object.
///
/// # Errors
/// The text is not UTF-8 or not JSON, is not an object, has a duplicate key, or contains an integer
/// beyond 2^53.
pub fn object(bytes: &[u8]) -> Result<Map<String, Value>, BadValue> {
    match value(bytes)? {
        Value::Object(map) => Ok(map),
        other => Err(BadValue::NotAnObject(kind(&other))),
    }
}

/// Reads any JSON value; see [`object`] for the restrictions.
///
/// # Errors
/// As for [`object`], except that any value is accepted.
pub fn value(bytes: &[u8]) -> Result<Value, BadValue> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    Strict
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| BadValue::Malformed(error.to_string()))
}

/// Type of a value, for messages.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Returns whether two values are equal: deep, ignoring key order, with numbers by value. A
/// reference to a large value is equal to the value, and to every other reference to it.
pub fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        (Value::String(a), Value::String(b)) => a == b || is_same_large_value(a, b),
        _ => a == b,
    }
}

fn is_same_large_value(a: &str, b: &str) -> bool {
    let reference = |text: &str| text.parse::<Reference>().ok();
    match (reference(a), reference(b)) {
        (Some(a), Some(b)) => a.is_same_value(&b),
        // A rule can build a large string, and older messages contain some.
        (Some(of), None) => of.is_text(b),
        (None, Some(of)) => of.is_text(a),
        (None, None) => false,
    }
}

/// The canonical text of a value, which only equal values share: keys sorted, numbers by value, no
/// white space, and references to large values without their places and quotes.
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    text
}

/// As [`canonical`], of an object.
pub fn canonical_object(object: &Map<String, Value>) -> String {
    let mut text = String::new();
    write_object(object, &mut text);
    text
}

fn write_object(object: &Map<String, Value>, text: &mut String) {
    let mut keys: Vec<&String> = object.keys().collect();
    keys.sort_unstable();
    text.push('{');
    for (index, key) in keys.into_iter().enumerate() {
        text.push_str(if index == 0 { "" } else { "," });
        text.push_str(&Value::String(key.clone()).to_string());
        text.push(':');
        write_canonical(object.get(key).unwrap_or(&Value::Null), text);
    }
    text.push('}');
}

fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Number(number) => text.push_str(&canonical_number(number)),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                write_canonical(item, text);
            }
            text.push(']');
        }
        Value::Object(object) => write_object(object, text),
        other => match Reference::of(other) {
            Some(reference) => {
                text.push_str(&format!("large:{}:{}", reference.bytes(), reference.digest()));
            }
            None => text.push_str(&other.to_string()),
        },
    }
}

/// Whole numbers have no fraction, regardless of their original form; there is no negative zero.
fn canonical_number(number: &Number) -> String {
    match number.as_f64() {
        Some(0.0) => "0".to_owned(),
        Some(value) => value.to_string(),
        None => number.to_string(),
    }
}

struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        if value.unsigned_abs() > MAX_SAFE_INTEGER {
            return Err(E::custom("an integer beyond 2^53; write it as a string"));
        }
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        if value > MAX_SAFE_INTEGER {
            return Err(E::custom("an integer beyond 2^53; write it as a string"));
        }
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Strict)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let value = access.next_value_seed(Strict)?;
            if map.insert(key, value).is_some() {
                return Err(A::Error::custom("duplicate key in an object"));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::large::Place;

    /// Found by fuzzing: a parser that is inexact in the last bit changes a number that it wrote
    /// itself.
    #[test]
    fn number_survives_a_round_trip_exactly() {
        for text in [
            "1.177777777777778e76",
            "1.1777777777777781e+76",
            "0.1",
            "123456789012345.67",
            "5e-324",
        ] {
            let read = value(text.as_bytes()).unwrap();
            let exact: f64 = text.parse().unwrap();
            assert_eq!(read.as_f64(), Some(exact), "{text}");
            assert_eq!(value(read.to_string().as_bytes()).unwrap(), read, "{text}");
        }
    }

    #[test]
    fn ambiguous_and_invalid_json_is_rejected() {
        for wrong in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":{"b":1,"b":1}}"#,
            r#"{"a":9007199254740993}"#,
            r#"{"a":-9007199254740993}"#,
            r#"{"a":1e999}"#,
            r#"{"a":1} x"#,
            r#"{"a":"\ud800"}"#,
            "",
            "{",
            "\u{0}",
        ] {
            assert!(matches!(object(wrong.as_bytes()), Err(BadValue::Malformed(_))), "{wrong}");
        }
        assert!(matches!(object(b"{\"a\":\"\xff\"}"), Err(BadValue::Malformed(_))));
        assert_eq!(object(b"[1]"), Err(BadValue::NotAnObject("a list")));
        assert_eq!(object(b"\"x\""), Err(BadValue::NotAnObject("a string")));
    }

    #[test]
    fn deeply_nested_json_is_rejected_without_overflow() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(value(deep.as_bytes()).is_err());
    }

    #[test]
    fn equal_values_have_one_canonical_text() {
        let (a, b) = (
            json!({"b": [1, {"d": null, "c": "\""}], "a": 2.0}),
            json!({"a": 2, "b": [1.0, {"c": "\"", "d": null}]}),
        );
        assert_eq!(canonical(&a), r#"{"a":2,"b":[1,{"c":"\"","d":null}]}"#);
        assert_eq!(canonical(&a), canonical(&b));
        assert_eq!(canonical(&json!([-0.0, 1e300, 0.5])), canonical(&json!([0, 1e300, 0.5])));
        assert_ne!(canonical(&json!("1")), canonical(&json!(1)));
    }

    #[test]
    fn large_values_are_equal_at_every_place() {
        let at = |place: u8, text: &str| {
            Value::from(Reference::to_text(Place::new([place; 16]), text).to_string())
        };
        let (one, other) = ("a".repeat(40_000), "b".repeat(40_000));
        let (a, b) = (json!({"x": [at(1, &one)]}), json!({"x": [at(2, &one)]}));
        assert_ne!(a, b);
        assert!(equal(&a, &b));
        assert_eq!(canonical(&a), canonical(&b));
        assert!(!equal(&at(1, &one), &at(1, &other)));
        assert!(equal(&at(1, &one), &json!(one)) && equal(&json!(one), &at(1, &one)));
        assert!(!equal(&at(1, &one), &json!(other)) && !equal(&json!("large:"), &at(1, &one)));
        assert_ne!(canonical(&at(1, &one)), canonical(&at(1, &other)));
        // A text that looks like the canonical text is another value.
        assert_ne!(canonical(&json!(canonical(&at(1, &one)))), canonical(&at(1, &one)));
    }

    #[test]
    fn equality_compares_numbers_by_value_and_ignores_key_order() {
        assert!(equal(&json!({"a": 1, "b": [1.0, null]}), &json!({"b": [1, null], "a": 1.0})));
        assert!(equal(&json!(-0.0), &json!(0)));
        for (a, b) in [
            (json!(1), json!("1")),
            (json!(null), json!(false)),
            (json!({"a": 1}), json!({"a": 1, "b": null})),
            (json!([1]), json!([1, 1])),
        ] {
            assert!(!equal(&a, &b), "{a} {b}");
        }
    }
}
