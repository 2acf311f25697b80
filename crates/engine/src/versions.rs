//! The version of the rules that a flow runs under: the one that was active at its root.
//!
//! Activating rules is a message in the log, so every router agrees on it. The known messages of
//! this kind are complete through some sequence. They may be used for a later root only if this
//! engine received everything in between.

use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use crate::index::Index;
use concert_lang::program::Program;

/// The name of a version of the rules.
pub type Version = Arc<str>;

/// Maximum number of loaded versions. An evicted version is fetched when a flow needs it.
const KEPT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(7);

/// Reason why a flow cannot run now.
#[derive(Debug, PartialEq)]
pub(crate) enum Missing {
    /// The version is unknown.
    History,
    /// The version is known, and its rules are not loaded.
    Rules(Version),
}

pub(crate) struct Versions {
    /// The first sequence of each active version, in the order of the log.
    history: Vec<(u64, Version)>,
    /// The history is complete up to this sequence.
    complete_through: u64,
    loaded: LruCache<Version, Arc<Index>>,
}

impl Versions {
    pub(crate) fn unknown() -> Self {
        Self { history: Vec::new(), complete_through: 0, loaded: LruCache::new(KEPT) }
    }

    /// Rules that are always active.
    pub(crate) fn fixed(program: &Program) -> Self {
        let mut versions = Self::unknown();
        versions.load(program);
        versions.put_in_force(0, program.version.as_str().into());
        versions.complete_through = u64::MAX - 1;
        versions
    }

    pub(crate) fn load(&mut self, program: &Program) {
        let version = Version::from(program.version.as_str());
        self.loaded.put(version, Arc::new(Index::new(program)));
    }

    pub(crate) fn put_in_force(&mut self, seq: u64, version: Version) {
        let at = self.history.partition_point(|(other, _)| *other < seq);
        if self.history.get(at).is_none_or(|(other, _)| *other != seq) {
            self.history.insert(at, (seq, version));
        }
    }

    /// Returns whether no active version is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.history.is_empty()
    }

    /// Marks the history as complete up to `seq`.
    pub(crate) fn known_through(&mut self, seq: u64) {
        self.complete_through = self.complete_through.max(seq);
    }

    /// Everything from `run_start` to `last` was received; extends the history if it has no gap
    /// before.
    pub(crate) fn received(&mut self, run_start: u64, last: u64) {
        if run_start <= self.complete_through.saturating_add(1) {
            self.known_through(last);
        }
    }

    /// The rules of a flow with its root at sequence `root`.
    pub(crate) fn at(&mut self, root: u64) -> Result<Arc<Index>, Missing> {
        if root > self.complete_through.saturating_add(1) {
            return Err(Missing::History);
        }
        // For a root before the first known message, the first known version is the best choice.
        let before = self.history.partition_point(|(seq, _)| *seq < root).saturating_sub(1);
        let (_, version) = self.history.get(before).ok_or(Missing::History)?;
        match self.loaded.get(version) {
            Some(index) => Ok(index.clone()),
            None => Err(Missing::Rules(version.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flow_runs_under_the_version_active_at_its_root() {
        let mut versions = Versions::unknown();
        versions.put_in_force(20, "b".into());
        versions.put_in_force(10, "a".into());
        versions.put_in_force(20, "b".into());
        versions.known_through(30);
        for (root, expected) in [(5, "a"), (10, "a"), (11, "a"), (20, "a"), (21, "b"), (31, "b")] {
            assert_eq!(versions.at(root).err(), Some(Missing::Rules(expected.into())), "{root}");
        }
        assert_eq!(versions.at(32).err(), Some(Missing::History));
    }

    #[test]
    fn history_extends_only_without_gaps() {
        let mut versions = Versions::unknown();
        versions.put_in_force(1, "a".into());
        versions.known_through(10);
        versions.received(12, 15);
        assert_eq!(versions.at(15).err(), Some(Missing::History));
        versions.received(11, 15);
        assert_eq!(versions.at(16).err(), Some(Missing::Rules("a".into())));
    }
}
