//! Implements the queries about flows.

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

/// Default number of rows of a list.
const DEFAULT_ROWS: usize = 50;
/// Maximum number of rows of a list.
const MAX_ROWS: usize = 500;
/// Maximum length of a search text, in bytes.
const MAX_TEXT_BYTES: usize = 400;
/// Maximum number of concurrent text searches. Each scans many flows, so the other queries need
/// reserved capacity.
const SEARCHES: usize = 2;
/// Reserve for the headers of a response, out of the server's maximum message size.
const HEADERS_BYTES: usize = 1024;

/// The queries of the service.
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

/// Error of a query.
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
    /// HTTP-like error code.
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

/// Validates a filter, and returns the number of rows of the list.
fn checked(filter: &Filter) -> Result<usize, Refused> {
    let limit = filter.limit.unwrap_or(DEFAULT_ROWS);
    if !(1..=MAX_ROWS).contains(&limit) {
        return Err(Refused::Invalid(format!("`limit` must be from 1 to {MAX_ROWS}")));
    }
    if filter.before.as_deref().is_some_and(|before| !Filter::is_cursor(before)) {
        return Err(Refused::Invalid("`before` must be the `cursor` of a row".to_owned()));
    }
    let is_searchable = |text: &str| text.len() <= MAX_TEXT_BYTES && !text.contains('\0');
    if !filter.text.as_deref().is_none_or(is_searchable) {
        let why = format!("`text` must have at most {MAX_TEXT_BYTES} bytes, and no NUL byte");
        return Err(Refused::Invalid(why));
    }
    Ok(limit)
}

/// The state of the service.
pub(crate) struct Queries {
    bus: Bus,
    archive: Archive,
    rule_cache: Arc<RuleCache>,
    observers: Arc<Observers>,
    searches: Semaphore,
}

/// The messages of a flow, and its rules.
struct FoundFlow {
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

    /// Body of the response: `{"rows": […]}`.
    pub(crate) async fn run(&self, query: Query, body: &[u8]) -> Result<Vec<u8>, Refused> {
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

    fn max_bytes(&self) -> usize {
        self.bus.client.max_payload().saturating_sub(HEADERS_BYTES)
    }

    fn rows<T: serde::Serialize>(&self, rows: &[T]) -> Result<Vec<u8>, Refused> {
        let body = encode(&json!({ "rows": rows }));
        if body.len() > self.max_bytes() {
            let why = format!(
                "the response has {} bytes, which exceeds the server's message size; narrow the \
                 query",
                body.len()
            );
            return Err(Refused::Broken(why));
        }
        Ok(body)
    }

    /// Reads all messages of a flow, from the log and from the archive.
    async fn find(&self, flow: FlowId) -> Result<Option<FoundFlow>, Refused> {
        let hot = match log::read_flow(&self.bus, flow).await {
            Ok((_, hot)) => hot,
            // A flow that is too long for one read of the log is read from the archive.
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
        Ok(Some(FoundFlow { messages: all, source, compiled }))
    }

    async fn flow(&self, OfFlow { flow }: OfFlow) -> Result<Vec<u8>, Refused> {
        let Some(found) = self.find(flow).await? else {
            return self.rows::<Flow>(&[]);
        };
        let letters = self.archive.letters(flow).await.map_err(unavailable)?;
        let flow =
            provenance::flow(flow, &found.messages, &found.compiled.rules, &letters, found.source);
        let Some(mut flow) = flow else {
            return self.rows::<Flow>(&[]);
        };
        let body = encode(&json!({ "rows": [&flow] }));
        if body.len() <= self.max_bytes() {
            return Ok(body);
        }
        flow.leave_bodies_out();
        self.rows(&[flow])
    }

    async fn flows(&self, filter: Filter) -> Result<Vec<u8>, Refused> {
        let limit = checked(&filter)?;
        let is_search = filter.text.is_some();
        let _permit = match is_search.then(|| self.searches.try_acquire()).transpose() {
            Ok(permit) => permit,
            Err(_) => return Err(unavailable("too many concurrent searches; try again later")),
        };
        let rows = self.archive.list(&filter, limit).await.map_err(|error| {
            if is_search && repository::took_too_long(&error) {
                Refused::Invalid(
                    "the search takes too long; add a path, an outcome or a time range".to_owned(),
                )
            } else {
                unavailable(error)
            }
        })?;
        self.rows(&rows)
    }

    async fn why_not(&self, OfRule { flow, sync }: OfRule) -> Result<Vec<u8>, Refused> {
        let Some(found) = self.find(flow).await? else {
            return self.rows::<Value>(&[]);
        };
        let reason = provenance::why_not(flow, &found.messages, &found.compiled.rules, &sync);
        let reason = reason.map_err(|error| Refused::Invalid(error.to_string()))?;
        self.rows(&[reason])
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
