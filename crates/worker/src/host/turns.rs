//! Turns and notes of redelivered actions.
//!
//! A handler that ends its process takes every action with it that runs there, and all of them are
//! redelivered together. Counting deliveries alone would dead-letter unrelated actions along with
//! the one that ended the process. So an action whose attempts are used up runs once more in
//! isolation from all other redelivered actions, and a note in the bucket says so: a later delivery
//! that finds the note knows that this attempt ended the process.

use concert_runtime::bus::Bus;
use concert_runtime::nats;
use concert_runtime::nats::kv::Store;
use concert_runtime::streams::{self, ACK_WAIT};
use concert_wire::id::ActionId;
use concert_wire::name::ConceptName;
use tokio::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::time::timeout;

/// One isolated attempt at a time, and no other redelivered action beside it.
#[derive(Debug)]
pub(crate) struct Turns {
    alone: Mutex<()>,
    /// Written to by an isolated attempt, read by other redelivered ones. Neither waits longer than
    /// [`ACK_WAIT`] for the other: a handler that never ends must not hold up what was delivered
    /// twice.
    beside: RwLock<()>,
    concept: ConceptName,
    notes: Store,
}

/// A turn, until this is dropped.
#[expect(dead_code, reason = "the guards are there to be dropped")]
pub(super) enum Turn<'a> {
    Beside(Option<RwLockReadGuard<'a, ()>>),
    Alone(MutexGuard<'a, ()>, Option<RwLockWriteGuard<'a, ()>>),
}

fn key(id: ActionId) -> String {
    format!("last-attempt.{id}")
}

impl Turns {
    /// Of a concept whose notes are in this bucket.
    pub(crate) fn of(concept: &ConceptName, notes: Store) -> Self {
        Self { alone: Mutex::default(), beside: RwLock::default(), concept: concept.clone(), notes }
    }

    /// Waits for a turn.
    pub(super) async fn next(&self, alone: bool) -> Turn<'_> {
        if alone {
            let alone = self.alone.lock().await;
            Turn::Alone(alone, timeout(ACK_WAIT, self.beside.write()).await.ok())
        } else {
            Turn::Beside(timeout(ACK_WAIT, self.beside.read()).await.ok())
        }
    }

    /// Deletes an action's note; whether there was one.
    pub(super) async fn take_note(&self, bus: &Bus, id: ActionId) -> Result<bool, nats::Error> {
        let key = key(id);
        if self.notes.entry(&key).await?.is_none() {
            return Ok(false);
        }
        streams::forget_note(bus, &self.concept, &key).await?;
        Ok(true)
    }

    /// Leaves an action's note.
    pub(super) async fn leave_note(&self, id: ActionId) -> Result<(), nats::Error> {
        self.notes.put(key(id), "".into()).await?;
        Ok(())
    }

    /// Deletes an action's note, if the server answers.
    pub(super) async fn forget_note(&self, bus: &Bus, id: ActionId) {
        if let Err(error) = streams::forget_note(bus, &self.concept, &key(id)).await {
            tracing::warn!(%error, "the note of a last attempt stays");
        }
    }
}
