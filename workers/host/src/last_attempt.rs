//! The last attempt at an action, which no other action shares.
//!
//! A handler that ends its process takes everything with it that is under way there, and all of that is delivered again, together. Counting deliveries alone would in the end
//! give up the innocent with the guilty. So an action whose attempts are used up is tried once more while no other such action is, and a note of that stands in the bucket meanwhile:
//! who finds the note knows that this attempt ended the process, and gives up.

use concert_runtime::ack;
use concert_runtime::bus::Bus;
use concert_runtime::nats::kv::Store;
use concert_runtime::nats::{self, Message};
use concert_runtime::streams::{self, ACK_WAIT};
use concert_wire::id::ActionId;
use concert_wire::name::ConceptName;
use tokio::sync::{Mutex, MutexGuard};

use crate::lease::Held;

/// One last attempt at a time.
#[derive(Debug)]
pub(crate) struct LastAttempts {
    alone: Mutex<()>,
    concept: ConceptName,
    notes: Store,
}

/// A last attempt that has begun.
pub(crate) struct LastAttempt<'a> {
    _alone: MutexGuard<'a, ()>,
    concept: &'a ConceptName,
    note: String,
}

/// How a last attempt may begin.
pub(crate) enum Begun<'a> {
    /// Now.
    Now(LastAttempt<'a>),
    /// It was begun before, and ended the process.
    Before,
}

fn key(id: ActionId) -> String {
    format!("last-attempt.{id}")
}

impl LastAttempts {
    /// None is under way. The notes stand in a bucket of the concept's own.
    pub(crate) fn of(concept: &ConceptName, notes: Store) -> Self {
        Self {
            alone: Mutex::default(),
            concept: concept.clone(),
            notes,
        }
    }

    /// Waits until no other last attempt is under way, and leaves the note.
    pub(crate) async fn begin(
        &self,
        bus: &Bus,
        id: ActionId,
        message: &Message,
        held: &Held,
    ) -> Result<Begun<'_>, nats::Error> {
        let key = key(id);
        if self.notes.entry(&key).await?.is_some() {
            streams::forget_note(bus, &self.concept, &key).await?;
            return Ok(Begun::Before);
        }
        let mut extend = tokio::time::interval_at(tokio::time::Instant::now() + ACK_WAIT / 3, ACK_WAIT / 3);
        let alone = loop {
            tokio::select! {
                alone = self.alone.lock() => break alone,
                _ = extend.tick() => {
                    if held.is_ours() {
                        ack::in_progress(message).await;
                        held.extend();
                    }
                }
            }
        };
        self.notes.put(&key, "".into()).await?;
        Ok(Begun::Now(LastAttempt {
            _alone: alone,
            concept: &self.concept,
            note: key,
        }))
    }
}

impl LastAttempt<'_> {
    /// Takes the note back: whatever came of the attempt, the process lives.
    pub(crate) async fn survived(self, bus: &Bus) {
        if let Err(error) = streams::forget_note(bus, self.concept, &self.note).await {
            tracing::warn!(%error, "the note of a last attempt stays");
        }
    }
}
