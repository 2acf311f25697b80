//! The queue of a concept: its pending invocations.

use std::collections::BTreeMap;
use std::rc::Rc;

use concert_engine::Invocation;

pub(crate) struct Waiting {
    pub(crate) asked: Rc<Invocation>,
    /// The earliest time of its delivery; 0 is immediately.
    pub(crate) due_at: u64,
    pub(crate) delivered: u32,
}

/// A stream with work-queue retention: an acknowledged message is deleted, and its subject is free
/// again.
#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) waiting: BTreeMap<u64, Waiting>,
    last: u64,
    /// Acknowledged messages, for a server that forgets the acknowledgement.
    pub(crate) gone: Vec<Rc<Invocation>>,
}

impl Queue {
    /// Stores an invocation unless its subject is taken; returns whether it did.
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
