//! Type of a literal, and the common type of two values that must be equal.

use concert_wire::routes::{Field, ValueType};
use serde_json::Value;

use crate::diagnostics::{Diagnostic, SECRET, nearest};
use crate::source::Span;

/// Creates an error about a secret.
pub(super) fn secret(span: Span, message: &str) -> Diagnostic {
    Diagnostic::error(SECRET, span, message)
}

/// The common type of two types, if they have one. Identifiers and dates are strings.
pub(crate) fn unify(a: &ValueType, b: &ValueType) -> Option<ValueType> {
    use ValueType::{
        Any, BoundedSecret, BoundedString, Date, Enum, Id, Nullable, Record, Secret, Seq, Set,
        String,
    };
    match (a, b) {
        (a, b) if a == b => Some(a.clone()),
        (BoundedSecret(a), BoundedSecret(b)) => Some(BoundedSecret(*a.min(b))),
        (Secret, bounded @ BoundedSecret(_)) | (bounded @ BoundedSecret(_), Secret) => {
            Some(bounded.clone())
        }
        (a, b) if a.is_secret() || b.is_secret() => None,
        (Any, other) | (other, Any) => Some(other.clone()),
        (Nullable(a), Nullable(b)) => unify(a, b).map(|of| Nullable(Box::new(of))),
        (Nullable(of), other) => unify(of, other),
        (other, Nullable(of)) => unify(other, of),
        (String, narrow @ (Id(_) | Date | BoundedString(_) | Enum(_)))
        | (narrow @ (Id(_) | Date | BoundedString(_) | Enum(_)), String)
        | (BoundedString(_), narrow @ (Id(_) | Date | Enum(_)))
        | (narrow @ (Id(_) | Date | Enum(_)), BoundedString(_)) => Some(narrow.clone()),
        (BoundedString(a), BoundedString(b)) => Some(BoundedString(*a.min(b))),
        (Id(name), Id(_)) => Some(Id(name.clone())),
        (Enum(a), Enum(b)) => {
            let common: Vec<_> = a.iter().filter(|value| b.contains(value)).cloned().collect();
            (!common.is_empty()).then_some(Enum(common))
        }
        (Seq(a), Seq(b)) => unify(a, b).map(|of| Seq(Box::new(of))),
        (Seq(a) | Set(a), Set(b)) | (Set(a), Seq(b)) => unify(a, b).map(|of| Set(Box::new(of))),
        (Record(a), Record(b)) => unify_records(a, b).map(Record),
        _ => None,
    }
}

/// The common type of two records. A field that only one record has must be optional in it.
fn unify_records(a: &[Field], b: &[Field]) -> Option<Vec<Field>> {
    let find = |fields: &[Field], name: &str| -> Option<Field> {
        fields.iter().find(|field| field.name == name).cloned()
    };
    if b.iter().any(|field| !field.optional && find(a, &field.name).is_none()) {
        return None;
    }
    let mut common = Vec::new();
    for field in a {
        match find(b, &field.name) {
            Some(other) => common.push(Field {
                kind: unify(&field.kind, &other.kind)?,
                optional: field.optional && other.optional,
                ..other
            }),
            None if field.optional => {}
            None => return None,
        }
    }
    Some(common)
}

/// The type of a literal.
pub(super) fn type_of(value: &Value) -> ValueType {
    match value {
        Value::Null | Value::Object(_) => ValueType::Any,
        Value::Bool(_) => ValueType::Boolean,
        Value::Number(_) => ValueType::Number,
        Value::String(_) => ValueType::String,
        Value::Array(_) => ValueType::Seq(Box::new(ValueType::Any)),
    }
}

/// Suggests the most similar value of an enumeration.
pub(super) fn suggest_value(found: Diagnostic, value: &Value, kind: &ValueType) -> Diagnostic {
    let (Value::String(text), ValueType::Enum(values)) = (value, kind.without_null()) else {
        return found;
    };
    match nearest(text, values.iter().map(String::as_str)) {
        Some(near) => found.help(format!("did you mean `\"{near}\"`?")),
        None => found,
    }
}
