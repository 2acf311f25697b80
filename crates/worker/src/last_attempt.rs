//! The last attempt at an action, which no other action shares.
//!
//! A handler that ends its process takes everything with it that is under way there, and all of that is delivered again, together. Counting deliveries alone would in the end
//! give up the innocent with the guilty. So an action whose attempts are used up is tried once more while nothing else is that was delivered before, and a note of that stands in the bucket meanwhile:
//! who finds the note knows that this attempt ended the process, and gives up.

use std::pin::pin;

use concert_runtime::ack;
use concert_runtime::bus::Bus;
use concert_runtime::nats::kv::Store;
use concert_runtime::nats::{self, Message};
use concert_runtime::streams::{self, ACK_WAIT};
use concert_wire::id::ActionId;
use concert_wire::name::ConceptName;
use tokio::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::lease::Held;

/// One last attempt at a time, and no other attempt at what was delivered before beside it.
#[derive(Debug)]
pub(crate) struct LastAttempts {
    alone: Mutex<()>,
    /// Written to by a last attempt, read by the attempts before it but the first. Neither waits longer than [`ACK_WAIT`] for the other: a handler that never ends must not hold up what was delivered twice.
    beside: RwLock<()>,
    concept: ConceptName,
    notes: Store,
}

/// The turn of a last attempt: no other begins before this is dropped.
pub(crate) struct Turn<'a> {
    _alone: MutexGuard<'a, ()>,
    _beside: Option<RwLockWriteGuard<'a, ()>>,
    of: &'a LastAttempts,
}

/// A last attempt that has begun.
pub(crate) struct LastAttempt<'a> {
    turn: Turn<'a>,
    note: String,
}

fn key(id: ActionId) -> String {
    format!("last-attempt.{id}")
}

impl LastAttempts {
    /// None is under way. The notes stand in a bucket of the concept's own.
    pub(crate) fn of(concept: &ConceptName, notes: Store) -> Self {
        Self {
            alone: Mutex::default(),
            beside: RwLock::default(),
            concept: concept.clone(),
            notes,
        }
    }

    /// Waits until no last attempt is under way; none begins before what this returns is dropped. For an action that was delivered before and may be what ended the process.
    pub(crate) async fn beside_none(&self, message: &Message, held: &Held) -> Option<RwLockReadGuard<'_, ()>> {
        let none = tokio::time::timeout(ACK_WAIT, self.beside.read());
        holding(message, held, none).await.ok()
    }

    /// Takes the note back of an action that is completed: its last attempt was over when something else ended the process.
    pub(crate) async fn forget(&self, bus: &Bus, id: ActionId) {
        forget(bus, &self.concept, &key(id)).await;
    }

    /// Whether a last attempt at this action ended its process. To be asked once: the note of it is taken back.
    pub(crate) async fn ended_its_process(&self, bus: &Bus, id: ActionId) -> Result<bool, nats::Error> {
        let key = key(id);
        if self.notes.entry(&key).await?.is_none() {
            return Ok(false);
        }
        streams::forget_note(bus, &self.concept, &key).await?;
        Ok(true)
    }

    /// Waits until no other attempt at what was delivered before is under way.
    pub(crate) async fn turn(&self, message: &Message, held: &Held) -> Turn<'_> {
        let alone = holding(message, held, self.alone.lock()).await;
        let beside = tokio::time::timeout(ACK_WAIT, self.beside.write());
        Turn {
            _alone: alone,
            _beside: holding(message, held, beside).await.ok(),
            of: self,
        }
    }
}

impl<'a> Turn<'a> {
    /// Leaves the note.
    pub(crate) async fn begin(self, id: ActionId) -> Result<LastAttempt<'a>, nats::Error> {
        let note = key(id);
        self.of.notes.put(&note, "".into()).await?;
        Ok(LastAttempt { turn: self, note })
    }
}

impl LastAttempt<'_> {
    /// Takes the note back: whatever came of the attempt, the process lives.
    pub(crate) async fn survived(self, bus: &Bus) {
        forget(bus, &self.turn.of.concept, &self.note).await;
    }
}

async fn forget(bus: &Bus, concept: &ConceptName, key: &str) {
    if let Err(error) = streams::forget_note(bus, concept, key).await {
        tracing::warn!(%error, "the note of a last attempt stays");
    }
}

/// Waits for what is awaited, and extends the message's time meanwhile.
pub(crate) async fn holding<T>(message: &Message, held: &Held, awaited: impl Future<Output = T>) -> T {
    let mut awaited = pin!(awaited);
    let mut extend = tokio::time::interval_at(tokio::time::Instant::now() + ACK_WAIT / 3, ACK_WAIT / 3);
    loop {
        tokio::select! {
            got = &mut awaited => return got,
            _ = extend.tick() => {
                if held.is_ours() {
                    ack::in_progress(message).await;
                    held.extend();
                }
            }
        }
    }
}
