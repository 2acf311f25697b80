//! People who do the same again and again while something happens to the system.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::bail;
use tokio::task::JoinHandle;

use crate::until;

/// All of them. They end when they are told to, or with the first error of their own.
pub struct Load {
    end: Arc<AtomicBool>,
    /// How often each has come through.
    rounds: Vec<Arc<AtomicUsize>>,
    clients: Vec<JoinHandle<anyhow::Result<()>>>,
}

/// The rounds of one of them.
pub struct Rounds {
    end: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
}

impl Rounds {
    /// Whether there is to be another one.
    pub fn go_on(&self) -> bool {
        !self.end.load(Ordering::Relaxed)
    }

    /// One is done.
    pub fn done(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

impl Load {
    /// So many begin, each with its number.
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

    /// Waits until everybody has come through once more: what a server drops with a connection is
    /// delivered again after a while, and no request is to meet that twice.
    ///
    /// # Errors
    /// Somebody's, or they do not come through in time.
    pub async fn goes_on(&mut self, within: Duration) -> anyhow::Result<()> {
        let Self { rounds, clients, .. } = self;
        let now = || rounds.iter().map(|rounds| rounds.load(Ordering::Relaxed));
        // The round that is under way may have begun before.
        let wanted: Vec<usize> = now().map(|rounds| rounds + 2).collect();
        until("that everybody comes through", within, async || {
            if let Some(ended) = clients.iter().position(JoinHandle::is_finished) {
                clients.remove(ended).await??;
                bail!("somebody ended before he was told to");
            }
            Ok(now().zip(&wanted).all(|(rounds, wanted)| rounds >= *wanted).then_some(()))
        })
        .await
    }

    /// Tells everybody to end.
    ///
    /// # Errors
    /// Somebody's.
    pub async fn end(self) -> anyhow::Result<()> {
        self.end.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await??;
        }
        Ok(())
    }
}
