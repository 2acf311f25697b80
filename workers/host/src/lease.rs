//! For how long a delivered message is ours.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use concert_runtime::streams::ACK_WAIT;
use tokio::time::Instant;

use crate::concept::Failure;

/// The time until which the server will not deliver the message to another worker. The host extends it while the handler runs; a process that was stopped for too long finds it run out.
#[derive(Debug, Clone)]
pub struct Lease(Arc<Mutex<Instant>>);

/// The server counts from when it sent; we count from when we received. The difference is taken off.
const MARGIN: Duration = Duration::from_secs(1);

impl Lease {
    /// Begins when a message is received.
    pub fn begin() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    pub(crate) fn extend(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// To be asked before every write.
    ///
    /// # Errors
    /// The message may be with another worker by now, so this one must not write.
    pub fn check(&self) -> Result<(), Failure> {
        let since = self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        if since + MARGIN < ACK_WAIT {
            Ok(())
        } else {
            Err(Failure::retry(
                "this worker was too slow; the action may be with another",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_was_stopped_for_too_long_starts_no_write() {
        let lease = Lease::begin();
        tokio::time::advance(ACK_WAIT / 2).await;
        assert!(lease.check().is_ok());
        lease.extend();
        tokio::time::advance(ACK_WAIT / 2).await;
        assert!(lease.check().is_ok());
        tokio::time::advance(ACK_WAIT / 2).await;
        assert!(lease.check().is_err());
    }
}
