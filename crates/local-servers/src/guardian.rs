//! A server with a guardian: a shell that ends the server when the process that started it has
//! gone, by whatever cause, `kill -9` included.
//!
//! The guardian holds the reading end of a pipe whose writing end is ours. When we end, the pipe
//! does, and the guardian terminates the server. It stands in a process group of its own, so that
//! Ctrl-C at the terminal reaches us, and the servers only after we have drained.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::binaries::Program;
use crate::error::StartError;

/// The server's log is the first argument, the server and its arguments follow. Says the server's
/// process id; ends with the server's status.
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

/// How long a server may take to end when it is asked to.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// Lines of a log that are shown when a server ends without being asked to.
const SHOWN_LINES: usize = 15;

/// A server ended without being asked to.
#[derive(Debug, thiserror::Error)]
#[error("{program} exited unexpectedly ({status})\nThe end of its log {log_file}:\n{tail}", log_file = .log_file.display())]
pub struct Exited {
    /// The program.
    pub program: Program,
    /// How it ended.
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
    /// Held as long as the server is to live.
    _pipe: Option<ChildStdin>,
    server: Pid,
}

impl Guarded {
    /// Sends the signal at which a server reads its configuration again.
    pub(crate) fn hang_up(&self) {
        // One that has ended reads it when it is started again.
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
            .ok_or_else(|| failed(std::io::Error::other("its process id is not known")))?;
        Ok(Self { program, log_file: log_file.to_owned(), guardian, _pipe: pipe, server })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.server.as_raw_nonzero().get().unsigned_abs()
    }

    /// Whether it has ended by now, and how.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.guardian.try_wait().ok().flatten()
    }

    /// Ends when the server does.
    pub(crate) async fn exited(&mut self) -> Exited {
        let status = self.guardian.wait().await.unwrap_or_default();
        Exited {
            program: self.program,
            status,
            log_file: self.log_file.clone(),
            tail: self.log_tail(),
        }
    }

    /// What to say when it ended at its start.
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
            tracing::debug!(%error, program = %self.program, "the server has ended already");
        }
    }

    /// Asks it to end, and ends it by force when it does not.
    pub(crate) async fn stop(&mut self) {
        // Its process id may be another program's by now.
        if self.ended().is_some() {
            return;
        }
        self.signal(Signal::TERM);
        if tokio::time::timeout(STOP_TIMEOUT, self.guardian.wait()).await.is_err() {
            tracing::warn!(program = %self.program, "the server did not end in time and is killed");
            self.kill().await;
        }
    }

    /// Ends it at once, as a crash would.
    pub(crate) async fn kill(&mut self) {
        self.signal(Signal::KILL);
        drop(self.guardian.wait().await);
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.signal(Signal::TERM);
        }
    }
}
