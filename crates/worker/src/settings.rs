//! A worker's own settings. The platform does not know their keys.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Settings of a worker without settings.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoSettings {}

/// Collects all numbers that are out of range, with their keys.
#[derive(Debug, Default)]
pub struct Ranges(Vec<String>);

impl Ranges {
    /// No number checked yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Checks one number.
    #[must_use]
    pub fn within<N: PartialOrd + Display>(
        mut self,
        key: &str,
        number: N,
        range: RangeInclusive<N>,
    ) -> Self {
        if !range.contains(&number) {
            let (least, most) = (range.start(), range.end());
            self.0.push(format!("`{key}` must be from {least} to {most}, not {number}"));
        }
        self
    }

    /// Returns all out-of-range numbers in one message.
    ///
    /// # Errors
    /// At least one number is out of range.
    pub fn checked(self) -> Result<(), String> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0.join("; ")) }
    }
}

/// Reads a list, or a comma-separated text from a variable or flag. For the attribute
/// `#[serde(deserialize_with = "list")]`.
///
/// # Errors
/// The value is neither.
pub fn list<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: DeserializeOwned + for<'a> From<&'a str>,
    D: Deserializer<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a list of texts")]
    enum ListOrText<T> {
        List(Vec<T>),
        Text(String),
    }
    Ok(match ListOrText::deserialize(deserializer)? {
        ListOrText::List(list) => list,
        ListOrText::Text(text) => {
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(T::from).collect()
        }
    })
}

/// Reads settings and checks them.
pub(crate) fn read<T: DeserializeOwned>(
    table: &Value,
    check: fn(&T) -> Result<(), String>,
) -> Result<T, String> {
    let empty = Value::Object(serde_json::Map::new());
    let table = if table.is_null() { &empty } else { table };
    let settings: T = serde_path_to_error::deserialize(table).map_err(|error| {
        match error.path().to_string() {
            path if path == "." => error.inner().to_string(),
            path => format!("`{path}`: {}", error.inner()),
        }
    })?;
    check(&settings)?;
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Limits {
        few: u32,
        many: u32,
        #[serde(deserialize_with = "list")]
        words: Vec<String>,
    }

    impl Default for Limits {
        fn default() -> Self {
            Self { few: 1, many: 100, words: Vec::new() }
        }
    }

    fn ranges(limits: &Limits) -> Result<(), String> {
        let ranges = Ranges::new().within("few", limits.few, 1..=9);
        ranges.within("many", limits.many, 10..=1000).checked()
    }

    #[test]
    fn settings_errors_name_the_key_and_the_range() {
        for (table, expected) in [
            (json!(null), Ok(Limits::default())),
            (json!({ "few": 9 }), Ok(Limits { few: 9, ..Limits::default() })),
            (
                json!({ "words": "a, b" }),
                Ok(Limits { words: vec!["a".to_owned(), "b".to_owned()], ..Limits::default() }),
            ),
            (
                json!({ "words": ["a, b"] }),
                Ok(Limits { words: vec!["a, b".to_owned()], ..Limits::default() }),
            ),
            (json!({ "words": 1 }), Err("`words`: expected a list of texts")),
            (
                json!({ "few": 0, "many": 9 }),
                Err("`few` must be from 1 to 9, not 0; `many` must be from 10 to 1000, not 9"),
            ),
            (
                json!({ "fewer": 1 }),
                Err("`fewer`: unknown field `fewer`, expected one of `few`, `many`, `words`"),
            ),
            (json!({ "few": "x" }), Err("`few`: invalid type: string \"x\", expected u32")),
        ] {
            assert_eq!(read(&table, ranges), expected.map_err(str::to_owned), "{table}");
        }
    }
}
