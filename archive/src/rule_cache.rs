//! The rules that flows ran under, by version: from the bucket while it has them, from the archive
//! afterwards.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use concert_engine::Limits;
use concert_engine::provenance::{Rules, Stored};
use concert_lang::Texts;
use concert_runtime::bus::Bus;
use concert_runtime::log;
use concert_runtime::route_table::Bucket;
use concert_wire::id::FlowId;
use concert_wire::routes::{IN_FORCE_KEY, InForceSince, LIMITS_KEY, rules_key};

use crate::repository::Archive;

/// Versions that are kept ready.
const READY: usize = 8;
/// How often what bounds a flow is read: a router that starts may have other limits.
const LIMITS_EVERY: Duration = Duration::from_secs(10);

/// A version with what it was made of.
pub(crate) struct RuleVersion {
    pub(crate) rules: Rules,
    pub(crate) texts: Texts,
}

/// The rules of a flow are not to be had.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum NoRules {
    /// Now; later they may be.
    #[error("the rules cannot be read now: {0}")]
    Unavailable(String),
    /// They are nowhere.
    #[error("the rules that this flow ran under are no longer there")]
    Gone,
}

fn unavailable(error: impl std::fmt::Display) -> NoRules {
    NoRules::Unavailable(error.to_string())
}

pub(crate) struct RuleCache {
    bus: Bus,
    bucket: Bucket,
    archive: Archive,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// From which sequence on which version is in force.
    history: BTreeMap<u64, Arc<str>>,
    /// The history is complete up to here.
    through: u64,
    compiled: Vec<(Arc<str>, Arc<RuleVersion>)>,
    /// What bounds a flow in these compiled, and when it was read.
    limits: Option<(Limits, Instant)>,
}

impl RuleCache {
    pub(crate) fn new(bus: Bus, archive: Archive) -> Self {
        Self { bucket: Bucket::of(&bus), bus, archive, known: Mutex::default() }
    }

    /// The rules in force at a sequence of the log.
    pub(crate) async fn at(&self, seq: u64) -> Result<Arc<RuleVersion>, NoRules> {
        let version = match self.known_at(seq) {
            Some(version) => version,
            None => {
                self.learn().await?;
                let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                let before = known.history.range(..=seq).next_back();
                before.map(|(_, version)| version.clone()).ok_or(NoRules::Gone)?
            }
        };
        self.version(&version).await
    }

    /// The rules in force at a sequence of the log, if they are at hand.
    pub(crate) fn at_hand(&self, seq: u64) -> Option<Arc<RuleVersion>> {
        self.ready(&self.known_at(seq)?)
    }

    /// The rules in force now.
    pub(crate) async fn latest(&self) -> Result<Arc<RuleVersion>, NoRules> {
        self.learn().await?;
        let version = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.history.last_key_value().map(|(_, version)| version.clone())
        };
        self.version(&version.ok_or(NoRules::Gone)?).await
    }

    fn known_at(&self, seq: u64) -> Option<Arc<str>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.history.range(..=seq).next_back();
        before.filter(|_| seq <= known.through).map(|(_, version)| version.clone())
    }

    /// Takes from the log's own messages that the history is known up to a sequence.
    pub(crate) fn received(&self, flow: FlowId, stored: &Stored) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if stored.seq != known.through + 1 {
            return;
        }
        known.through = stored.seq;
        if flow == FlowId::of_rules()
            && let Some(version) = log::activated_version(&stored.body)
        {
            known.history.insert(stored.seq, version);
        }
    }

    /// Reads the whole history: what the bucket, the log and the archive have of it.
    async fn learn(&self) -> Result<(), NoRules> {
        // The log first: what has gone from it by now stands in the bucket.
        let (through, of_log) = log::read_rule_history(&self.bus).await.map_err(unavailable)?;
        let kept: Vec<InForceSince> =
            match self.bucket.get(IN_FORCE_KEY).await.map_err(unavailable)? {
                Some(text) => serde_json::from_slice(&text).map_err(unavailable)?,
                None => Vec::new(),
            };
        let archived = self.archive.history().await.map_err(unavailable)?;
        let told = kept.into_iter().chain(of_log).map(|since| (since.seq, since.version));
        let of_archive = archived.iter().map(|(seq, version)| (*seq, version.clone()));
        let found: BTreeMap<u64, Arc<str>> = of_archive.chain(told).collect();
        let news = found.iter().filter(|(seq, _)| !archived.contains_key(seq));
        self.archive.keep_history(news).await.map_err(unavailable)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.history = found;
        known.through = known.through.max(through);
        Ok(())
    }

    /// The rules of a version.
    pub(crate) async fn version(&self, version: &Arc<str>) -> Result<Arc<RuleVersion>, NoRules> {
        let limits = self.limits().await?;
        if let Some(compiled) = self.ready(version) {
            return Ok(compiled);
        }
        let texts: Texts = match self.bucket.get(&rules_key(version)).await.map_err(unavailable)? {
            Some(texts) => {
                self.archive.keep_texts(version, &texts).await.map_err(unavailable)?;
                serde_json::from_slice(&texts).map_err(unavailable)?
            }
            None => {
                let texts = self.archive.texts(version).await.map_err(unavailable)?;
                serde_json::from_slice(&texts.ok_or(NoRules::Gone)?).map_err(unavailable)?
            }
        };
        let program = match texts.compile() {
            Ok(program) => program,
            Err(report) => {
                tracing::error!(%version, %report, "rules that some router took are not understood here");
                return Err(NoRules::Gone);
            }
        };
        let rules = Rules::new(Arc::new(program), limits);
        let compiled = Arc::new(RuleVersion { rules, texts });
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Others may have been read meanwhile.
        if known.limits.is_some_and(|(now, _)| now == limits) {
            known.compiled.insert(0, (version.clone(), compiled.clone()));
            known.compiled.truncate(READY);
        }
        Ok(compiled)
    }

    /// What bounds a flow now. Books that were made with other limits are let go.
    async fn limits(&self) -> Result<Limits, NoRules> {
        let known = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.limits
        };
        if let Some((limits, read)) = known
            && read.elapsed() < LIMITS_EVERY
        {
            return Ok(limits);
        }
        let limits = match self.bucket.get(LIMITS_KEY).await.map_err(unavailable)? {
            Some(limits) => serde_json::from_slice(&limits).map_err(unavailable)?,
            None => Limits::default(),
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.limits.is_some_and(|(before, _)| before != limits) {
            known.compiled.clear();
        }
        known.limits = Some((limits, Instant::now()));
        Ok(limits)
    }

    fn ready(&self, version: &str) -> Option<Arc<RuleVersion>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.compiled.iter().find(|(known, _)| &**known == version);
        found.map(|(_, compiled)| compiled.clone())
    }
}
