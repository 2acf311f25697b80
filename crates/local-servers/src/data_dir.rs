//! The data directory of a server. A lock file allows one process at a time to use it.
//!
//! After a process is killed, its server keeps running until the guardian stops it. The next
//! process first stops that server, so that port and data are free.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::time::Instant;

use crate::error::StartError;
use crate::lock::{self, DirLock};
use crate::program::Program;

/// Time for a leftover server to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(12);
/// Time for a killed process to exit.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval between two checks of a lock or a process.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A data directory that this process has locked.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    program: Program,
    _lock: DirLock,
}

impl DataDir {
    /// Locks the directory, creates it if it is missing, and stops a leftover server in it.
    pub(crate) async fn take(path: &Path, program: Program) -> Result<Self, StartError> {
        let had_lock = path.join(lock::FILE).exists();
        let dir = Self { path: path.to_owned(), program, _lock: DirLock::acquire(path).await? };
        // Without an earlier lock file, the owner may be a live process of an older version.
        dir.end(had_lock).await?;
        Ok(dir)
    }

    /// Path of the file with the server's process id.
    pub(crate) fn pid_file(&self) -> PathBuf {
        self.path.join(format!("{}.pid", self.program.name()))
    }

    /// Stops a server that still runs here after its guardian has exited.
    pub(crate) async fn end_leftover(&self) -> Result<(), StartError> {
        self.end(true).await
    }

    async fn end(&self, is_ours: bool) -> Result<(), StartError> {
        let Some(pid) = self.leftover() else { return Ok(()) };
        tracing::warn!(
            program = %self.program, pid = pid.as_raw_nonzero(),
            "waiting for the server of the previous run to stop"
        );
        if is_ours {
            signal(pid, Signal::TERM);
        }
        if self.ended_within(STOP_TIMEOUT).await {
            return Ok(());
        }
        if is_ours {
            tracing::warn!(
                program = %self.program,
                "the server of the previous run did not stop in time; killing it"
            );
            signal(pid, Signal::KILL);
            if self.ended_within(KILL_TIMEOUT).await {
                return Ok(());
            }
        }
        Err(StartError::InUse {
            path: self.path.clone(),
            pid: pid.as_raw_nonzero().get().unsigned_abs(),
        })
    }

    async fn ended_within(&self, timeout: Duration) -> bool {
        let began = Instant::now();
        while self.leftover().is_some() {
            if began.elapsed() > timeout {
                return false;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        true
    }

    /// The live process in the pid file, if it is this program running in this directory.
    fn leftover(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.pid_file()).ok()?;
        let pid = Pid::from_raw(text.trim().parse().ok()?)?;
        test_kill_process(pid).ok()?;
        // The system may have reused the process id.
        let command = command_line(pid)?;
        let dir = std::path::absolute(&self.path).ok()?;
        let here =
            command.contains(self.program.name()) && command.contains(&*dir.to_string_lossy());
        (here || command == self.program.name()).then_some(pid)
    }
}

fn signal(pid: Pid, signal: Signal) {
    if let Err(error) = kill_process(pid, signal) {
        tracing::debug!(%error, "the server has already exited");
    }
}

/// Command line of a process; `None` if it has exited. An exiting process may still hold its port
/// but have no command line; then only its name is known.
#[cfg(target_os = "linux")]
fn command_line(pid: Pid) -> Option<String> {
    let proc = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    let stat = std::fs::read_to_string(proc.join("stat")).ok()?;
    let (name, state) = stat.split_once('(')?.1.rsplit_once(')')?;
    // A process whose main thread has exited is also a zombie, even if other threads still run.
    if state.trim_start().starts_with('Z')
        && std::fs::read_dir(proc.join("task")).ok()?.count() <= 1
    {
        return None;
    }
    let bytes = std::fs::read(proc.join("cmdline")).ok()?;
    if bytes.is_empty() {
        return Some(name.to_owned());
    }
    Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
}

#[cfg(not(target_os = "linux"))]
fn command_line(pid: Pid) -> Option<String> {
    let mut ps = std::process::Command::new("ps");
    ps.args(["-ww", "-o", "command=", "-p", &pid.as_raw_nonzero().to_string()]);
    let output = ps.output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
