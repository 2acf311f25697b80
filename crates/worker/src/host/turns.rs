//! Turns and notes of redelivered actions.
//!
//! If a handler crashes the process, all in-flight actions are redelivered together. Counting
//! deliveries alone would dead-letter unrelated actions along with the crashing one. So an action
//! whose attempts are used up runs once more, isolated from all other redelivered actions. A note
//! in the bucket records this attempt. A later delivery that finds the note knows that the attempt
//! crashed the process.

use std::sync::Arc;
use std::time::Duration;

use concert_runtime::bus::Bus;
use concert_runtime::nats;
use concert_runtime::nats::kv::Store;
use concert_runtime::streams;
use concert_wire::id::ActionId;
use concert_wire::name::ConceptName;
use tokio::sync::{Mutex, OwnedRwLockReadGuard, RwLock};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// Maximum wait of a redelivered action for a turn.
const LONGEST_WAIT: Duration = Duration::from_secs(8);
/// Time after which an isolated attempt is no longer isolated. Its handler may never return, and
/// must not block the other actions of the concept.
const LONGEST_ISOLATION: Duration = Duration::from_secs(60);

/// Turns of one concept, and the notes of its isolated attempts.
#[derive(Debug)]
pub(crate) struct Turns {
    order: Order,
    concept: ConceptName,
    notes: Store,
}

/// Admits one isolated attempt at a time, without concurrent redelivered actions.
#[derive(Debug, Default)]
struct Order {
    isolated: Arc<Mutex<()>>,
    /// Write-locked by an isolated attempt, read-locked by other redelivered actions. Neither waits
    /// longer than [`LONGEST_WAIT`] for this lock: a handler that never returns must not block
    /// other redelivered actions.
    shared: Arc<RwLock<()>>,
}

/// A turn; dropping it ends the turn.
#[derive(Debug)]
#[expect(dead_code, reason = "the guards release their locks when they are dropped")]
pub(super) enum Turn {
    Shared(Option<OwnedRwLockReadGuard<()>>),
    /// The task holds the locks, and ends early if the turn ends.
    Isolated(AbortOnDropHandle<()>),
}

impl Order {
    async fn next(&self, concept: &ConceptName, isolated: bool) -> Turn {
        if !isolated {
            return Turn::Shared(
                timeout(LONGEST_WAIT, self.shared.clone().read_owned()).await.ok(),
            );
        }
        let one = self.isolated.clone().lock_owned().await;
        let alone = timeout(LONGEST_WAIT, self.shared.clone().write_owned()).await.ok();
        let concept = concept.clone();
        Turn::Isolated(AbortOnDropHandle::new(tokio::spawn(async move {
            let _locks = (one, alone);
            tokio::time::sleep(LONGEST_ISOLATION).await;
            tracing::warn!(%concept, "an isolated attempt has not ended; others start without it");
        })))
    }
}

fn key(id: ActionId) -> String {
    format!("last-attempt.{id}")
}

impl Turns {
    /// The turns of a concept whose notes are in this bucket.
    pub(crate) fn of(concept: &ConceptName, notes: Store) -> Self {
        Self { order: Order::default(), concept: concept.clone(), notes }
    }

    /// Waits for a turn.
    pub(super) async fn next(&self, isolated: bool) -> Turn {
        self.order.next(&self.concept, isolated).await
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_attempt_is_isolated_until_it_ends_or_takes_too_long() {
        let (order, concept) = (Order::default(), "Label".parse().unwrap());
        let first = order.next(&concept, true).await;
        assert!(
            order.next(&concept, true).now_or_never().is_none(),
            "one isolated attempt at a time"
        );
        assert!(
            order.next(&concept, false).now_or_never().is_none(),
            "no other redelivered action"
        );
        drop(first);
        let _hanging = order.next(&concept, true).await;
        let waits = Instant::now();
        let Turn::Shared(guard) = order.next(&concept, false).await else { panic!("not isolated") };
        assert!(guard.is_none() && waits.elapsed() >= LONGEST_WAIT);
        let _next = order.next(&concept, true).await;
        let waited = waits.elapsed();
        assert!((LONGEST_ISOLATION..LONGEST_ISOLATION * 2).contains(&waited), "{waited:?}");
    }
}
