//! Turns and notes of redelivered actions.
//!
//! If a handler crashes the process, all in-flight actions are redelivered together. Counting
//! deliveries alone would dead-letter unrelated actions along with the crashing one. So an action
//! whose attempts are used up runs once more, isolated from all other redelivered actions. A note
//! in the bucket records this attempt. A later delivery that finds the note knows that the attempt
//! crashed the process.

use std::time::Duration;

use concert_runtime::bus::Bus;
use concert_runtime::nats;
use concert_runtime::nats::kv::Store;
use concert_runtime::streams;
use concert_wire::id::ActionId;
use concert_wire::name::ConceptName;
use tokio::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::time::timeout;

/// Maximum wait for a turn.
const LONGEST: Duration = Duration::from_secs(8);

/// Admits one isolated attempt at a time, without concurrent redelivered actions.
#[derive(Debug)]
pub(crate) struct Turns {
    isolated: Mutex<()>,
    /// Write-locked by an isolated attempt, read-locked by other redelivered actions. Neither waits
    /// longer than [`LONGEST`] for this lock: a handler that never returns must not block other
    /// redelivered actions.
    shared: RwLock<()>,
    concept: ConceptName,
    notes: Store,
}

/// A turn; dropping it ends the turn.
#[expect(dead_code, reason = "the guards release their locks when they are dropped")]
pub(super) enum Turn<'a> {
    Shared(Option<RwLockReadGuard<'a, ()>>),
    Isolated(MutexGuard<'a, ()>, Option<RwLockWriteGuard<'a, ()>>),
}

fn key(id: ActionId) -> String {
    format!("last-attempt.{id}")
}

impl Turns {
    /// The turns of a concept whose notes are in this bucket.
    pub(crate) fn of(concept: &ConceptName, notes: Store) -> Self {
        Self {
            isolated: Mutex::default(),
            shared: RwLock::default(),
            concept: concept.clone(),
            notes,
        }
    }

    /// Waits for a turn.
    pub(super) async fn next(&self, isolated: bool) -> Turn<'_> {
        if isolated {
            let guard = self.isolated.lock().await;
            Turn::Isolated(guard, timeout(LONGEST, self.shared.write()).await.ok())
        } else {
            Turn::Shared(timeout(LONGEST, self.shared.read()).await.ok())
        }
    }

    /// Deletes an action's note. Returns `true` if there was one.
    pub(super) async fn take_note(&self, bus: &Bus, id: ActionId) -> Result<bool, nats::Error> {
        let key = key(id);
        if self.notes.entry(&key).await?.is_none() {
            return Ok(false);
        }
        streams::forget_note(bus, &self.concept, &key).await?;
        Ok(true)
    }

    /// Stores an action's note.
    pub(super) async fn leave_note(&self, id: ActionId) -> Result<(), nats::Error> {
        self.notes.put(key(id), "".into()).await?;
        Ok(())
    }

    /// Deletes an action's note; a failure is only logged.
    pub(super) async fn forget_note(&self, bus: &Bus, id: ActionId) {
        if let Err(error) = streams::forget_note(bus, &self.concept, &key(id)).await {
            tracing::warn!(%error, "cannot delete the note of an isolated attempt");
        }
    }
}
