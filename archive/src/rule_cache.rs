//! Compiled rules of flows, by version. The texts come from the KV bucket, or from the archive if
//! the bucket no longer has them.

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
use concert_wire::routes::{ActiveSince, IN_FORCE_KEY, LIMITS_KEY, rules_key};

use crate::repository::Archive;

/// Number of cached versions.
const CACHED_VERSIONS: usize = 8;
/// Interval between reads of the flow limits: a router that starts may have other limits.
const LIMITS_INTERVAL: Duration = Duration::from_secs(10);

/// A compiled version and its texts.
pub(crate) struct RuleVersion {
    pub(crate) rules: Rules,
    pub(crate) texts: Texts,
}

/// Error: the rules of a flow are not available.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum NoRules {
    /// The read failed; a retry may succeed.
    #[error("cannot read the rules: {0}; try again later")]
    Unavailable(String),
    /// Neither the bucket nor the archive has the rules.
    #[error("the rules of this flow are no longer stored")]
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
    /// Versions by the sequence at which each became active.
    history: BTreeMap<u64, Arc<str>>,
    /// Sequence up to which the history is complete.
    through: u64,
    compiled: Vec<(Arc<str>, Arc<RuleVersion>)>,
    /// Flow limits of the cached versions, and the time when they were read.
    limits: Option<(Limits, Instant)>,
}

impl RuleCache {
    pub(crate) fn new(bus: Bus, archive: Archive) -> Self {
        Self { bucket: Bucket::of(&bus), bus, archive, known: Mutex::default() }
    }

    /// The rules that are active at a sequence of the log.
    pub(crate) async fn at(&self, seq: u64) -> Result<Arc<RuleVersion>, NoRules> {
        let version = match self.version_at(seq) {
            Some(version) => version,
            None => {
                self.read_history().await?;
                let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                let before = known.history.range(..=seq).next_back();
                before.map(|(_, version)| version.clone()).ok_or(NoRules::Gone)?
            }
        };
        self.version(&version).await
    }

    /// The rules that are active at a sequence of the log, if they are cached.
    pub(crate) fn cached_at(&self, seq: u64) -> Option<Arc<RuleVersion>> {
        self.cached(&self.version_at(seq)?)
    }

    /// The rules that are active now.
    pub(crate) async fn latest(&self) -> Result<Arc<RuleVersion>, NoRules> {
        self.read_history().await?;
        let version = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.history.last_key_value().map(|(_, version)| version.clone())
        };
        self.version(&version.ok_or(NoRules::Gone)?).await
    }

    fn version_at(&self, seq: u64) -> Option<Arc<str>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.history.range(..=seq).next_back();
        before.filter(|_| seq <= known.through).map(|(_, version)| version.clone())
    }

    /// Extends the known history by a log message.
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

    /// Reads the whole history from the bucket, the log and the archive.
    async fn read_history(&self) -> Result<(), NoRules> {
        // Read the log first: an activation that it has lost by then is in the bucket.
        let (through, of_log) = log::read_rule_history(&self.bus).await.map_err(unavailable)?;
        let kept: Vec<ActiveSince> =
            match self.bucket.get(IN_FORCE_KEY).await.map_err(unavailable)? {
                Some(text) => serde_json::from_slice(&text).map_err(unavailable)?,
                None => Vec::new(),
            };
        let archived = self.archive.history().await.map_err(unavailable)?;
        let read = kept.into_iter().chain(of_log).map(|since| (since.seq, since.version));
        let of_archive = archived.iter().map(|(seq, version)| (*seq, version.clone()));
        let found: BTreeMap<u64, Arc<str>> = of_archive.chain(read).collect();
        let new = found.iter().filter(|(seq, _)| !archived.contains_key(seq));
        self.archive.keep_history(new).await.map_err(unavailable)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.history = found;
        known.through = known.through.max(through);
        Ok(())
    }

    /// The rules of a version.
    pub(crate) async fn version(&self, version: &Arc<str>) -> Result<Arc<RuleVersion>, NoRules> {
        let limits = self.limits().await?;
        if let Some(compiled) = self.cached(version) {
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
                tracing::error!(
                    %version,
                    %report,
                    "this version of Concert cannot compile these stored rules; update it to the \
                     version of the routers"
                );
                return Err(NoRules::Gone);
            }
        };
        let rules = Rules::new(Arc::new(program), limits);
        let compiled = Arc::new(RuleVersion { rules, texts });
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Other limits may have been read in the meantime.
        if known.limits.is_some_and(|(now, _)| now == limits) {
            known.compiled.insert(0, (version.clone(), compiled.clone()));
            known.compiled.truncate(CACHED_VERSIONS);
        }
        Ok(compiled)
    }

    /// Current flow limits. Versions that were compiled with other limits are evicted.
    async fn limits(&self) -> Result<Limits, NoRules> {
        let known = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.limits
        };
        if let Some((limits, read)) = known
            && read.elapsed() < LIMITS_INTERVAL
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

    fn cached(&self, version: &str) -> Option<Arc<RuleVersion>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.compiled.iter().find(|(known, _)| &**known == version);
        found.map(|(_, compiled)| compiled.clone())
    }
}
