//! Concept specs: actions and queries with their parameters, outcomes and types.

use std::fmt;
use std::sync::Arc;

use concert_wire::routes::ValueType;
use concert_wire::seal::looks_sealed;
use serde_json::{Map, Value};

mod signature;

/// One concept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConceptSpec {
    /// The concept's name.
    pub name: Arc<str>,
    /// The text after `purpose`.
    pub purpose: String,
    /// The actions, in the order written.
    pub actions: Vec<ActionSpec>,
    /// The queries, in the order written.
    pub queries: Vec<QuerySpec>,
}

/// An action with its outcomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionSpec {
    /// The action's name.
    pub name: Arc<str>,
    /// The input, equal in all signatures of an action.
    pub input: Params,
    /// Outputs of the success, if there is one.
    pub success: Option<Params>,
    /// `true` if a failure `: (error: String)` is declared.
    pub can_fail: bool,
    /// `true` if the spec has `effects`. An action without effects may be skipped after its
    /// deadline.
    pub has_effects: bool,
}

/// One query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuerySpec {
    /// The query's name, beginning with `_`.
    pub name: Arc<str>,
    /// The input.
    pub input: Params,
    /// The keys of a row.
    pub output: Params,
    /// Number of rows.
    pub rows: Rows,
}

/// Number of rows that a query may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// `(…)`: exactly one.
    One,
    /// `(…)?`: none or one.
    AtMostOne,
    /// `(…)*`: any number.
    Any,
}

/// A parameter list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params {
    /// The declared parameters, in the order written.
    pub params: Vec<Param>,
    /// `...`: further keys are allowed.
    pub open: bool,
}

/// One declared parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param {
    /// The parameter's name.
    pub name: Arc<str>,
    /// `name?`: may be absent.
    pub optional: bool,
    /// The type of its value.
    pub kind: ValueType,
}

/// A violation of a parameter list. Contains no values, because they may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// A required key is missing.
    #[error("`{0}` is missing")]
    Missing(Arc<str>),
    /// A key is not declared.
    #[error("`{0}` is not a parameter")]
    Unknown(String),
    /// A value, or a part of it, has the wrong type; as a sentence.
    #[error("{0}")]
    IllTyped(String),
}

/// All violations of an object, shown as one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputErrors(pub Vec<InputError>);

impl fmt::Display for InputErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, mistake) in self.0.iter().enumerate() {
            f.write_str(if number == 0 { "" } else { "; " })?;
            mistake.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for InputErrors {}

impl Params {
    /// The parameter of this name.
    pub fn get(&self, name: &str) -> Option<&Param> {
        self.params.iter().find(|param| &*param.name == name)
    }
}

/// Checks an object (an action's input or output) against a parameter list.
///
/// # Errors
/// All violations.
pub fn check_input(params: &Params, input: &Map<String, Value>) -> Result<(), InputErrors> {
    let mut errors = Vec::new();
    for param in &params.params {
        let value = input.get(&*param.name);
        let checked = value.map(|value| match param.kind.is_secret() && looks_sealed(value) {
            // Its length is that of the encrypted form.
            true => Ok(()),
            false => param.kind.check(value, None),
        });
        match checked {
            Some(Err(found)) => errors.push(InputError::IllTyped(found.of(&param.name))),
            None if !param.optional => errors.push(InputError::Missing(param.name.clone())),
            _ => {}
        }
    }
    if !params.open {
        errors.extend(
            input
                .keys()
                .filter(|key| params.get(key).is_none())
                .map(|key| InputError::Unknown(key.clone())),
        );
    }
    if errors.is_empty() { Ok(()) } else { Err(InputErrors(errors)) }
}

/// Checks the rows of a query against its spec.
///
/// # Errors
/// The number of rows is wrong, or a row violates the spec; as text.
pub fn check_rows(query: &QuerySpec, rows: &[Map<String, Value>]) -> Result<(), String> {
    let count_ok = match query.rows {
        Rows::One => rows.len() == 1,
        Rows::AtMostOne => rows.len() <= 1,
        Rows::Any => true,
    };
    if !count_ok {
        return Err(format!(
            "{} returned {} rows, which its spec does not allow",
            query.name,
            rows.len()
        ));
    }
    for row in rows {
        check_input(&query.output, row).map_err(|errors| {
            format!("a row of {} does not match its spec: {errors}", query.name)
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(open: bool, input: &Value, expected: &str) {
        let param = |name: &str, optional, kind| Param { name: name.into(), optional, kind };
        let params = vec![
            param("name", false, ValueType::String),
            param("secret", false, ValueType::BoundedSecret(6)),
            param("note", true, ValueType::String),
        ];
        let found = check_input(&Params { params, open }, input.as_object().unwrap());
        let found = found.map_or_else(|errors| errors.to_string(), |()| String::new());
        assert_eq!(found, expected);
    }

    #[test]
    fn check_input_reports_all_violations_without_values() {
        check(false, &json!({"name": "a", "secret": "s"}), "");
        check(false, &json!({"name": "a", "secret": "s", "note": "n"}), "");
        check(
            false,
            &json!({"secret": 5, "more": "hunter22"}),
            "`name` is missing; `secret` must be a string of at most 6 characters; `more` is not a parameter",
        );
        check(false, &json!({"name": "a", "secret": "sealed:k1:AAAA"}), "");
        check(true, &json!({"name": "a", "secret": "s", "more": 1}), "");
        check(true, &json!({"name": "a", "secret": "s", "note": null}), "`note` must be a string");
    }

    #[test]
    fn check_rows_checks_number_and_types() {
        let output = Params {
            params: vec![Param {
                name: "user".into(),
                optional: false,
                kind: ValueType::Id("User".into()),
            }],
            open: false,
        };
        let query = |rows| QuerySpec {
            name: "_q".into(),
            input: Params::default(),
            output: output.clone(),
            rows,
        };
        let row = json!({"user": "u"}).as_object().unwrap().clone();
        for (rows, count, ok) in [
            (Rows::One, 0, false),
            (Rows::One, 1, true),
            (Rows::AtMostOne, 0, true),
            (Rows::AtMostOne, 2, false),
            (Rows::Any, 5, true),
        ] {
            assert_eq!(
                check_rows(&query(rows), &vec![row.clone(); count]).is_ok(),
                ok,
                "{rows:?} {count}"
            );
        }
        let wrong = json!({"user": 5}).as_object().unwrap().clone();
        assert!(check_rows(&query(Rows::Any), &[wrong]).is_err());
    }
}
