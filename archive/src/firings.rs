//! Number of firings of each rule, in the flows that this archive has stored since it started.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

pub(crate) struct Firings {
    since_ms: u64,
    counts: Mutex<BTreeMap<String, u64>>,
}

impl Firings {
    pub(crate) fn new(since_ms: u64) -> Self {
        Self { since_ms, counts: Mutex::default() }
    }

    pub(crate) fn count(&self, sync: &str) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(sync) {
            Some(count) => *count += 1,
            None => drop(counts.insert(sync.to_owned(), 1)),
        }
    }

    pub(crate) fn of(&self, sync: &str) -> u64 {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(sync).copied().unwrap_or_default()
    }

    pub(crate) const fn since_us(&self) -> u64 {
        self.since_ms * 1000
    }
}
