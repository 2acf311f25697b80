//! Type of a literal, and the common type of two values that must be equal.

use concert_wire::routes::ValueType;
use serde_json::Value;

use crate::diagnostics::{Diagnostic, SECRET};
use crate::source::Span;

/// Creates an error about a secret.
pub(super) fn secret(span: Span, message: &str) -> Diagnostic {
    Diagnostic::error(SECRET, span, message)
}

/// The common type of two types; `None` if there is none. Identifiers and dates are strings.
pub(crate) fn unify(a: &ValueType, b: &ValueType) -> Option<ValueType> {
    use ValueType::{Any, Date, Id, Secret, Seq, String};
    match (a, b) {
        (a, b) if a == b => Some(a.clone()),
        (Secret, _) | (_, Secret) => None,
        (Any, other) | (other, Any) => Some(other.clone()),
        (String, narrow @ (Id(_) | Date)) | (narrow @ (Id(_) | Date), String) => {
            Some(narrow.clone())
        }
        (Id(name), Id(_)) => Some(Id(name.clone())),
        (Seq(a), Seq(b)) => unify(a, b).map(|of| Seq(Box::new(of))),
        _ => None,
    }
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
