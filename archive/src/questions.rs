//! Answers to questions about flows.

use std::sync::Arc;

use concert_rules::graph;
use concert_rules::provenance::{self, Flow, Source, Stored};
use concert_rules::source::{SourceFile, Texts};
use concert_runtime::bus::Bus;
use concert_runtime::log;
use concert_wire::envelope::{Object, encode};
use concert_wire::id::FlowId;
use concert_wire::value;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::kept::{Archive, Filter};
use crate::observers::Observers;
use crate::rulebook::{Book, NoRules, Rulebook};
use crate::{messages, wrong};

/// Rows of a list, if nothing else is asked for.
const ROWS: usize = 50;
/// Rows of a list at most.
const MOST_ROWS: usize = 500;
/// What the headers of an answer may take of the size that the server allows.
const HEADERS_BYTES: usize = 1024;

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    Flow,
    Flows,
    WhyNot,
    Rules,
    Wrong,
}

impl Question {
    pub(crate) const ALL: [Self; 5] = [Self::Flow, Self::Flows, Self::WhyNot, Self::Rules, Self::Wrong];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Flow => "_flow",
            Self::Flows => "_flows",
            Self::WhyNot => "_whyNot",
            Self::Rules => "_rules",
            Self::Wrong => "_wrong",
        }
    }
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Unavailable(String),
    #[error("{0}")]
    Broken(String),
}

impl Refused {
    /// As HTTP has it.
    pub(crate) const fn code(&self) -> usize {
        match self {
            Self::Invalid(_) => 400,
            Self::Broken(_) => 500,
            Self::Unavailable(_) => 503,
        }
    }
}

impl From<NoRules> for Refused {
    fn from(error: NoRules) -> Self {
        Self::Unavailable(error.to_string())
    }
}

pub(crate) fn unavailable(error: impl std::fmt::Display) -> Refused {
    Refused::Unavailable(error.to_string())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfFlow {
    flow: FlowId,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfRule {
    flow: FlowId,
    sync: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfVersion {
    version: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn input<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    let body = if body.is_empty() { b"{}" } else { body };
    let object = value::object(body).map_err(|error| Refused::Invalid(error.to_string()))?;
    serde_json::from_value(Value::Object(object)).map_err(|error| Refused::Invalid(error.to_string()))
}

/// Answers.
pub(crate) struct Questions {
    bus: Bus,
    archive: Archive,
    rulebook: Arc<Rulebook>,
    observers: Arc<Observers>,
}

/// What is known of a flow.
struct Known {
    messages: Vec<Stored>,
    source: Source,
    book: Arc<Book>,
}

impl Questions {
    pub(crate) fn new(bus: Bus, archive: Archive, rulebook: Arc<Rulebook>, observers: Arc<Observers>) -> Self {
        Self {
            bus,
            archive,
            rulebook,
            observers,
        }
    }

    pub(crate) const fn bus(&self) -> &Bus {
        &self.bus
    }

    /// The body of the answer: `{"rows": […]}`.
    pub(crate) async fn answer(&self, question: Question, body: &[u8]) -> Result<Vec<u8>, Refused> {
        match question {
            Question::Flow => self.flow(input(body)?).await,
            Question::Flows => self.flows(input(body)?).await,
            Question::WhyNot => self.why_not(input(body)?).await,
            Question::Rules => self.rules(input(body)?).await,
            Question::Wrong => {
                let Nothing {} = input(body)?;
                let row = wrong::row(&self.bus, &self.archive, &self.rulebook).await?;
                self.rows(&[row])
            }
        }
    }

    fn most(&self) -> usize {
        self.bus.client.max_payload().saturating_sub(HEADERS_BYTES)
    }

    fn rows<T: serde::Serialize>(&self, rows: &[T]) -> Result<Vec<u8>, Refused> {
        let body = encode(&json!({ "rows": rows }));
        if body.len() > self.most() {
            let why = format!("the answer has {} bytes, more than the server takes", body.len());
            return Err(Refused::Broken(why));
        }
        Ok(body)
    }

    /// Everything of a flow: what the log has, and what only the archive has.
    async fn known(&self, flow: FlowId) -> Result<Option<Known>, Refused> {
        let (_, hot) = log::read_flow(&self.bus, flow).await.map_err(unavailable)?;
        let mut all: Vec<Stored> = hot.iter().map(messages::read).collect();
        let source = match messages::root(flow, &all) {
            Some(_) => Source::Log,
            None => Source::Archive,
        };
        if source == Source::Archive {
            for message in self.archive.flow(flow).await.map_err(unavailable)? {
                if all.iter().all(|known| known.seq != message.seq) {
                    all.push(message);
                }
            }
        }
        let Some(root) = messages::root(flow, &all) else {
            return Ok(None);
        };
        let book = self.rulebook.at(root.seq).await?;
        all.sort_by_key(|message| message.seq);
        Ok(Some(Known {
            messages: all,
            source,
            book,
        }))
    }

    async fn flow(&self, OfFlow { flow }: OfFlow) -> Result<Vec<u8>, Refused> {
        let Some(known) = self.known(flow).await? else {
            return self.rows::<Flow>(&[]);
        };
        let letters = self.archive.letters(flow).await.map_err(unavailable)?;
        let told = provenance::flow(flow, &known.messages, &known.book.rules, &letters, known.source);
        let Some(mut told) = told else {
            return self.rows::<Flow>(&[]);
        };
        let body = encode(&json!({ "rows": [&told] }));
        if body.len() <= self.most() {
            return Ok(body);
        }
        told.leave_bodies_out();
        self.rows(&[told])
    }

    async fn flows(&self, filter: Filter) -> Result<Vec<u8>, Refused> {
        let limit = filter.limit.unwrap_or(ROWS);
        if !(1..=MOST_ROWS).contains(&limit) {
            return Err(Refused::Invalid(format!("`limit` must be from 1 to {MOST_ROWS}")));
        }
        if filter
            .before
            .as_deref()
            .is_some_and(|before| !Filter::is_cursor(before))
        {
            return Err(Refused::Invalid("`before` must be the `cursor` of a row".to_owned()));
        }
        let rows = self.archive.list(&filter, limit).await.map_err(unavailable)?;
        self.rows(&rows)
    }

    async fn why_not(&self, OfRule { flow, sync }: OfRule) -> Result<Vec<u8>, Refused> {
        let Some(known) = self.known(flow).await? else {
            return self.rows::<Value>(&[]);
        };
        let told = provenance::why_not(flow, &known.messages, &known.book.rules, &sync);
        let told = told.map_err(|error| Refused::Invalid(error.to_string()))?;
        self.rows(&[told])
    }

    async fn rules(&self, OfVersion { version }: OfVersion) -> Result<Vec<u8>, Refused> {
        let book = match version {
            Some(version) => match self.rulebook.version(&version.into()).await {
                Ok(book) => book,
                Err(NoRules::Gone) => return self.rows::<Value>(&[]),
                Err(error) => return Err(error.into()),
            },
            None => self.rulebook.latest().await?,
        };
        let program = book.rules.program();
        let syncs: Vec<Value> = program
            .syncs
            .iter()
            .map(|sync| {
                let place = place(&book.texts, &sync.name);
                let when = sync.when.iter();
                let when = when.map(|pattern| format!("{}.{}", pattern.concept, pattern.action));
                let then = sync.calls().map(|call| format!("{}.{}", call.concept, call.action));
                let mut row = json!({
                    "name": &*sync.name,
                    "when": when.collect::<Vec<_>>(),
                    "then": then.collect::<Vec<_>>(),
                    "firings": self.observers.firings.of(&sync.name),
                });
                if let (Some(row), Some(place)) = (row.as_object_mut(), place) {
                    row.extend(place);
                }
                row
            })
            .collect();
        let row = json!({
            "version": program.version,
            "syncs": syncs,
            "svg": graph::of(program).to_svg(),
            "since_us": self.observers.firings.since_us(),
        });
        self.rows(&[row])
    }
}

/// Where a rule stands, and its text with the comment before it.
fn place(texts: &Texts, name: &str) -> Option<Object> {
    let heading = |line: &str| line.split_whitespace().eq(["sync", name]);
    texts.syncs.iter().find_map(|file| {
        let lines: Vec<&str> = file.text.lines().collect();
        let at = lines.iter().position(|line| heading(line))?;
        let is_comment = |line: &&&str| line.trim_start().starts_with("//");
        let comment = lines.iter().take(at).rev().take_while(is_comment).count();
        let (first, last) = (at - comment, end(&lines, at));
        let text = lines.get(first..=last)?.join("\n");
        Some(object(file, first, last, text))
    })
}

/// The last line of the rule whose heading stands at `at`.
fn end(lines: &[&str], at: usize) -> usize {
    let next = lines.iter().skip(at + 1).position(|line| line.starts_with("sync "));
    let until = next.map_or(lines.len(), |next| at + 1 + next);
    let is_of_rule = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    let last = lines.iter().take(until).enumerate().rev();
    last.map(|(number, line)| (number, *line))
        .find(|(number, line)| *number == at || is_of_rule(line))
        .map_or(at, |(number, _)| number)
}

fn object(file: &SourceFile, first: usize, last: usize, text: String) -> Object {
    Object::from_iter([
        ("file".to_owned(), Value::from(file.name.as_str())),
        ("line".to_owned(), Value::from(first + 1)),
        ("end_line".to_owned(), Value::from(last + 1)),
        ("text".to_owned(), Value::from(text)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_shown_with_its_comment_and_without_the_next_rule_s() {
        let text = "// File.\n\n// One.\nsync One\nwhen\n    A.b ()\n\nthen\n    C.d ()\n\n// Two.\nsync Two\nwhen\n    A.b ()\nthen\n    C.d ()\n";
        let texts = Texts {
            concepts: Vec::new(),
            syncs: vec![SourceFile::new("x.sync".to_owned(), text.to_owned())],
        };
        let found = place(&texts, "One").unwrap();
        assert_eq!(
            (found.get("line"), found.get("end_line")),
            (Some(&json!(3)), Some(&json!(9)))
        );
        let shown = found.get("text").and_then(Value::as_str).unwrap();
        assert_eq!(shown, "// One.\nsync One\nwhen\n    A.b ()\n\nthen\n    C.d ()");
        assert_eq!(place(&texts, "Two").unwrap().get("end_line"), Some(&json!(16)));
        assert_eq!(place(&texts, "Tw"), None);
    }
}
