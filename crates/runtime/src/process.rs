//! The life of a process: it runs until it is asked to stop, and then it drains.

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

/// Runs a process whose log this starts, and says there why it fails, if it does.
pub async fn run<E>(log: &LogArgs, course: impl Future<Output = Result<(), E>>) -> ExitCode
where
    E: AsRef<dyn Error + Send + Sync>,
{
    if let Err(error) = telemetry::start(log) {
        print_error(&error.to_string());
        return ExitCode::FAILURE;
    }
    let Err(error) = course.await else {
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

/// To whoever reads standard error, if anybody does.
fn print_error(why: &str) {
    drop(writeln!(std::io::stderr(), "error: {why}"));
}

/// An error with what lay behind it, each said once: some say what their cause is, and some leave
/// that to it.
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

/// Waits for SIGINT, SIGTERM and SIGHUP, from when it is made: a process that starts is not torn
/// out of what it has begun already.
pub struct ShutdownSignal {
    #[cfg(unix)]
    terminate: unix::Signal,
    #[cfg(unix)]
    interrupt: unix::Signal,
    /// None if it does not stop the process.
    #[cfg(unix)]
    hangup: Option<unix::Signal>,
}

impl ShutdownSignal {
    /// From now on none of these signals ends the process by itself.
    ///
    /// # Errors
    /// The signals cannot be watched.
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

    /// Ends at the next of these signals. SIGHUP counts once and only as the first: a terminal that
    /// closes may send it several times, and none of them may cut the drain short.
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
            // The handler stays, so further ones have no effect.
            self.hangup = None;
        }
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// What `start` comes to; nothing if the process is asked to end before.
    pub async fn unless_received<T>(&mut self, start: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            started = start => Some(started),
            () = self.received() => None,
        }
    }
}

/// Starts a process, and ends when it is asked to end (from its start on) or when its connection to
/// NATS cannot be mended. What was started is left to be drained; nothing, if the process was asked
/// to end before.
///
/// # Errors
/// It cannot be started, the signals cannot be watched, or the NATS client has ended.
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
    fn a_cause_is_told_once() {
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
    fn an_ignored_hangup_is_recognised() {
        assert!(ignores_hangup("SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n"));
        assert!(!ignores_hangup("SigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n"));
        assert!(!ignores_hangup(""));
    }
}
