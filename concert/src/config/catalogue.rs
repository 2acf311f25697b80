//! All keys with type, range, default and meaning, as the sections declare them.

use std::sync::LazyLock;

use concert_archive::ArchiveArgs;
use concert_http_edge::{EdgeArgs, PageArgs};
use concert_runtime::streams::LogLimits;
use concert_sync_router::{RouterLimits, RulesArgs};
use concert_worker::HostLimits;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde_json::{Map, Value};

use super::sections::{App, Concept, Mongodb, Nats, Telemetry};
use super::value::Kind;

/// Placeholder for the name of a concept in [`Key::path`].
pub(super) const ANY: &str = "<Concept>";

/// A key of the configuration.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    /// The path with its section, such as `http.listen` or `workers.<Concept>.external`.
    pub(crate) path: String,
    /// Allowed values.
    pub(crate) kind: Kind,
    /// Description.
    pub(crate) meaning: String,
    /// Default of all commands that do not have their own; `null` is no value.
    pub(crate) default: Value,
}

/// Result of looking up a path.
#[derive(Debug, Clone, Copy)]
pub(super) enum Found<'a> {
    /// A key, or an entry of the table that is its value.
    Key(&'a Key),
    /// A table of keys.
    Section,
    /// Neither a key nor a section.
    Unknown,
}

/// All keys.
pub(crate) fn keys() -> &'static [Key] {
    static KEYS: LazyLock<Vec<Key>> = LazyLock::new(read);
    &KEYS
}

fn read() -> Vec<Key> {
    let mut keys = Vec::new();
    section::<App>("app", &mut keys);
    section::<EdgeArgs>("http", &mut keys);
    section::<PageArgs>("console", &mut keys);
    section::<Nats>("nats", &mut keys);
    section::<Mongodb>("mongodb", &mut keys);
    section::<RulesArgs>("rules", &mut keys);
    section::<RouterLimits>("router", &mut keys);
    section::<ArchiveArgs>("archive", &mut keys);
    section::<Telemetry>("telemetry", &mut keys);
    section::<LogLimits>("log", &mut keys);
    section::<HostLimits>("workers", &mut keys);
    let of_concept = format!("workers.{ANY}");
    section::<Concept>(&of_concept, &mut keys);
    // Keys for all workers can be set for one concept.
    let from = keys.len();
    section::<HostLimits>(&of_concept, &mut keys);
    for key in keys.iter_mut().skip(from) {
        key.default = Value::Null;
    }
    keys
}

fn section<T: JsonSchema + Serialize + Default>(name: &str, keys: &mut Vec<Key>) {
    let settings = SchemaSettings::default().with(|settings| settings.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<T>();
    // A section always serializes to an object. A test would detect missing defaults.
    let defaults = serde_json::to_value(T::default()).unwrap_or_default();
    add(name, schema.as_value(), &defaults, keys);
}

fn add(path: &str, schema: &Value, default: &Value, keys: &mut Vec<Key>) {
    let schema = not_null(schema);
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        for (name, property) in properties {
            let default = default.get(name).unwrap_or(&Value::Null);
            let before = keys.len();
            add(&format!("{path}.{name}"), property, default, keys);
            debug_assert!(keys.len() > before, "{path}.{name}");
        }
        return;
    }
    let meaning = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    keys.push(Key {
        path: path.to_owned(),
        kind: Kind::of(&schema),
        meaning: meaning.split_whitespace().collect::<Vec<_>>().join(" "),
        default: default.clone(),
    });
}

/// Removes `null` from a schema: a file cannot contain it; the key is omitted instead.
fn not_null(schema: &Value) -> Value {
    let Some(variants) = schema.get("anyOf").and_then(Value::as_array) else {
        return schema.clone();
    };
    let is_null = |variant: &&Value| variant.get("type").is_some_and(|kind| kind == "null");
    let mut merged: Map<String, Value> = schema.as_object().cloned().unwrap_or_default();
    merged.remove("anyOf");
    for variant in variants.iter().filter(|variant| !is_null(variant)) {
        let own = variant.as_object().into_iter().flatten();
        merged.extend(
            own.filter(|(name, _)| *name != "description")
                .map(|(name, value)| (name.clone(), value.clone())),
        );
    }
    Value::Object(merged)
}

/// Returns whether a name is that of a concept. Concepts begin with a capital letter, keys do not.
pub(super) fn is_concept(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_uppercase())
}

/// A path in the form of [`Key::path`].
fn general(path: &[String]) -> Vec<&str> {
    let mut general: Vec<&str> = path.iter().map(String::as_str).collect();
    if let [section, concept, ..] = &mut *general
        && *section == "workers"
        && is_concept(concept)
    {
        *concept = ANY;
    }
    general
}

/// Looks up a path.
pub(super) fn find(path: &[String]) -> Found<'static> {
    let general = general(path);
    for key in keys() {
        let own: Vec<&str> = key.path.split('.').collect();
        let is_within = general.starts_with(&own)
            && (own.len() == general.len() || matches!(key.kind, Kind::Table));
        if is_within {
            return Found::Key(key);
        }
        if own.starts_with(&general) {
            return Found::Section;
        }
    }
    Found::Unknown
}

/// Minimum similarity of a suggestion.
pub(super) const LIKENESS: f64 = 0.8;

/// The most similar key or section.
pub(super) fn nearest(path: &[String]) -> Option<String> {
    let wrong = general(path);
    let mut candidates: Vec<String> = Vec::new();
    for key in keys() {
        let parts: Vec<&str> = key.path.split('.').collect();
        if let Some(same_length) = parts.get(..wrong.len().min(parts.len())) {
            candidates.push(same_length.join("."));
        }
        candidates.push(key.path.clone());
    }
    let wrong_last = wrong.last().copied().unwrap_or_default();
    let likeness = |candidate: &str| {
        let whole = strsim::jaro_winkler(&wrong.join("."), candidate);
        // The right key in the wrong section.
        let last =
            strsim::jaro_winkler(wrong_last, candidate.rsplit('.').next().unwrap_or_default());
        if last == 1.0 { 1.0 } else { whole.min(last) }
    };
    let best = candidates.into_iter().map(|candidate| (likeness(&candidate), candidate));
    let (likeness, best) = best.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
    let concept = path.get(1).filter(|name| is_concept(name));
    (likeness >= LIKENESS).then(|| match concept {
        Some(concept) => best.replace(ANY, concept),
        None => best,
    })
}
