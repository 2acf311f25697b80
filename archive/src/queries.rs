//! Answers to queries about flows.

use std::sync::Arc;

use concert_analysis::graph;
use concert_engine::provenance::{self, Flow, Source, Stored};
use concert_runtime::bus::Bus;
use concert_runtime::log::{self, ReadError};
use concert_wire::envelope::encode;
use concert_wire::id::FlowId;
use concert_wire::value;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::observers::Observers;
use crate::repository::{self, Archive, Filter};
use crate::rule_cache::{NoRules, RuleCache, RuleVersion};
use crate::{messages, problems, rule_rows};

/// Rows of a list, if nothing else is asked for.
const ROWS: usize = 50;
/// Rows of a list at most.
const MOST_ROWS: usize = 500;
/// The text that a list may be searched for, in bytes at most.
const MOST_TEXT_BYTES: usize = 400;
/// Searches for a text at once: each reads flow after flow, and other queries are to have room
/// beside them.
const SEARCHES: usize = 2;
/// What the headers of an answer may take of the size that the server allows.
const HEADERS_BYTES: usize = 1024;

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Query {
    Flow,
    Flows,
    WhyNot,
    Rules,
    Wrong,
}

impl Query {
    pub(crate) const ALL: [Self; 5] =
        [Self::Flow, Self::Flows, Self::WhyNot, Self::Rules, Self::Wrong];

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

/// Why a query has no answer.
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
    serde_json::from_value(Value::Object(object))
        .map_err(|error| Refused::Invalid(error.to_string()))
}

/// How many rows a list asks for, if all of what it asks for can be.
fn checked(filter: &Filter) -> Result<usize, Refused> {
    let limit = filter.limit.unwrap_or(ROWS);
    if !(1..=MOST_ROWS).contains(&limit) {
        return Err(Refused::Invalid(format!("`limit` must be from 1 to {MOST_ROWS}")));
    }
    if filter.before.as_deref().is_some_and(|before| !Filter::is_cursor(before)) {
        return Err(Refused::Invalid("`before` must be the `cursor` of a row".to_owned()));
    }
    let is_searchable = |text: &str| text.len() <= MOST_TEXT_BYTES && !text.contains('\0');
    if !filter.text.as_deref().is_none_or(is_searchable) {
        let why = format!("`text` may have {MOST_TEXT_BYTES} bytes, none of them zero");
        return Err(Refused::Invalid(why));
    }
    Ok(limit)
}

/// Answers.
pub(crate) struct Queries {
    bus: Bus,
    archive: Archive,
    rule_cache: Arc<RuleCache>,
    observers: Arc<Observers>,
    searches: Semaphore,
}

/// What is known of a flow.
struct Known {
    messages: Vec<Stored>,
    source: Source,
    compiled: Arc<RuleVersion>,
}

impl Queries {
    pub(crate) fn new(
        bus: Bus,
        archive: Archive,
        rule_cache: Arc<RuleCache>,
        observers: Arc<Observers>,
    ) -> Self {
        Self { bus, archive, rule_cache, observers, searches: Semaphore::new(SEARCHES) }
    }

    pub(crate) const fn bus(&self) -> &Bus {
        &self.bus
    }

    /// The body of the answer: `{"rows": […]}`.
    pub(crate) async fn answer(&self, query: Query, body: &[u8]) -> Result<Vec<u8>, Refused> {
        match query {
            Query::Flow => self.flow(input(body)?).await,
            Query::Flows => self.flows(input(body)?).await,
            Query::WhyNot => self.why_not(input(body)?).await,
            Query::Rules => self.rules(input(body)?).await,
            Query::Wrong => {
                let Nothing {} = input(body)?;
                let row = problems::row(&self.bus, &self.archive, &self.rule_cache).await?;
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
        let hot = match log::read_flow(&self.bus, flow).await {
            Ok((_, hot)) => hot,
            // What is too long for one read of the log is read from the archive.
            Err(ReadError::TooLong) => Vec::new(),
            Err(error) => return Err(unavailable(error)),
        };
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
        let compiled = self.rule_cache.at(root.seq).await?;
        all.sort_by_key(|message| message.seq);
        Ok(Some(Known { messages: all, source, compiled }))
    }

    async fn flow(&self, OfFlow { flow }: OfFlow) -> Result<Vec<u8>, Refused> {
        let Some(known) = self.known(flow).await? else {
            return self.rows::<Flow>(&[]);
        };
        let letters = self.archive.letters(flow).await.map_err(unavailable)?;
        let told =
            provenance::flow(flow, &known.messages, &known.compiled.rules, &letters, known.source);
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
        let limit = checked(&filter)?;
        let is_search = filter.text.is_some();
        let _place = match is_search.then(|| self.searches.try_acquire()).transpose() {
            Ok(place) => place,
            Err(_) => return Err(unavailable("other searches are under way; try again later")),
        };
        let rows = self.archive.list(&filter, limit).await.map_err(|error| {
            if is_search && repository::took_too_long(&error) {
                Refused::Invalid(
                    "that takes too long to find: say a path, an outcome or a time as well"
                        .to_owned(),
                )
            } else {
                unavailable(error)
            }
        })?;
        self.rows(&rows)
    }

    async fn why_not(&self, OfRule { flow, sync }: OfRule) -> Result<Vec<u8>, Refused> {
        let Some(known) = self.known(flow).await? else {
            return self.rows::<Value>(&[]);
        };
        let told = provenance::why_not(flow, &known.messages, &known.compiled.rules, &sync);
        let told = told.map_err(|error| Refused::Invalid(error.to_string()))?;
        self.rows(&[told])
    }

    async fn rules(&self, OfVersion { version }: OfVersion) -> Result<Vec<u8>, Refused> {
        let compiled = match version {
            Some(version) => match self.rule_cache.version(&version.into()).await {
                Ok(compiled) => compiled,
                Err(NoRules::Gone) => return self.rows::<Value>(&[]),
                Err(error) => return Err(error.into()),
            },
            None => self.rule_cache.latest().await?,
        };
        let program = compiled.rules.program();
        let row = json!({
            "version": program.version,
            "syncs": rule_rows::syncs(&compiled, &self.observers.firings),
            "svg": graph::of(program).to_svg(),
            "since_us": self.observers.firings.since_us(),
        });
        self.rows(&[row])
    }
}
