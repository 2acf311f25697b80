//! The queue of a concept: what it is asked for and has not done yet.

use std::collections::BTreeMap;
use std::rc::Rc;

use concert_engine::Invocation;

pub(crate) struct Waiting {
    pub(crate) asked: Rc<Invocation>,
    /// From when on it may be delivered; 0 is at once.
    pub(crate) due_at: u64,
    pub(crate) delivered: u32,
}

/// A stream with work-queue retention: an acknowledged message is gone, and its subject is free
/// again.
#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) waiting: BTreeMap<u64, Waiting>,
    last: u64,
    /// What was acknowledged, for a server that forgets it.
    pub(crate) gone: Vec<Rc<Invocation>>,
}

impl Queue {
    /// Stores an invocation unless one stands on its subject; whether it did.
    pub(crate) fn enqueue(&mut self, asked: &Rc<Invocation>) -> bool {
        if self.waiting.values().any(|waiting| waiting.asked.id == asked.id) {
            return false;
        }
        self.last += 1;
        let waiting = Waiting { asked: asked.clone(), due_at: 0, delivered: 0 };
        self.waiting.insert(self.last, waiting);
        true
    }

    pub(crate) fn remove(&mut self, seq: u64) {
        if let Some(removed) = self.waiting.remove(&seq) {
            self.gone.push(removed.asked);
        }
    }
}
