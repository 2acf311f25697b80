//! The active rules. An activation is a message in the log. The KV bucket keeps a copy for when the
//! log no longer has it. The key `in-force` holds the version history, `rules.<version>` the texts
//! of a version, and `limits` the flow limits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use concert_analysis::describe;
use concert_engine::{Event, Limits, Version};
use concert_lang::Texts;
use concert_lang::program::Program;
use concert_runtime::bus::Bus;
use concert_runtime::log::{self, Published};
use concert_runtime::nats::{HeaderMap, kv};
use concert_runtime::{route_table, streams};
use concert_wire::envelope::{Completion, Object, encode};
use concert_wire::id::{ActionId, FlowId};
use concert_wire::routes::{
    ASYNCAPI_KEY, ActiveSince as Since, IN_FORCE_KEY, LIMITS_KEY, OPENAPI_KEY, ROUTES_KEY,
    RouteTable, TYPED_ROUTES_KEY, rules_key,
};
use concert_wire::{IN_FORCE, RESERVED_CONCEPT, subject};
use serde_json::Value;

use crate::rules::Rules;
use crate::takeover::Activity;
use crate::worker_specs::WorkerSpecs;

/// Maximum number of attempts to change the history concurrently with other routers.
const ATTEMPTS: usize = 10;

/// Error of reading or changing the active rules.
#[derive(Debug, thiserror::Error)]
pub enum ActiveRulesError {
    /// A NATS request fails.
    #[error("cannot read or change the active rules: {0}")]
    Bus(String),
    /// The bucket has no texts of this version.
    #[error("the bucket has no rules of version {0}; restart a router that has their files")]
    Missing(Version),
    /// This router cannot compile the stored texts of a version.
    #[error(
        "this router cannot compile the stored rules of version {version}; update it:\n{report}"
    )]
    Broken {
        /// Version of the rules.
        version: Version,
        /// Report of all errors.
        report: String,
    },
}

fn bus_error(error: impl std::fmt::Display) -> ActiveRulesError {
    ActiveRulesError::Bus(error.to_string())
}

/// Reads and changes the active rules.
#[derive(Clone)]
pub(crate) struct ActiveRules {
    bus: Bus,
    bucket: kv::Store,
    /// The rules from this router's own files, which need not be fetched.
    own: Arc<Mutex<Arc<Rules>>>,
    workers: WorkerSpecs,
}

impl ActiveRules {
    pub(crate) fn new(bus: Bus, bucket: kv::Store, own: Arc<Rules>, workers: WorkerSpecs) -> Self {
        let own = Arc::new(Mutex::new(own));
        Self { bus, bucket, own, workers }
    }

    /// This router's own rules, if they have this version.
    fn own(&self, version: &str) -> Option<Arc<Rules>> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        Some(own.clone()).filter(|own| own.program.version == version)
    }

    /// Like [`activate`](Self::activate), with new own rules.
    pub(crate) async fn change(&self, rules: Rules) -> Result<bool, ActiveRulesError> {
        let rules = Arc::new(rules);
        *self.own.lock().unwrap_or_else(PoisonError::into_inner) = rules.clone();
        self.activate(&rules).await
    }

    /// The reasons why workers cannot serve these rules now.
    pub(crate) async fn missing_workers(&self, program: &Program) -> Vec<String> {
        self.workers.missing(program).await
    }

    /// Activations of rule versions, and the sequence up to which they are complete.
    async fn history(&self) -> Result<(u64, Vec<Since>), ActiveRulesError> {
        // Read the log first: an activation that it has lost by then was acknowledged, so it is in
        // the bucket.
        let (through, of_log) = log::read_rule_history(&self.bus).await.map_err(bus_error)?;
        let (_, mut history) = self.kept().await?;
        for Since { seq, version } in of_log {
            add(&mut history, seq, version);
        }
        Ok((through, history))
    }

    /// History in the bucket, and its revision.
    async fn kept(&self) -> Result<(u64, Vec<Since>), ActiveRulesError> {
        match self.bucket.entry(IN_FORCE_KEY).await.map_err(bus_error)? {
            Some(entry) => {
                let history = serde_json::from_slice(&entry.value).map_err(bus_error)?;
                Ok((entry.revision, history))
            }
            None => Ok((0, Vec::new())),
        }
    }

    /// Replaces a history in the bucket that is not valid JSON by that of the log. If the log has
    /// none, the caller's rules become active.
    async fn repair(&self) -> Result<(), ActiveRulesError> {
        let Some(entry) = self.bucket.entry(IN_FORCE_KEY).await.map_err(bus_error)? else {
            return Ok(());
        };
        let Err(error) = serde_json::from_slice::<Vec<Since>>(&entry.value) else {
            return Ok(());
        };
        tracing::error!(%error, "the version history in the bucket is damaged; rebuilding it");
        let (_, of_log) = log::read_rule_history(&self.bus).await.map_err(bus_error)?;
        let mut history = Vec::new();
        for Since { seq, version } in of_log {
            add(&mut history, seq, version);
        }
        // Another router may have repaired it.
        let repaired =
            self.bucket.update(IN_FORCE_KEY, encode(&history).into(), entry.revision).await;
        if let Err(error) = repaired {
            tracing::debug!(%error, "another router changed the history");
        }
        Ok(())
    }

    /// Reads the history for the engine.
    pub(crate) async fn read(&self) -> Event {
        match self.history().await {
            Ok((through, history)) => Event::RulesRead {
                through,
                history: history.into_iter().map(|since| (since.seq, since.version)).collect(),
            },
            Err(error) => {
                tracing::warn!(%error, "cannot read the version history; retrying");
                Event::RulesUnreadable
            }
        }
    }

    /// Activates rules, unless they are active already. Returns whether it did.
    pub(crate) async fn activate(&self, rules: &Rules) -> Result<bool, ActiveRulesError> {
        let version = rules.program.version.as_str();
        self.repair().await?;
        let (_, history) = self.history().await?;
        let latest = history.last();
        let is_new = latest.is_none_or(|latest| &*latest.version != version);
        self.keep_texts(rules).await?;
        // Before the activation, so that few requests meet a worker with another spec.
        let unavailable = self.workers.check(&rules.program).await;
        if is_new {
            let id = ActionId::activation(latest.map_or(0, |latest| latest.seq), version);
            let body = Completion {
                input: Object::from_iter([("rules".to_owned(), Value::from(version))]),
                output: Object::new(),
            };
            let subject = subject::completion(FlowId::of_rules(), RESERVED_CONCEPT, IN_FORCE, id);
            let published =
                log::publish_once(&self.bus, subject, HeaderMap::new(), encode(&body).into())
                    .await
                    .map_err(bus_error)?;
            match published {
                Published::Stored => {
                    tracing::info!(version, rules = rules.program.syncs.len(), "rules activated")
                }
                Published::AlreadyThere => {
                    tracing::debug!(version, "another router activated these rules")
                }
            }
        }
        self.publish_routes(&rules.program, unavailable).await?;
        Ok(is_new)
    }

    /// Stores the flow limits for the archive.
    pub(crate) async fn keep_limits(&self, limits: &Limits) -> Result<(), ActiveRulesError> {
        self.bucket.put(LIMITS_KEY, encode(limits).into()).await.map(|_| ()).map_err(bus_error)
    }

    async fn keep_texts(&self, rules: &Rules) -> Result<(), ActiveRulesError> {
        let key = rules_key(&rules.program.version);
        self.bucket.put(key, encode(&rules.texts).into()).await.map(|_| ()).map_err(bus_error)
    }

    async fn publish_routes(
        &self,
        program: &Program,
        unavailable: BTreeMap<String, String>,
    ) -> Result<(), ActiveRulesError> {
        // Publish the documents before the table, because edges reload when the table changes.
        for (key, document) in [
            (OPENAPI_KEY, describe::openapi(program, "")),
            (ASYNCAPI_KEY, describe::asyncapi(program)),
        ] {
            self.bucket.put(key, encode(&document).into()).await.map_err(bus_error)?;
        }
        self.publish_tables(program, unavailable).await
    }

    async fn publish_tables(
        &self,
        program: &Program,
        unavailable: BTreeMap<String, String>,
    ) -> Result<(), ActiveRulesError> {
        let routes = RouteTable { unavailable, ..program.routes.clone() };
        // The table of release 0.1.0 comes last, because edges are notified of it.
        for (key, table) in [(TYPED_ROUTES_KEY, &routes), (ROUTES_KEY, &routes.released())] {
            let table: Bytes = encode(table).into();
            self.bucket.put(key, table).await.map_err(bus_error)?;
        }
        Ok(())
    }

    /// The published table, with all routes unless a router of release 0.1.0 published it.
    async fn published(&self) -> Result<Option<RouteTable>, ActiveRulesError> {
        let read = async |key: &str| self.bucket.get(key).await.map_err(bus_error);
        let Some(table) = read(ROUTES_KEY).await? else { return Ok(None) };
        let newest = route_table::newest(table, read(TYPED_ROUTES_KEY).await?);
        // A damaged table is repaired by the next activation.
        Ok(serde_json::from_slice(&newest).ok())
    }

    /// Checks the workers of the active rules. If the paths that they can serve have changed, the
    /// active router publishes the table again. `last` are the rules of the last check.
    pub(crate) async fn check_workers(
        &self,
        last: &mut Option<Arc<Program>>,
        activity: &Activity,
    ) -> Result<(), ActiveRulesError> {
        let Some(table) = self.published().await? else { return Ok(()) };
        let program = match last.take().filter(|last| last.version == table.version) {
            Some(program) => program,
            None => self.program(&table.version.as_str().into()).await?,
        };
        let unavailable = self.workers.check(&program).await;
        if unavailable != table.unavailable
            && activity.is_active().await
            // The table may have changed during the check.
            && self.published().await?.is_some_and(|now| now == table)
        {
            self.publish_tables(&program, unavailable).await?;
        }
        *last = Some(program);
        Ok(())
    }

    /// Stores in the bucket that a version became active at `seq`, deletes versions that no flow in
    /// the log can need, and publishes the routes.
    pub(crate) async fn adopt(&self, seq: u64, version: &Version) -> Result<(), ActiveRulesError> {
        if let Some(own) = self.own(version) {
            self.keep_texts(&own).await?;
        }
        let first = streams::log_state(&self.bus).await.map_err(bus_error)?.first_sequence;
        for _ in 0..ATTEMPTS {
            let (revision, mut history) = self.kept().await?;
            add(&mut history, seq, version.clone());
            let gone = forget(&mut history, first);
            // A missing key has revision 0.
            let changed = self.bucket.update(IN_FORCE_KEY, encode(&history).into(), revision).await;
            if let Err(error) = changed {
                tracing::debug!(%error, "another router changed the history; it is read again");
                continue;
            }
            for version in gone {
                self.bucket.purge(rules_key(&version)).await.map_err(bus_error)?;
            }
            if history.last().is_some_and(|latest| latest.seq == seq) {
                let program = self.program(version).await?;
                // The router that activated the version has published its routes already.
                let table = self.published().await?;
                if table.is_none_or(|table| table.version != program.version) {
                    let unavailable = self.workers.check(&program).await;
                    self.publish_routes(&program, unavailable).await?;
                }
            }
            return Ok(());
        }
        Err(bus_error("other routers keep changing the history"))
    }

    /// Fetches the rules of a version for the engine.
    pub(crate) async fn fetch(&self, version: &Version) -> Event {
        match self.program(version).await {
            Ok(program) => Event::RulesFetched(program),
            Err(error) => {
                tracing::error!(%error, "cannot fetch rules; their flows wait");
                Event::RulesUnavailable
            }
        }
    }

    async fn program(&self, version: &Version) -> Result<Arc<Program>, ActiveRulesError> {
        if let Some(own) = self.own(version) {
            return Ok(own.program.clone());
        }
        let texts = self.bucket.get(rules_key(version)).await.map_err(bus_error)?;
        let texts = texts.ok_or_else(|| ActiveRulesError::Missing(version.clone()))?;
        let texts: Texts = serde_json::from_slice(&texts).map_err(bus_error)?;
        let program = texts.compile().map_err(|report| ActiveRulesError::Broken {
            version: version.clone(),
            report: report.to_string(),
        })?;
        Ok(Arc::new(program))
    }
}

fn add(history: &mut Vec<Since>, seq: u64, version: Version) {
    let at = history.partition_point(|since| since.seq < seq);
    if history.get(at).is_none_or(|since| since.seq != seq) {
        history.insert(at, Since { seq, version });
    }
}

/// Removes versions that were inactive at `first`, the log's first message. Returns the versions
/// that no longer occur.
fn forget(history: &mut Vec<Since>, first: u64) -> Vec<Version> {
    let needed_from = history.partition_point(|since| since.seq < first).saturating_sub(1);
    let gone: Vec<Since> = history.drain(..needed_from).collect();
    let gone = gone.into_iter().map(|since| since.version);
    gone.filter(|version| history.iter().all(|since| since.version != *version)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_forgotten_when_its_successor_precedes_the_log() {
        let check = |first: u64, left: &[u64], gone: &[&str]| {
            let mut history = Vec::new();
            for (seq, version) in [(50, "a"), (10, "a"), (30, "b"), (40, "c"), (30, "b")] {
                add(&mut history, seq, version.into());
            }
            let forgotten = forget(&mut history, first);
            let seqs: Vec<u64> = history.iter().map(|since| since.seq).collect();
            assert_eq!(seqs, left, "{first}");
            assert_eq!(forgotten, gone.iter().map(|name| Version::from(*name)).collect::<Vec<_>>());
        };
        check(1, &[10, 30, 40, 50], &[]);
        check(30, &[10, 30, 40, 50], &[]);
        check(31, &[30, 40, 50], &[]);
        check(41, &[40, 50], &["b"]);
        check(100, &[50], &["b", "c"]);
    }
}
