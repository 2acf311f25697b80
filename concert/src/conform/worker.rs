//! The worker under test: a process, connected through its own tap.

use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, bail};
use concert_runtime::bus::Bus;
use rustix::process::Signal;
use tokio::sync::Mutex;

use super::call::CONCEPT;
use super::tap::{TIMEOUT, Tap};
use crate::up::process::{Plan, Process};

/// Interval between two pings.
const PING_INTERVAL: Duration = Duration::from_millis(20);

/// A worker that can be killed, stopped and started again.
pub(super) struct Worker {
    /// The messages of its connections.
    pub(super) tap: Tap,
    plan: Plan,
    process: Mutex<Option<Process>>,
}

impl Worker {
    /// A worker that does not run yet. The plan must connect to the tap.
    pub(super) const fn new(tap: Tap, plan: Plan) -> Self {
        Self { tap, plan, process: Mutex::const_new(None) }
    }

    /// Starts the process. Returns when it fetches messages and answers queries.
    ///
    /// # Errors
    /// The process exits, or is not ready in time.
    pub(super) async fn start(&self, bus: &Bus) -> anyhow::Result<()> {
        let before = self.tap.fetches();
        let command = self.plan.command.join(" ");
        let started = Process::start(&self.plan);
        let started = started.with_context(|| format!("cannot run `{command}`"))?;
        *self.process.lock().await = Some(started);
        let ready = async {
            self.tap.fetches_after(before).await?;
            let ping = format!("$SRV.PING.{CONCEPT}");
            while bus.client.request(ping.clone(), "".into()).await.is_err() {
                tokio::time::sleep(PING_INTERVAL).await;
            }
            anyhow::Ok(())
        };
        tokio::select! {
            ready = tokio::time::timeout(TIMEOUT, ready) => {
                ready.context("the worker offers no micro service")?
            }
            ended = self.ended() => bail!("`{command}` exited ({})", ended?),
        }
    }

    /// Kills the process, as in a crash.
    pub(super) async fn kill(&self) {
        if let Some(mut process) = self.process.lock().await.take() {
            process.signal(Signal::KILL);
            process.exited().await;
        }
    }

    /// Sends a signal to the process and its children.
    pub(super) async fn signal(&self, signal: Signal) {
        if let Some(process) = &*self.process.lock().await {
            process.signal(signal);
        }
    }

    /// Waits without a limit until the process exits.
    ///
    /// # Errors
    /// It does not run.
    pub(super) async fn ended(&self) -> anyhow::Result<ExitStatus> {
        let mut process = self.process.lock().await;
        let running = process.as_mut().context("the worker does not run")?;
        let status = running.exited().await;
        *process = None;
        Ok(status)
    }

    /// Waits until the process exits on its own.
    ///
    /// # Errors
    /// It does not exit in time.
    pub(super) async fn exited(&self) -> anyhow::Result<ExitStatus> {
        let ended = tokio::time::timeout(TIMEOUT, self.ended()).await;
        ended.context("the worker does not exit")?
    }
}
