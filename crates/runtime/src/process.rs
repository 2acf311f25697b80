//! The life of a process: it runs until it is asked to stop, and then it drains.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bus::{Bus, ClientEnded};

/// Asks the parts of a process to stop, and waits for them.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// One that nobody has asked for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks every part to stop taking new work.
    pub fn begin(&self) {
        self.token.cancel();
    }

    /// Whether it has been asked for.
    pub fn begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Ends when it is asked for.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// The work that must be finished before the process ends.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Waits until the work is done, at most `within`; whether it was.
    pub async fn drained(&self, within: Duration) -> bool {
        self.begin();
        self.tasks.close();
        tokio::time::timeout(within, self.tasks.wait()).await.is_ok()
    }
}

/// Ends at the first SIGINT or SIGTERM, or when the connection to NATS cannot be mended.
///
/// # Errors
/// The signals cannot be watched, or the NATS client has ended.
pub async fn asked_to_stop_or_cut_off(bus: &Bus) -> Result<(), StopError> {
    tokio::select! {
        asked = asked_to_stop() => Ok(asked?),
        ended = bus.ended() => Err(ended.into()),
    }
}

/// Why a process ends without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// The signals cannot be watched.
    #[error("signals cannot be watched: {0}")]
    Signals(#[from] std::io::Error),
    /// The NATS client has ended.
    #[error(transparent)]
    Bus(#[from] ClientEnded),
}

/// Ends at the first SIGINT or SIGTERM.
///
/// # Errors
/// The signals cannot be watched.
pub async fn asked_to_stop() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            result = tokio::signal::ctrl_c() => result,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}
