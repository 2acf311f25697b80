//! Clients that repeat a task while something happens to the system.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::bail;
use tokio::task::JoinHandle;

use crate::until;

/// Running clients. Each stops on request, or at its first error.
pub struct Load {
    end: Arc<AtomicBool>,
    /// Number of finished rounds of each client.
    rounds: Vec<Arc<AtomicUsize>>,
    clients: Vec<JoinHandle<anyhow::Result<()>>>,
}

/// The rounds of one client.
pub struct Rounds {
    end: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
}

impl Rounds {
    /// Returns whether the client should start another round.
    pub fn continues(&self) -> bool {
        !self.end.load(Ordering::Relaxed)
    }

    /// Counts a finished round.
    pub fn done(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

impl Load {
    /// Starts `count` clients, each with its number.
    pub fn begin<F>(count: usize, live: impl Fn(usize, Rounds) -> F) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let mut load = Self { end: Arc::default(), rounds: Vec::new(), clients: Vec::new() };
        for number in 0..count {
            let rounds = Rounds { end: load.end.clone(), done: Arc::default() };
            load.rounds.push(rounds.done.clone());
            load.clients.push(tokio::spawn(live(number, rounds)));
        }
        load
    }

    /// Waits until every client has finished another round. The server redelivers messages of a
    /// lost connection only after a while, and no request should encounter that twice.
    ///
    /// # Errors
    /// A client fails, or a client does not progress in time.
    pub async fn wait_for_progress(&mut self, within: Duration) -> anyhow::Result<()> {
        let Self { rounds, clients, .. } = self;
        let now = || rounds.iter().map(|rounds| rounds.load(Ordering::Relaxed));
        // The current round may have started earlier.
        let wanted: Vec<usize> = now().map(|rounds| rounds + 2).collect();
        until("all clients progress", within, async || {
            if let Some(ended) = clients.iter().position(JoinHandle::is_finished) {
                clients.remove(ended).await??;
                bail!("a client stopped too early");
            }
            Ok(now().zip(&wanted).all(|(rounds, wanted)| rounds >= *wanted).then_some(()))
        })
        .await
    }

    /// Stops all clients.
    ///
    /// # Errors
    /// A client failed.
    pub async fn end(self) -> anyhow::Result<()> {
        self.end.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await??;
        }
        Ok(())
    }
}
