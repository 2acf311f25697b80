//! Large values of a flow: their sizes and expiry, and the content of one.

use std::collections::HashMap;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use concert_engine::provenance::Flow;
use concert_runtime::blobs::Blobs;
use concert_runtime::bus::Bus;
use concert_wire::large::Reference;
use serde_json::{Map, Value};

/// Time until which each large value is stored, in milliseconds since 1970; `None` if it has
/// expired.
#[derive(Debug, Default)]
pub(super) struct Expiries(HashMap<Reference, Option<u64>>);

impl Expiries {
    /// Looks up the values of a flow that its tree shows.
    ///
    /// # Errors
    /// The server does not respond.
    pub(super) async fn of(flow: &Flow, bus: &Bus) -> anyhow::Result<Self> {
        let mut found = Self::default();
        for object in objects(flow) {
            object.values().for_each(|value| found.add(value));
        }
        if !found.0.is_empty() {
            let blobs = Blobs::connect(bus).await?;
            for (reference, expiry) in &mut found.0 {
                *expiry = blobs.expires_ms(reference).await?;
            }
        }
        Ok(found)
    }

    fn add(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.0.extend(text.parse().ok().map(|found| (found, None))),
            Value::Array(items) => items.iter().for_each(|item| self.add(item)),
            Value::Object(members) => members.values().for_each(|value| self.add(value)),
            _ => {}
        }
    }

    /// Describes a large value: `30.0 MB, sha256 c212…, until 2026-11-29T19:40:00Z`.
    pub(super) fn describe(&self, reference: &Reference) -> String {
        let until = match self.0.get(reference) {
            Some(Some(ms)) => {
                let time = UNIX_EPOCH + Duration::from_millis(*ms);
                format!("until {}", humantime::format_rfc3339_seconds(time))
            }
            Some(None) | None => "expired".to_owned(),
        };
        let digest = reference.digest().to_string();
        let digest = digest.get(..4).unwrap_or_default();
        format!("{}, sha256 {digest}…, {until}", size(reference.bytes()))
    }
}

/// A size such as `30.0 MB` or `40.5 KB`.
fn size(bytes: u64) -> String {
    let (unit, name) = if bytes < 1_000_000 { (1_000, "KB") } else { (1_000_000, "MB") };
    format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit)
}

fn objects(flow: &Flow) -> impl Iterator<Item = &Map<String, Value>> {
    let actions = flow.actions.iter();
    actions.flat_map(|action| [&action.input, &action.output]).filter_map(Option::as_ref)
}

/// Reads the value at a path such as `Library.createDocument.epubContent`: an action, a key of its
/// input or output, and the keys and indexes below it. A text has no quotes.
///
/// # Errors
/// The flow has no such value, or the value has expired.
pub(super) async fn read(flow: &Flow, path: &str, bus: &Bus) -> anyhow::Result<String> {
    let Some(value) = find(flow, path) else {
        bail!(
            "the flow has no value at `{path}`; name an action and a key of its input or output, \
             such as Library.createDocument.epubContent"
        );
    };
    match (Reference::of(value), value) {
        (Some(reference), _) => {
            let blobs = Blobs::connect(bus).await?;
            blobs.load(&reference).await.with_context(|| format!("cannot read `{path}`"))
        }
        (None, Value::String(text)) => Ok(text.clone()),
        (None, other) => Ok(other.to_string()),
    }
}

fn find<'a>(flow: &'a Flow, path: &str) -> Option<&'a Value> {
    let mut keys = path.split('.');
    let (concept, name) = (keys.next()?, keys.next()?);
    let first = keys.next()?;
    let actions = flow.actions.iter();
    let mut actions = actions.filter(|action| action.concept == concept && action.action == name);
    actions.find_map(|action| {
        [&action.input, &action.output].into_iter().flatten().find_map(|object| {
            keys.clone().try_fold(object.get(first)?, |value, key| match value {
                Value::Array(items) => items.get(key.parse::<usize>().ok()?),
                value => value.get(key),
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use concert_wire::large::Place;
    use serde_json::json;

    use super::*;

    #[test]
    fn large_value_is_described_by_size_digest_and_expiry() {
        let of = |bytes: usize| Reference::to_text(Place::new([1; 16]), &"x".repeat(bytes));
        let (one, other) = (of(40_960), of(3_270_000));
        let expiries = Expiries(HashMap::from([(one, Some(1_000_000)), (other, None)]));
        let digest = |of: &Reference| of.digest().to_string()[..4].to_owned();
        let text = format!("40.9 KB, sha256 {}…, until 1970-01-01T00:16:40Z", digest(&one));
        assert_eq!(expiries.describe(&one), text);
        let text = format!("3.2 MB, sha256 {}…, expired", digest(&other));
        assert_eq!(expiries.describe(&other), text);
    }

    #[test]
    fn path_finds_a_value_of_an_input_or_output() {
        let action = |name: &str, input: Value, output: Value| {
            json!({
                "id": name, "concept": "Library", "action": name, "asked_us": 1,
                "state": "completed", "input": input, "output": output,
            })
        };
        let flow: Flow = serde_json::from_value(json!({
            "flow": "f", "root": "r", "root_kind": "injected", "began_us": 1, "ended_us": 1,
            "outcome": "succeeded", "rules": "v", "source": "log", "firings": [],
            "near_misses": [],
            "actions": [
                action("add", json!({ "name": "Emma" }), json!({})),
                action("add", json!({ "name": "x", "pages": [{ "no": 7 }] }), json!({ "id": "d" })),
            ],
        }))
        .unwrap();
        for (path, expected) in [
            ("Library.add.name", Some(json!("Emma"))),
            ("Library.add.id", Some(json!("d"))),
            ("Library.add.pages.0.no", Some(json!(7))),
            ("Library.add.pages.1", None),
            ("Library.remove.name", None),
            ("Library.add", None),
        ] {
            assert_eq!(find(&flow, path), expected.as_ref(), "{path}");
        }
    }
}
