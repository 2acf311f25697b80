//! Types of values in concept specs.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::large::{INLINE_MAX_BYTES, Reference};
use crate::value::canonical;

/// Longest character, in bytes of UTF-8.
const MAX_CHAR_BYTES: u64 = 4;

/// Type of a parameter in a concept spec.
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
    /// A string with an RFC 3339 date, or date and time.
    Date,
    /// A string that is encrypted wherever it is stored.
    Secret,
    /// An identifier type of the concept (`User`): a non-empty string.
    Id(String),
    /// A list of values of one type.
    Seq(Box<ValueType>),
    /// A string of at most this many characters (Unicode code points).
    BoundedString(u32),
    /// A secret of at most this many characters (Unicode code points).
    BoundedSecret(u32),
    /// A list of values of one type without duplicates.
    Set(Box<ValueType>),
    /// One of these strings.
    Enum(Vec<String>),
    /// A value of this type, or null.
    Nullable(Box<ValueType>),
    /// An object with these fields, and no others.
    Record(Vec<Field>),
}

/// Field of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Key in the object.
    pub name: String,
    /// `true` if the key may be absent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// Type of the value.
    #[serde(rename = "type")]
    pub kind: ValueType,
}

/// The part of a value that violates a type. Contains no values, because they may be secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path to the part, such as `.tags[2]`; empty for the whole value.
    pub path: String,
    /// The problem, as the end of a sentence about the part.
    pub problem: String,
}

impl Violation {
    fn new(problem: &str) -> Self {
        Self { path: String::new(), problem: problem.to_owned() }
    }

    fn expected(kind: &str) -> Self {
        Self::new(&format!("must be {kind}"))
    }

    fn large() -> Self {
        Self::new(&format!("must have at most {INLINE_MAX_BYTES} bytes"))
    }

    fn within(self, step: &str) -> Self {
        Self { path: format!("{step}{}", self.path), ..self }
    }

    /// A sentence about the value of a key.
    pub fn of(&self, key: &str) -> String {
        format!("`{key}{}` {}", self.path, self.problem)
    }
}

impl ValueType {
    /// Returns whether a value is of this type.
    pub fn accepts(&self, value: &Value) -> bool {
        self.check(value, None).is_ok()
    }

    /// Checks that a value is of this type. `max_chars` is the maximum length of strings for which
    /// the type declares none; it does not apply to large values.
    ///
    /// A reference to a large value is a string. Its length in characters is unknown, so only
    /// those are rejected whose bytes cannot be so few characters; who has the value checks it
    /// again.
    ///
    /// # Errors
    /// The first part that violates the type or the length.
    pub fn check(&self, value: &Value, max_chars: Option<u32>) -> Result<(), Violation> {
        if let Some(reference) = Reference::of(value) {
            return self.check_large(reference.bytes());
        }
        let matches = match self {
            Self::Any => return limited(value, max_chars),
            Self::String | Self::Secret => value.is_string(),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::Date => value.as_str().is_some_and(is_date),
            Self::Id(_) => value.as_str().is_some_and(|text| !text.is_empty()),
            Self::BoundedString(max) | Self::BoundedSecret(max) => {
                value.as_str().is_some_and(|text| fits(text, *max))
            }
            Self::Enum(values) => {
                value.as_str().is_some_and(|text| values.iter().any(|known| known == text))
            }
            Self::Nullable(of) if !value.is_null() => return of.check(value, max_chars),
            Self::Nullable(_) => true,
            Self::Seq(of) | Self::Set(of) => match value.as_array() {
                Some(items) => {
                    for (number, item) in items.iter().enumerate() {
                        of.check(item, max_chars)
                            .map_err(|found| found.within(&format!("[{number}]")))?;
                    }
                    matches!(self, Self::Seq(_)) || are_distinct(items)
                }
                None => false,
            },
            Self::Record(fields) => match value.as_object() {
                Some(members) => return record(fields, members, max_chars),
                None => false,
            },
        };
        if !matches {
            return Err(Violation::expected(&self.describe()));
        }
        match self {
            Self::Secret | Self::BoundedSecret(_) if is_large(value) => Err(Violation::large()),
            Self::String | Self::Secret | Self::Id(_) => limited(value, max_chars),
            _ => Ok(()),
        }
    }

    /// Checks that this type includes large values of this length.
    fn check_large(&self, bytes: u64) -> Result<(), Violation> {
        match self {
            Self::Any | Self::String => Ok(()),
            Self::BoundedString(max) if bytes <= u64::from(*max) * MAX_CHAR_BYTES => Ok(()),
            Self::Nullable(of) => of.check_large(bytes),
            Self::Secret | Self::BoundedSecret(_) | Self::Id(_) => Err(Violation::large()),
            other => Err(Violation::expected(&other.describe())),
        }
    }

    /// Returns whether values of this type can be so long that they are stored beside the log.
    pub fn declares_large(&self) -> bool {
        match self {
            Self::BoundedString(max) => u64::from(*max) > INLINE_MAX_BYTES,
            Self::Nullable(of) => of.declares_large(),
            _ => false,
        }
    }

    /// Description of the values of this type, for messages: "must be …".
    pub fn describe(&self) -> String {
        match self {
            Self::Any => "a value".to_owned(),
            Self::String | Self::Secret => "a string".to_owned(),
            Self::Number => "a number".to_owned(),
            Self::Boolean => "true or false".to_owned(),
            Self::Date => "a date such as 2026-01-31 or 2026-01-31T12:00:00Z".to_owned(),
            Self::Id(name) => format!("a non-empty string (a {name})"),
            Self::Seq(of) => format!("a list, each of it {}", of.describe()),
            Self::Set(of) => format!("a list without duplicates, each of it {}", of.describe()),
            Self::BoundedString(max) | Self::BoundedSecret(max) => at_most(*max),
            Self::Enum(values) => {
                let values: Vec<String> =
                    values.iter().map(|value| format!("\"{value}\"")).collect();
                format!("one of {}", values.join(", "))
            }
            Self::Nullable(of) => format!("{} or null", of.describe()),
            Self::Record(fields) => {
                let fields: Vec<String> = fields.iter().map(Field::describe).collect();
                format!("an object with the keys {}", fields.join(", "))
            }
        }
    }

    /// Returns whether values of this type are secret.
    pub const fn is_secret(&self) -> bool {
        matches!(self, Self::Secret | Self::BoundedSecret(_))
    }

    /// The type without null.
    pub fn without_null(&self) -> &Self {
        match self {
            Self::Nullable(of) => of.without_null(),
            other => other,
        }
    }

    /// The field of a record, or of a record that may be null.
    pub fn field(&self, name: &str) -> Option<&Field> {
        match self.without_null() {
            Self::Record(fields) => fields.iter().find(|field| field.name == name),
            _ => None,
        }
    }

    /// The closest type that release 0.1.0 knows. It accepts all values of this type.
    #[must_use]
    pub fn released(&self) -> Self {
        match self {
            Self::BoundedString(_) | Self::Enum(_) => Self::String,
            Self::BoundedSecret(_) => Self::Secret,
            Self::Seq(of) | Self::Set(of) => Self::Seq(Box::new(of.released())),
            Self::Nullable(_) | Self::Record(_) => Self::Any,
            other => other.clone(),
        }
    }
}

impl Field {
    fn describe(&self) -> String {
        format!("{}{}", self.name, if self.optional { " (optional)" } else { "" })
    }
}

fn record(
    fields: &[Field],
    members: &serde_json::Map<String, Value>,
    max_chars: Option<u32>,
) -> Result<(), Violation> {
    for field in fields {
        let checked = match members.get(&field.name) {
            Some(value) => field.kind.check(value, max_chars),
            None if field.optional => Ok(()),
            None => Err(Violation::new("is missing")),
        };
        checked.map_err(|found| found.within(&format!(".{}", field.name)))?;
    }
    let is_known = |key: &&String| fields.iter().any(|field| field.name == **key);
    match members.keys().find(|key| !is_known(key)) {
        Some(key) => Err(Violation::new("is not declared").within(&format!(".{key}"))),
        None => Ok(()),
    }
}

/// Checks the length of all strings in a value, including keys.
fn limited(value: &Value, max_chars: Option<u32>) -> Result<(), Violation> {
    let Some(max) = max_chars else { return Ok(()) };
    match value {
        Value::String(text) if !fits(text, max) && Reference::of(value).is_none() => {
            Err(Violation::expected(&at_most(max)))
        }
        Value::Array(items) => items.iter().enumerate().try_for_each(|(number, item)| {
            limited(item, max_chars).map_err(|found| found.within(&format!("[{number}]")))
        }),
        Value::Object(members) => members.iter().try_for_each(|(key, member)| {
            if !fits(key, max) {
                return Err(Violation::new(&format!("has a key of more than {max} characters")));
            }
            limited(member, max_chars).map_err(|found| found.within(&format!(".{key}")))
        }),
        _ => Ok(()),
    }
}

fn is_large(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() as u64 > INLINE_MAX_BYTES)
}

fn at_most(max: u32) -> String {
    format!("a string of at most {max} characters")
}

fn fits(text: &str, max: u32) -> bool {
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    // No string has more characters than bytes.
    text.len() <= max || text.chars().nth(max).is_none()
}

fn are_distinct(items: &[Value]) -> bool {
    let mut seen = HashSet::new();
    items.iter().all(|item| seen.insert(canonical(item)))
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
    use crate::large::Place;

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

    #[track_caller]
    fn check(kind: &ValueType, value: Value, expected: &str) {
        let found = kind.check(&value, Some(10)).map_err(|found| found.of("key"));
        assert_eq!(found.err().unwrap_or_default(), expected, "{value}");
    }

    #[test]
    fn violations_name_the_part_of_the_value() {
        let field = |name: &str, optional, kind| Field { name: name.to_owned(), optional, kind };
        let style = ValueType::Record(vec![
            field("font", false, ValueType::BoundedString(3)),
            field("color", true, ValueType::Enum(vec!["red".into(), "green".into()])),
        ]);
        let or_null = ValueType::Nullable(Box::new(style.clone()));
        check(&or_null, json!(null), "");
        check(&style, json!(null), "`key` must be an object with the keys font, color (optional)");
        check(&style, json!({"font": "äöü"}), "");
        check(
            &or_null,
            json!({"font": "serif"}),
            "`key.font` must be a string of at most 3 characters",
        );
        check(&style, json!({"color": "red"}), "`key.font` is missing");
        check(&style, json!({"font": "", "size": 1}), "`key.size` is not declared");
        check(
            &ValueType::Seq(Box::new(style)),
            json!([{"font": ""}, {"font": "", "color": "blue"}]),
            "`key[1].color` must be one of \"red\", \"green\"",
        );
        let set = ValueType::Set(Box::new(ValueType::Number));
        check(&set, json!([1, 2]), "");
        check(
            &set,
            json!([1, 2, 1.0]),
            "`key` must be a list without duplicates, each of it a number",
        );
    }

    #[test]
    fn default_length_applies_to_strings_without_a_length() {
        let (fits, long) = ("1234567890", "12345678901");
        for kind in [ValueType::String, ValueType::Secret, ValueType::Id("User".into())] {
            check(&kind, json!(fits), "");
            check(&kind, json!(long), "`key` must be a string of at most 10 characters");
        }
        check(&ValueType::BoundedString(11), json!(long), "");
        let secret = ValueType::BoundedSecret(3);
        check(&secret, json!("äöü"), "");
        check(&secret, json!("1234"), "`key` must be a string of at most 3 characters");
        check(
            &ValueType::Any,
            json!({"a": [fits, long]}),
            "`key.a[1]` must be a string of at most 10 characters",
        );
        check(&ValueType::Any, json!({long: 1}), "`key` has a key of more than 10 characters");
        assert!(ValueType::Any.check(&json!(long), None).is_ok());
    }

    #[test]
    fn only_strings_take_large_values() {
        let of = |bytes: usize| {
            let text = "x".repeat(bytes);
            json!(Reference::to_text(Place::new([1; 16]), &text).to_string())
        };
        let large = of(40_000);
        let or_null = |of| ValueType::Nullable(Box::new(of));
        for kind in [
            ValueType::Any,
            ValueType::String,
            ValueType::BoundedString(10_000),
            or_null(ValueType::String),
        ] {
            check(&kind, large.clone(), "");
        }
        check(&ValueType::Any, json!({"a": [large]}), "");
        let short = "`key` must be a string of at most 9999 characters";
        check(&or_null(ValueType::BoundedString(9_999)), large.clone(), short);
        let least = "`key` must have at most 32768 bytes";
        for kind in [ValueType::Secret, ValueType::Id("User".into())] {
            check(&kind, large.clone(), least);
        }
        check(&ValueType::BoundedSecret(100_000), json!("x".repeat(32_769)), least);
        check(&ValueType::BoundedSecret(100_000), json!("x".repeat(32_768)), "");
        check(&ValueType::Number, large, "`key` must be a number");
    }

    #[test]
    fn released_type_accepts_the_same_values() {
        for (kind, released) in [
            (ValueType::BoundedSecret(3), json!("secret")),
            (ValueType::BoundedString(3), json!("string")),
            (ValueType::Enum(vec!["a".into()]), json!("string")),
            (ValueType::Nullable(Box::new(ValueType::String)), json!("any")),
            (ValueType::Set(Box::new(ValueType::Record(vec![]))), json!({"seq": "any"})),
            (ValueType::Id("User".into()), json!({"id": "User"})),
        ] {
            assert_eq!(json!(kind.released()), released);
        }
    }
}
