//! Runs a server under a guardian: a shell that stops the server when the process that started it
//! exits for any reason, including `kill -9`.
//!
//! The guardian holds the read end of a pipe; this process holds the write end. When this process
//! exits, the pipe closes, and the guardian terminates the server. The guardian has its own process
//! group, so Ctrl-C in the terminal reaches only this process, and the servers stop after the
//! drain.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;

use crate::error::StartError;
use crate::log_file;
use crate::program::Program;

/// Arguments: the log file, the server, and the server's arguments. Prints the process id of the
/// server. Exits with the server's status.
const SCRIPT: &str = r#"
log=$1; shift
exec 3<&0
"$@" </dev/null >>"$log" 2>&1 3<&- &
server=$!
echo "$server"
exec >&-
( while read -r line <&3; do :; done; kill -TERM "$server"; sleep 10; kill -KILL "$server" ) 2>/dev/null &
watcher=$!
exec 3<&-
wait "$server"
status=$?
kill "$watcher" 2>/dev/null
exit "$status"
"#;

/// Time for a server to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// Number of log lines in the error when a server exits unexpectedly.
const SHOWN_LINES: usize = 15;

/// A server exited unexpectedly.
#[derive(Debug, thiserror::Error)]
#[error(
    "{program} exited unexpectedly ({status})\n\
     Last lines of its log {log_file}:\n\
     {tail}",
    log_file = .log_file.display()
)]
pub struct Exited {
    /// The program.
    pub program: Program,
    /// Exit status.
    pub status: ExitStatus,
    /// Its log.
    pub log_file: PathBuf,
    /// The last lines of the log.
    pub tail: String,
}

/// A server and its guardian.
#[derive(Debug)]
pub(crate) struct Guarded {
    program: Program,
    log_file: PathBuf,
    guardian: Child,
    /// Kept open while the server should run.
    _pipe: Option<ChildStdin>,
    server: Pid,
    log_rotation: JoinHandle<()>,
}

impl Guarded {
    /// Sends SIGHUP, on which the server reloads its configuration.
    pub(crate) fn hang_up(&self) {
        // A server that has exited reads it at its next start.
        kill_process(self.server, Signal::HUP).unwrap_or_default();
    }

    pub(crate) async fn start(
        program: Program,
        binary: &Path,
        args: &[String],
        log_file: &Path,
    ) -> Result<Self, StartError> {
        let failed = |source| StartError::Spawn { program, source };
        let mut command = Command::new("sh");
        command.arg("-c").arg(SCRIPT).arg("guardian").arg(log_file).arg(binary).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        #[cfg(unix)]
        command.process_group(0);
        let mut guardian = command.spawn().map_err(failed)?;
        let pipe = guardian.stdin.take();
        let mut line = String::new();
        if let Some(output) = guardian.stdout.take() {
            BufReader::new(output).read_line(&mut line).await.map_err(failed)?;
        }
        let server = line
            .trim()
            .parse()
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| failed(std::io::Error::other("its process id is unknown")))?;
        let log_file = log_file.to_owned();
        let log_rotation = tokio::spawn(log_file::keep_small(log_file.clone()));
        Ok(Self { program, log_file, guardian, _pipe: pipe, server, log_rotation })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.server.as_raw_nonzero().get().unsigned_abs()
    }

    /// The exit status, if the server has exited.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.guardian.try_wait().ok().flatten()
    }

    /// Returns when the server exits.
    pub(crate) async fn exited(&mut self) -> Exited {
        let status = self.guardian.wait().await.unwrap_or_default();
        Exited {
            program: self.program,
            status,
            log_file: self.log_file.clone(),
            tail: self.log_tail(),
        }
    }

    /// The error if the server exited during its start.
    pub(crate) fn ended_at_start(&self, status: ExitStatus) -> StartError {
        StartError::Ended {
            program: self.program,
            status: status.to_string(),
            log_file: self.log_file.clone(),
            tail: self.log_tail(),
        }
    }

    fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log_file)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines
            .iter()
            .skip(lines.len().saturating_sub(SHOWN_LINES))
            .map(|line| format!("  {line}"))
            .collect::<Vec<_>>()
            .join("\n")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Err(error) = kill_process(self.server, signal) {
            tracing::debug!(%error, program = %self.program, "the server has already exited");
        }
    }

    /// Stops the server; kills it if it does not stop in time.
    pub(crate) async fn stop(&mut self) {
        // The system may have reused its process id.
        if self.ended().is_some() {
            return;
        }
        self.signal(Signal::TERM);
        if tokio::time::timeout(STOP_TIMEOUT, self.guardian.wait()).await.is_err() {
            tracing::warn!(program = %self.program, "the server did not stop in time; killing it");
            self.kill().await;
        }
    }

    /// Kills the server immediately, as in a crash.
    pub(crate) async fn kill(&mut self) {
        self.signal(Signal::KILL);
        drop(self.guardian.wait().await);
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.log_rotation.abort();
        if self.ended().is_none() {
            self.signal(Signal::TERM);
        }
    }
}
