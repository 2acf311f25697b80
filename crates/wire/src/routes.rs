//! The route table: which paths the rules answer, and what each expects in its body.
//!
//! The router derives it from the rules and the specs and puts it into the KV bucket `concert`;
//! every edge watches it. It is the only thing that the edge knows about the application.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The key of the table in the KV bucket `concert`.
pub const ROUTES_KEY: &str = "routes";
/// The key, in the same bucket, of the OpenAPI document of the rules in force, without the edge's
/// base.
pub const OPENAPI_KEY: &str = "openapi";
/// The key, in the same bucket, of the AsyncAPI document of the specs in force.
pub const ASYNCAPI_KEY: &str = "asyncapi";

/// The key, in the same bucket, of which version of the rules came into force where: a list of
/// [`InForceSince`].
pub const IN_FORCE_KEY: &str = "in-force";

/// The key, in the same bucket, of what bounds a flow, as the router that started last has it.
pub const LIMITS_KEY: &str = "limits";

/// The key, in the same bucket, of the texts of a version of the rules.
pub fn rules_key(version: &str) -> String {
    format!("rules.{version}")
}

/// From which sequence of the log on a version of the rules is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForceSince {
    /// The sequence of the message that put it in force.
    pub seq: u64,
    /// The version.
    pub version: Arc<str>,
}

/// Every path that some rule starts from, by its literal path (`/auth/login`, without the edge's
/// base).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    /// The version of the rules that this table was derived from.
    pub version: String,
    /// The routes, by path.
    pub routes: BTreeMap<String, Route>,
}

/// What one path expects.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The keys that the path's rules name; every other key is dropped at the edge.
    pub keys: BTreeMap<String, RouteKey>,
}

/// One key of a request body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteKey {
    /// A request without the key is refused with 400.
    pub required: bool,
    /// The value is sealed before it is published.
    pub secret: bool,
    /// The type that the value must have.
    #[serde(rename = "type")]
    pub kind: ValueType,
}

/// The types of the concept specs (`RULES`: "Concept specs").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ValueType {
    /// Any JSON value, null too.
    Any,
    /// A JSON string.
    String,
    /// A JSON number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A string that holds an RFC 3339 date, or date and time.
    Date,
    /// A string that never rests in clear.
    Secret,
    /// A name of the concept's own (`User`): a non-empty string.
    Id(String),
    /// A list of values of one type.
    Seq(Box<ValueType>),
}

impl ValueType {
    /// Whether a value is of this type.
    pub fn accepts(&self, value: &Value) -> bool {
        match self {
            Self::Any => true,
            Self::String | Self::Secret => value.is_string(),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::Date => value.as_str().is_some_and(is_date),
            Self::Id(_) => value.as_str().is_some_and(|text| !text.is_empty()),
            Self::Seq(of) => {
                value.as_array().is_some_and(|items| items.iter().all(|item| of.accepts(item)))
            }
        }
    }

    /// What a value of this type is, for messages: "must be …".
    pub fn describe(&self) -> String {
        match self {
            Self::Any => "a value".to_owned(),
            Self::String | Self::Secret => "a string".to_owned(),
            Self::Number => "a number".to_owned(),
            Self::Boolean => "true or false".to_owned(),
            Self::Date => "a date such as 2026-01-31 or 2026-01-31T12:00:00Z".to_owned(),
            Self::Id(name) => format!("a non-empty string (a {name})"),
            Self::Seq(of) => format!("a list, each of it {}", of.describe()),
        }
    }
}

/// RFC 3339: `full-date`, or `date-time`.
fn is_date(text: &str) -> bool {
    let (date, time) = match text.split_once(['T', 't']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    is_full_date(date) && time.is_none_or(is_full_time)
}

fn digits(text: &str, length: usize) -> Option<u32> {
    (text.len() == length && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

fn is_full_date(text: &str) -> bool {
    let mut parts = text.split('-');
    let (Some(year), Some(month), Some(day), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let (Some(year), Some(month), Some(day)) = (digits(year, 4), digits(month, 2), digits(day, 2))
    else {
        return false;
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    (1..=days).contains(&day)
}

fn is_full_time(text: &str) -> bool {
    let (clock, offset_ok) = match text.strip_suffix(['Z', 'z']) {
        Some(clock) => (clock, true),
        None => match text.rfind(['+', '-']).and_then(|at| text.split_at_checked(at)) {
            Some((clock, offset)) => {
                (clock, offset.get(1..).is_some_and(|offset| hours_and_minutes(offset.split(':'))))
            }
            None => return false,
        },
    };
    let (clock, fraction_ok) = match clock.split_once('.') {
        Some((clock, fraction)) => {
            (clock, !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit()))
        }
        None => (clock, true),
    };
    let Some((rest, second)) = clock.rsplit_once(':') else {
        return false;
    };
    // 60 is a leap second.
    offset_ok
        && fraction_ok
        && digits(second, 2).is_some_and(|second| second <= 60)
        && hours_and_minutes(rest.split(':'))
}

fn hours_and_minutes<'a>(mut parts: impl Iterator<Item = &'a str>) -> bool {
    let (Some(hour), Some(minute), None) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    digits(hour, 2).is_some_and(|hour| hour < 24)
        && digits(minute, 2).is_some_and(|minute| minute < 60)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_date_is_one_that_exists() {
        for right in [
            "2024-02-29",
            "2026-01-31T23:59:60Z",
            "2026-01-31t00:00:00.123+01:30",
            "0000-01-01T00:00:00-00:00",
        ] {
            assert!(ValueType::Date.accepts(&json!(right)), "{right}");
        }
        for wrong in [
            "",
            "2026-02-29",
            "2026-13-01",
            "2026-1-1",
            "2026-01-31T",
            "2026-01-31T24:00:00Z",
            "2026-01-31T12:00:00",
            "2026-01-31T12:00Z",
            "2026-01-31 12:00:00Z",
        ] {
            assert!(!ValueType::Date.accepts(&json!(wrong)), "{wrong}");
        }
    }

    #[test]
    fn nothing_passes_for_a_string_but_a_string() {
        for kind in [ValueType::String, ValueType::Secret, ValueType::Id("User".into())] {
            for wrong in [json!(null), json!(1), json!({"$ne": null}), json!(["x"]), json!(true)] {
                assert!(!kind.accepts(&wrong), "{kind:?} {wrong}");
            }
        }
        assert!(ValueType::String.accepts(&json!("")));
        assert!(!ValueType::Id("User".into()).accepts(&json!("")));
        assert!(ValueType::Seq(Box::new(ValueType::Number)).accepts(&json!([1, 2.5])));
        assert!(!ValueType::Seq(Box::new(ValueType::Number)).accepts(&json!([1, "2"])));
    }
}
