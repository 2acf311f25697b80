//! Lifecycle of a process: it runs until a shutdown signal, and then drains.

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

#[cfg(unix)]
use tokio::signal::unix;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bus::{Bus, ClientEnded};
use crate::telemetry::{self, LogArgs};

/// Requests the shutdown of all components of a process, and waits for them.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// Creates a shutdown that is not requested yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests that all components stop accepting new work.
    pub fn begin(&self) {
        self.token.cancel();
    }

    /// Returns whether the shutdown was requested.
    pub fn begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Returns when the shutdown is requested.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// Tasks that must finish before the process exits.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Waits up to `within` until these tasks are done. Returns whether they are.
    pub async fn drained(&self, within: Duration) -> bool {
        self.begin();
        self.tasks.close();
        tokio::time::timeout(within, self.tasks.wait()).await.is_ok()
    }
}

/// Starts logging and runs a process. Logs its error, if it fails.
pub async fn run<E>(log: &LogArgs, main: impl Future<Output = Result<(), E>>) -> ExitCode
where
    E: AsRef<dyn Error + Send + Sync>,
{
    if let Err(error) = telemetry::start(log) {
        print_error(&error.to_string());
        return ExitCode::FAILURE;
    }
    let Err(error) = main.await else {
        return ExitCode::SUCCESS;
    };
    let why = error_chain(error.as_ref());
    if tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!("{why}");
    } else {
        print_error(&why);
    }
    ExitCode::FAILURE
}

/// Prints an error to standard error. Ignores write errors, such as a closed terminal.
pub fn print_error(why: &str) {
    drop(writeln!(std::io::stderr(), "error: {why}"));
}

/// Formats an error with its causes. Skips a cause that the text already contains.
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let why = error.to_string();
        if !text.contains(&why) {
            text = format!("{text}: {why}");
        }
        cause = error.source();
    }
    text
}

/// Receives SIGINT, SIGTERM and SIGHUP from its creation on, so that these signals do not kill a
/// process that is starting.
pub struct ShutdownSignal {
    #[cfg(unix)]
    terminate: unix::Signal,
    #[cfg(unix)]
    interrupt: unix::Signal,
    /// `None` if SIGHUP does not stop the process.
    #[cfg(unix)]
    hangup: Option<unix::Signal>,
}

impl ShutdownSignal {
    /// Installs the signal handlers. From now on none of these signals kills the process.
    ///
    /// # Errors
    /// The signal handlers cannot be installed.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            terminate: unix::signal(unix::SignalKind::terminate())?,
            #[cfg(unix)]
            interrupt: unix::signal(unix::SignalKind::interrupt())?,
            #[cfg(unix)]
            hangup: hangup()?,
        })
    }

    /// Returns at the next of these signals. SIGHUP counts only as the first signal: a closing
    /// terminal may send it several times, and must not cut the drain short.
    pub async fn received(&mut self) {
        #[cfg(unix)]
        {
            let hangup = async {
                match &mut self.hangup {
                    Some(signal) => signal.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
                _ = hangup => {}
            }
            // The handler stays installed, so further SIGHUPs have no effect.
            self.hangup = None;
        }
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Runs `start`. Returns its result, or `None` if a signal arrives first.
    pub async fn unless_received<T>(&mut self, start: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            started = start => Some(started),
            () = self.received() => None,
        }
    }
}

/// Starts a process and runs it until a signal arrives or the NATS client stops. Returns the
/// started components, which the caller drains, or `None` if a signal arrived during the start.
///
/// # Errors
/// The start fails, the signal handlers cannot be installed, or the NATS client has stopped.
pub async fn until_shutdown<T, E>(
    start: impl Future<Output = Result<(Bus, T), E>>,
) -> Result<Option<T>, E>
where
    E: From<std::io::Error> + From<ClientEnded>,
{
    let mut stop = ShutdownSignal::listen()?;
    let Some(started) = stop.unless_received(start).await else {
        return Ok(None);
    };
    let (bus, started) = started?;
    tokio::select! {
        () = stop.received() => Ok(Some(started)),
        ended = bus.ended() => Err(ended.into()),
    }
}

/// SIGHUP, unless the process was started with it ignored, as `nohup` does.
#[cfg(unix)]
fn hangup() -> std::io::Result<Option<unix::Signal>> {
    // Only Linux reports it here; elsewhere SIGHUP always stops the process.
    let is_ignored =
        std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hangup(&status));
    if is_ignored {
        return Ok(None);
    }
    unix::signal(unix::SignalKind::hangup()).map(Some)
}

/// Reads the mask of ignored signals from `/proc/<pid>/status`; SIGHUP is its first bit.
#[cfg(unix)]
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Self>>,
    }

    #[test]
    fn error_chain_contains_each_cause_once() {
        let layers = [
            "it cannot start",
            "keys cannot be read: no such file",
            "no such file",
            "(os error 2)",
        ];
        let error = layers.into_iter().rev().fold(None, |source, text| {
            let source = source.map(Box::new);
            Some(Layer { text, source })
        });
        let text = error_chain(&error.unwrap());
        assert_eq!(text, "it cannot start: keys cannot be read: no such file: (os error 2)");
    }

    #[cfg(unix)]
    #[test]
    fn ignored_hangup_is_detected() {
        assert!(ignores_hangup("SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n"));
        assert!(!ignores_hangup("SigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n"));
        assert!(!ignores_hangup(""));
    }
}
