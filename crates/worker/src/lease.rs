//! What a delivery may do: for how long its message is ours, and whether its action is still to be done.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use concert_runtime::bus::Bus;
use concert_runtime::log::{self, ReadError};
use concert_runtime::sabotaged;
use concert_runtime::streams::ACK_WAIT;
use concert_wire::envelope::{BadCompletion, Completion};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::concept::Failure;
use crate::stopwatch::part;

/// The time until which the server will not deliver the message to another worker. The host extends it while the handler runs; a process that was stopped for too long finds it run out.
#[derive(Debug, Clone)]
pub(crate) struct Held(Arc<Mutex<Instant>>);

/// The server counts from when it sent; we count from when we received. The difference is taken off.
const MARGIN: Duration = Duration::from_secs(1);

impl Held {
    pub(crate) fn begin() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    pub(crate) fn extend(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Whether the message is certainly with no other worker.
    pub(crate) fn is_ours(&self) -> bool {
        let since = self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        since + MARGIN < ACK_WAIT
    }
}

/// The right of a delivery to change the state; to be asked before every write.
#[derive(Debug, Clone)]
pub struct Lease(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    held: Held,
    /// `None`: no log knows of the action.
    bus: Option<Bus>,
    /// Where the action's completion stands when there is one.
    completion: String,
    /// What the log had there before the first write.
    standing: OnceCell<Option<Completion>>,
    writes: AtomicBool,
}

/// Why a delivery must not write. The host knows what to do of it; a handler passes it on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MayNotWrite {
    /// The message may be with another worker by now.
    #[error("this worker was too slow; the action may be with another")]
    Late,
    /// An earlier delivery completed the action. The host answers with what stands in the log.
    #[error("the action is completed already")]
    Completed,
    /// It is not known whether one did.
    #[error("{0}")]
    Unknown(String),
}

/// What stands in the log cannot be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookError {
    #[error(transparent)]
    Unread(#[from] ReadError),
    #[error("the completion in the log is malformed: {0}")]
    Malformed(#[from] BadCompletion),
}

impl Lease {
    /// The lease of a delivery whose action's completion has this subject.
    pub(crate) fn new(held: Held, bus: Bus, completion: String) -> Self {
        Self::of(held, Some(bus), completion)
    }

    /// The lease of an action that no log knows of, beginning now: for handlers that are called by hand, as tests do.
    pub fn by_hand() -> Self {
        Self::of(Held::begin(), None, String::new())
    }

    fn of(held: Held, bus: Option<Bus>, completion: String) -> Self {
        Self(Arc::new(Inner {
            held,
            bus,
            completion,
            standing: OnceCell::new(),
            writes: AtomicBool::new(false),
        }))
    }

    /// To be asked before every write.
    ///
    /// Before the first, the log is asked whether the action is completed already: a refusal leaves no mark in the concept's state, and what was refused once must not be done by a later delivery. An outcome that writes nothing needs no look,
    /// since the log refuses a second completion.
    ///
    /// # Errors
    /// The delivery must not write: see [`MayNotWrite`].
    pub async fn may_write(&self) -> Result<(), Failure> {
        let standing = self.0.standing.get_or_try_init(|| self.look()).await;
        match standing {
            Ok(None) => {}
            Ok(Some(_)) => return Err(MayNotWrite::Completed.into()),
            Err(error) => return Err(MayNotWrite::Unknown(error.to_string()).into()),
        }
        // Last, since the look took time.
        if !self.0.held.is_ours() {
            return Err(MayNotWrite::Late.into());
        }
        self.0.writes.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// The subject of the action's completion.
    pub(crate) fn completion(&self) -> &str {
        &self.0.completion
    }

    /// Whether this delivery was allowed a write.
    pub(crate) fn writes(&self) -> bool {
        self.0.writes.load(Ordering::Relaxed)
    }

    /// For how long the message is ours.
    pub(crate) fn held(&self) -> &Held {
        &self.0.held
    }

    /// What the log has of the action now.
    pub(crate) async fn standing(&self) -> Result<Option<Completion>, LookError> {
        let Some(bus) = &self.0.bus else { return Ok(None) };
        let found = part("nats.get", log::find(bus, &self.0.completion)).await?;
        Ok(found.map(|stored| Completion::decode(&stored.body)).transpose()?)
    }

    async fn look(&self) -> Result<Option<Completion>, LookError> {
        if sabotaged!("look") {
            return Ok(None);
        }
        self.standing().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_was_stopped_for_too_long_has_lost_its_message() {
        let held = Held::begin();
        tokio::time::advance(ACK_WAIT / 2).await;
        assert!(held.is_ours());
        held.extend();
        tokio::time::advance(ACK_WAIT / 2).await;
        assert!(held.is_ours());
        tokio::time::advance(ACK_WAIT / 2).await;
        assert!(!held.is_ours());
    }
}
