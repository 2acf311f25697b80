//! Times, values and rows as a person reads them in a terminal.

use std::time::{Duration, UNIX_EPOCH};

use concert_engine::provenance::{Action, Firing, Outcome, Summary};
use concert_wire::work::Part;
use serde_json::{Map, Value};

/// Above a list of rows.
pub(super) const HEADING: &str = "BEGAN                     TOOK         STATUS  OUTCOME    WHAT                     FLOW                                  ANSWERED BY\n";

/// Longer texts are cut.
const LONGEST: usize = 48;

/// Colours, if they are wanted.
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

/// A text without what a terminal would obey.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// `1.2 ms`, always as wide as any other below a minute.
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

fn value(value: &Value) -> String {
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

/// `user "u1", session sealed`, without some keys.
pub(super) fn object(object: &Map<String, Value>, but: &[&str]) -> String {
    let shown = object.iter().filter(|(key, _)| !but.contains(&key.as_str()));
    let shown: Vec<String> =
        shown.map(|(key, of)| format!("{} {}", clean(key), value(of))).collect();
    shown.join(", ")
}

/// `  (waited 0.4 ms; argon2id 16.8 ms)`: how long an action was in its queue, and what its worker
/// waited for; nothing where the worker did not say.
pub(super) fn work(action: &Action) -> String {
    let (Some(work), Some(waited_us)) = (&action.work, action.waited_us()) else {
        return String::new();
    };
    let parts = summed(work.parts.iter());
    let parts = if parts.is_empty() { parts } else { format!("; {parts}") };
    format!("  (waited {}{parts})", ms(waited_us))
}

/// `  (asked Sessioning._getUser 1.2 ms)`: which queries a firing asked, and how long each took;
/// nothing where it asked none, or the router did not say.
pub(super) fn asked(firing: &Firing) -> String {
    let parts = firing.work.iter().flat_map(|work| &work.parts);
    let questions = summed(parts.filter(|part| part.question().is_some()));
    if questions.is_empty() { questions } else { format!("  (asked {questions})") }
}

/// The parts with the times of those of one name together, in the order of the first of each.
fn summed<'a>(parts: impl Iterator<Item = &'a Part>) -> String {
    let mut sums: Vec<(&str, u64)> = Vec::new();
    for part in parts {
        match sums.iter_mut().find(|(name, _)| *name == part.name) {
            Some((_, took_us)) => *took_us = took_us.saturating_add(part.took_us),
            None => sums.push((&part.name, part.took_us)),
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
