//! A program as a child process in its own process group, with labelled output.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinSet;

use crate::output;

/// A script that runs its arguments as a command, and exits with the status of the command. Its
/// standard input closes when `concert` exits, even by `kill -9`. Then it terminates the process
/// group.
const GUARDIAN: &str = r#"
trap : TERM INT
exec 3<&0 </dev/null
( trap '' TERM INT; while read -r _ <&3; do :; done; kill -TERM -$$; sleep 12; kill -KILL -$$ ) \
    >/dev/null 2>&1 &
watcher=$!
exec 3<&-
"$@" &
program=$!
wait "$program"
status=$?
while kill -0 "$program" 2>/dev/null; do wait "$program"; status=$?; done
kill -KILL "$watcher"
exit "$status"
"#;

/// Time for a program to stop. A worker finishes its actions within 10 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(12);

/// Time for the output of a program that has exited.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(1);

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Label of its output.
    pub(crate) label: String,
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// Its whole environment.
    pub(crate) environment: BTreeMap<OsString, OsString>,
    /// Its working directory.
    pub(crate) dir: PathBuf,
    /// Prints its output to stderr, because stdout has the result of the command.
    pub(crate) to_stderr: bool,
}

/// A running program and its children.
pub(crate) struct Process {
    guardian: Child,
    /// Kept open while the program should run.
    _pipe: Option<ChildStdin>,
    group: Option<Pid>,
    output: JoinSet<()>,
}

impl Process {
    /// Starts a program.
    pub(crate) fn start(plan: &Plan) -> std::io::Result<Self> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(GUARDIAN).arg("guardian").args(&plan.command);
        command.env_clear().envs(&plan.environment).current_dir(&plan.dir).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut guardian = command.spawn()?;
        let group = guardian.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let mut forwarded = JoinSet::new();
        if let Some(stdout) = guardian.stdout.take() {
            forwarded.spawn(forward(plan.label.clone(), stdout, plan.to_stderr));
        }
        if let Some(stderr) = guardian.stderr.take() {
            forwarded.spawn(forward(plan.label.clone(), stderr, plan.to_stderr));
        }
        Ok(Self { _pipe: guardian.stdin.take(), group, guardian, output: forwarded })
    }

    /// Returns when the program has exited. Its children are killed.
    pub(crate) async fn exited(&mut self) -> ExitStatus {
        let status = self.guardian.wait().await.unwrap_or_default();
        self.signal(Signal::KILL);
        // The last lines of the output say why the program exited.
        let printed = async { while self.output.join_next().await.is_some() {} };
        drop(tokio::time::timeout(OUTPUT_TIMEOUT, printed).await);
        status
    }

    /// Stops the program and its children, and returns when their output is printed. Kills those
    /// that do not stop in time, and returns without waiting for further output.
    pub(crate) async fn stop(mut self) {
        self.signal(Signal::TERM);
        let ended = async {
            drop(self.guardian.wait().await);
            while self.output.join_next().await.is_some() {}
        };
        if tokio::time::timeout(STOP_TIMEOUT, ended).await.is_err() {
            self.signal(Signal::KILL);
        }
    }

    /// Sends a signal to the program and its children.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(Err(error)) = self.group.map(|group| kill_process_group(group, signal)) {
            tracing::debug!(%error, "the process group no longer exists");
        }
    }
}

/// Prints each line with a label.
async fn forward(label: String, from: impl AsyncRead + Unpin, to_stderr: bool) {
    let mut lines = BufReader::new(from).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&line);
        let line = format!("{label} | {}", line.trim_end());
        if to_stderr {
            output::print_progress(&line);
        } else {
            output::print_line(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(script: &str, dir: &std::path::Path) -> Plan {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Plan {
            label: "Test".to_owned(),
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            environment: BTreeMap::from([("PATH".into(), path), ("A".into(), "b".into())]),
            dir: dir.to_owned(),
            to_stderr: false,
        }
    }

    #[tokio::test]
    async fn program_has_only_the_given_environment() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = Process::start(&plan("env > env; exit 3", dir.path())).unwrap();
        assert_eq!(process.exited().await.code(), Some(3));
        let text = std::fs::read_to_string(dir.path().join("env")).unwrap();
        assert!(text.contains("A=b\n") && !text.contains("CARGO"), "{text}");
    }

    #[tokio::test]
    async fn children_of_a_program_stop_with_it() {
        let dir = tempfile::tempdir().unwrap();
        // The shell does not forward signals.
        let script = "sleep 600 & echo $! > child; mv child ready; wait";
        let process = Process::start(&plan(script, dir.path())).unwrap();
        let ready = dir.path().join("ready");
        while !ready.exists() {
            tokio::task::yield_now().await;
        }
        process.stop().await;
        // A zombie has no link `exe`.
        let child = std::fs::read_to_string(ready).unwrap();
        let program = std::fs::read_link(format!("/proc/{}/exe", child.trim()));
        assert!(program.is_err(), "{program:?}");
    }
}
