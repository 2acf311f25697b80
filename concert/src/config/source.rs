//! Sources of values, and their merge. Precedence: flag, variable, file, default.

use std::collections::BTreeSet;
use std::fmt;

use ::config::{ConfigError, Map, Source, ValueKind};
use serde_json::Value;

/// Source of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// No source sets it.
    Default,
    /// A line of the file.
    File {
        /// Name of the file.
        path: String,
        /// Line number, starting at 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A flag, with its dashes.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str(DEFAULT),
            Self::File { path, line } => write!(f, "file {path}:{line}"),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// Displayed origin of a default.
pub(super) const DEFAULT: &str = "default";

/// A value for a key.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Given {
    /// The key, as a list of its parts.
    pub(super) path: Vec<String>,
    /// The value.
    pub(super) value: Value,
    /// Source of the value.
    pub(super) origin: Origin,
}

impl Source for Given {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, ::config::Value>, ConfigError> {
        let origin = self.origin.to_string();
        let mut value = to_config(&self.value, &origin);
        let (first, within) =
            self.path.split_first().map(|(first, rest)| (first.clone(), rest)).unwrap_or_default();
        for part in within.iter().rev() {
            value = ::config::Value::new(Some(&origin), Map::from_iter([(part.clone(), value)]));
        }
        Ok(Map::from_iter([(first, value)]))
    }
}

fn to_config(value: &Value, origin: &String) -> ::config::Value {
    let kind = match value {
        Value::Null => ValueKind::Nil,
        Value::Bool(truth) => ValueKind::Boolean(*truth),
        Value::String(text) => ValueKind::String(text.clone()),
        Value::Array(items) => {
            ValueKind::Array(items.iter().map(|item| to_config(item, origin)).collect())
        }
        Value::Object(entries) => {
            let entries = entries.iter();
            ValueKind::Table(
                entries.map(|(name, value)| (name.clone(), to_config(value, origin))).collect(),
            )
        }
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => ValueKind::I64(number),
            (None, Some(number)) => ValueKind::U64(number),
            (None, None) => ValueKind::Float(number.as_f64().unwrap_or_default()),
        },
    };
    ::config::Value::new(Some(origin), kind)
}

/// The merged values.
#[derive(Debug, Clone)]
pub(super) struct Merged(::config::Value);

impl Merged {
    /// Merges values. Later values win; tables are merged key by key.
    pub(super) fn new(given: impl IntoIterator<Item = Given>) -> Result<Self, ConfigError> {
        let builder = given
            .into_iter()
            .fold(::config::Config::builder(), |builder, given| builder.add_source(given));
        Ok(Self(builder.build()?.cache))
    }

    fn at(&self, path: &[&str]) -> Option<&::config::Value> {
        path.iter().try_fold(&self.0, |value, part| match &value.kind {
            ValueKind::Table(entries) => entries.get(*part),
            _ => None,
        })
    }

    /// The value at a path, or `null`.
    pub(super) fn value(&self, path: &[&str]) -> Value {
        self.at(path).map(to_json).unwrap_or_default()
    }

    /// Sources of the values at a path. The default is listed only if there is no other source.
    pub(super) fn origin(&self, path: &[&str]) -> String {
        let mut origins = BTreeSet::new();
        if let Some(value) = self.at(path) {
            collect(value, &mut origins);
        }
        if origins.len() > 1 {
            origins.remove(DEFAULT);
        }
        match origins.is_empty() {
            true => DEFAULT.to_owned(),
            false => origins.into_iter().collect::<Vec<_>>().join(", "),
        }
    }
}

fn collect(value: &::config::Value, origins: &mut BTreeSet<String>) {
    match &value.kind {
        ValueKind::Table(entries) => entries.values().for_each(|value| collect(value, origins)),
        _ => origins.extend(value.origin().map(str::to_owned)),
    }
}

fn to_json(value: &::config::Value) -> Value {
    match &value.kind {
        ValueKind::Nil => Value::Null,
        ValueKind::Boolean(truth) => Value::Bool(*truth),
        ValueKind::I64(number) => Value::from(*number),
        ValueKind::U64(number) => Value::from(*number),
        // No source creates such numbers.
        ValueKind::I128(number) => Value::String(number.to_string()),
        ValueKind::U128(number) => Value::String(number.to_string()),
        ValueKind::Float(number) => Value::from(*number),
        ValueKind::String(text) => Value::String(text.clone()),
        ValueKind::Array(items) => Value::Array(items.iter().map(to_json).collect()),
        ValueKind::Table(entries) => {
            let mut sorted: Vec<_> = entries.iter().collect();
            sorted.sort_by_key(|(name, _)| *name);
            Value::Object(
                sorted.into_iter().map(|(name, value)| (name.clone(), to_json(value))).collect(),
            )
        }
    }
}
