//! The route table: the paths that rules handle, and the expected keys of each request body.
//!
//! The router derives the table from rules and specs and writes it to the KV bucket `concert`;
//! every edge watches it. The edge knows nothing else about the application.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Key of the table in the KV bucket `concert`.
pub const ROUTES_KEY: &str = "routes";
/// Key, in the same bucket, of the OpenAPI document of the active rules, without the edge's base.
pub const OPENAPI_KEY: &str = "openapi";
/// Key, in the same bucket, of the AsyncAPI document of the active specs.
pub const ASYNCAPI_KEY: &str = "asyncapi";

/// Key, in the same bucket, of the history of active rule versions: a list of [`ActiveSince`].
pub const IN_FORCE_KEY: &str = "in-force";

/// Key, in the same bucket, of `true` while the log is nearly full, so that edges accept no new
/// requests. Missing or `false` otherwise.
pub const LOG_FULL_KEY: &str = "log-full";

/// Key, in the same bucket, of the limits of a flow, as configured for the router that started
/// last.
pub const LIMITS_KEY: &str = "limits";

/// Key, in the same bucket, of the ids of the key files that encrypted the data.
pub const KEY_FILES_KEY: &str = "key-files";

/// Key, in the same bucket, of the source texts of a rule version.
pub fn rules_key(version: &str) -> String {
    format!("rules.{version}")
}

/// Sequence of the log from which a rule version is active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveSince {
    /// Sequence of the message that activated it.
    pub seq: u64,
    /// The version.
    pub version: Arc<str>,
}

/// All paths that rules handle, by literal path (`/auth/login`, without the edge's base).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    /// Rule version that this table was derived from.
    pub version: String,
    /// The routes, by path.
    pub routes: BTreeMap<String, Route>,
}

/// Expected body of one path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Keys that the path's rules use; the edge drops all others.
    pub keys: BTreeMap<String, RouteKey>,
}

/// One key of a request body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteKey {
    /// Whether a request without the key gets 400.
    pub required: bool,
    /// Whether the value is sealed before it is published.
    pub secret: bool,
    /// Required type of the value.
    #[serde(rename = "type")]
    pub kind: ValueType,
}

/// The types of the concept specs (`RULES`: "Concept specs").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ValueType {
    /// Any JSON value, including null.
    Any,
    /// A JSON string.
    String,
    /// A JSON number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A string that holds an RFC 3339 date, or date and time.
    Date,
    /// A string that is never stored in plain text.
    Secret,
    /// A name of the concept's own (`User`): a non-empty string.
    Id(String),
    /// A list of values of one type.
    Seq(Box<ValueType>),
}

impl ValueType {
    /// Reports whether a value has this type.
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

    /// Description of a value of this type, for messages: "must be …".
    pub fn describe(&self) -> String {
        match self {
            Self::Any => "a value".to_owned(),
            Self::String | Self::Secret => "a string".to_owned(),
            Self::Number => "a number".to_owned(),
            Self::Boolean => "true or false".to_owned(),
            Self::Date => "a date such as 2026-01-31 or 2026-01-31T12:00:00Z".to_owned(),
            Self::Id(name) => format!("a non-empty string (a {name})"),
            Self::Seq(of) => format!("a list; each item must be {}", of.describe()),
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
    fn only_existing_dates_are_accepted() {
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
    fn string_types_accept_only_strings() {
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
