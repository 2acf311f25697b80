//! Formats times, values and rows for the terminal.

use std::time::{Duration, UNIX_EPOCH};

use concert_engine::provenance::{Action, Firing, Outcome, Summary};
use concert_wire::large::Reference;
use concert_wire::work::QueryPart;
use serde_json::{Map, Value};

use super::large::Expiries;

/// Heading of a list of rows.
pub(super) const HEADING: &str = "STARTED                   DURATION     STATUS  OUTCOME    ROOT                     FLOW                                  RESPONSE BY\n";

/// Maximum length of a value, in characters; longer values are truncated.
const LONGEST: usize = 48;

/// Colours, if enabled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint(pub(super) bool);

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    pub(super) fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    pub(super) fn waits(self, text: &str) -> String {
        self.with("33", text)
    }

    pub(super) fn faint(self, text: &str) -> String {
        self.with("2", text)
    }

    pub(super) fn rule(self, text: &str) -> String {
        self.with("36", text)
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(super) fn of(self, outcome: Outcome, text: &str) -> String {
        match outcome {
            Outcome::Succeeded => self.good(text),
            Outcome::Failed | Outcome::Fault | Outcome::Dead => self.bad(text),
            Outcome::Open => self.waits(text),
        }
    }
}

/// The word for an outcome.
pub(super) const fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Failed => "failed",
        Outcome::Fault => "fault",
        Outcome::Open => "open",
        Outcome::Dead => "dead",
    }
}

/// Replaces control characters, which a terminal would interpret.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Formats a duration such as `1.2 ms`: below 10 s in ms, above in s. Both have the same width.
pub(super) fn took(us: u64) -> String {
    if us < 10_000_000 {
        format!("{:>7}.{} ms", us / 1000, us % 1000 / 100)
    } else {
        format!("{:>7}.{} s ", us / 1_000_000, us % 1_000_000 / 100_000)
    }
}

pub(super) fn time(us: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_micros(us)).to_string()
}

fn value(value: &Value, expiries: &Expiries) -> String {
    if let Some(reference) = Reference::of(value) {
        return expiries.describe(&reference);
    }
    let text = match value {
        Value::String(text) if text.starts_with("sealed:") => return "sealed".to_owned(),
        other => other.to_string(),
    };
    let text = clean(&text);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// Formats an object without some keys: `user "u1", session sealed`.
pub(super) fn object(object: &Map<String, Value>, but: &[&str], expiries: &Expiries) -> String {
    let shown = object.iter().filter(|(key, _)| !but.contains(&key.as_str()));
    let shown: Vec<String> =
        shown.map(|(key, of)| format!("{} {}", clean(key), value(of, expiries))).collect();
    shown.join(", ")
}

/// `  (waited 0.4 ms; argon2id 16.8 ms)`: the time of an action in its queue, and the operations
/// that its worker waited for. Empty if the worker did not report them.
pub(super) fn work(action: &Action) -> String {
    let (Some(work), Some(waited_us)) = (&action.work, action.waited_us()) else {
        return String::new();
    };
    let parts = summed(work.parts.iter().map(|part| (part.name.clone(), part.took_us)));
    let parts = if parts.is_empty() { parts } else { format!("; {parts}") };
    format!("  (waited {}{parts})", ms(waited_us))
}

/// `  (queried Sessioning._getUser 1.2 ms)`, `  (2 queries: Article._getPage 1.2 ms,
/// Person._getProfile with 20 inputs 1.7 ms)`: the queries of a firing and their durations. Empty
/// if there are none, or the router did not report them.
pub(super) fn queries(firing: &Firing) -> String {
    let parts = firing.work.iter().flat_map(|work| &work.parts);
    let queries: Vec<(QueryPart<'_>, u64)> =
        parts.filter_map(|part| Some((part.query()?, part.took_us))).collect();
    let text = summed(queries.iter().map(|(QueryPart { concept, query, inputs }, took_us)| {
        let inputs = if *inputs == 1 { String::new() } else { format!(" with {inputs} inputs") };
        (format!("{concept}.{query}{inputs}"), *took_us)
    }));
    match queries.len() {
        0 => String::new(),
        1 => format!("  (queried {text})"),
        count => format!("  ({count} queries: {text})"),
    }
}

/// Durations of equal names are added up. The order is that of their first occurrence.
fn summed(parts: impl Iterator<Item = (String, u64)>) -> String {
    let mut sums: Vec<(String, u64)> = Vec::new();
    for (name, took_us) in parts {
        match sums.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum = sum.saturating_add(took_us),
            None => sums.push((name, took_us)),
        }
    }
    let sums: Vec<String> =
        sums.iter().map(|(name, took_us)| format!("{} {}", clean(name), ms(*took_us))).collect();
    sums.join(", ")
}

fn ms(us: u64) -> String {
    took(us).trim().to_owned()
}

/// A row of a list.
pub(super) fn row(row: &Summary, paint: Paint) -> String {
    let status = row.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
    let what = row.path.as_ref().unwrap_or(&row.root);
    let error = row.error.as_ref().map(|error| format!(" ({})", clean(error)));
    format!(
        "{}  {}  {status:>6}  {}  {:24} {}  {}{}\n",
        time(row.began_us),
        took(row.took_us),
        paint.of(row.outcome, &format!("{:9}", word(row.outcome))),
        clean(what),
        row.flow,
        paint.rule(row.answered_by.as_deref().unwrap_or("-")),
        paint.faint(&error.unwrap_or_default()),
    )
}
