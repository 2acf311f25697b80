//! Processes on a terminal that closes, and their output on one. `script` of util-linux provides
//! the terminal.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use concert_tests::{PARTS, Part, System, binaries, http, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::{Child, Command};

const TIMEOUT: Duration = Duration::from_secs(90);

/// Runs a shell script on a separate terminal, which closes when this process is killed.
fn on_terminal(shell: &str) -> Command {
    let mut command = binaries::command(Path::new("script"));
    command.args(["--quiet", "--return", "--command", shell, "/dev/null"]).env("SHELL", "/bin/sh");
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn every_process_drains_when_its_terminal_closes() -> anyhow::Result<()> {
    let mut system = System::start().await?;
    system.start_part(Part::Archive)?;
    system.account("ada", "correct horse battery").await?;
    // An archive drains from its start on, and waits for its database until then.
    for part in PARTS.into_iter().rev().chain([Part::Archive]) {
        system.hang_up(part).await?;
    }
    Ok(())
}

/// `concert up` on a terminal.
struct Up {
    dir: tempfile::TempDir,
    terminal: Child,
    started: Value,
}

impl Up {
    /// Starts `concert up` in a shell that handles SIGHUP as `trap` specifies.
    async fn start(trap: &str) -> anyhow::Result<Self> {
        let programs = binaries::dir().await?;
        let dir = tempfile::tempdir()?;
        let run = format!(
            "{trap}; cd '{}'; '{}' up --listen :0 --nats-port 0 --mongo-port 0 --data-dir data \
             --started-file started \
             --concepts '{root}/concepts' --syncs '{root}/syncs'; echo $? > status",
            dir.path().display(),
            programs.join("concert").display(),
            root = binaries::root().display(),
        );
        let script = dir.path().join("run");
        std::fs::write(&script, run)?;
        // The kernel sends SIGHUP to the outer shell, and to the foreground processes when that
        // exits.
        let terminal = on_terminal(&format!("sh '{}'; true", script.display()))
            .stdout(Stdio::null())
            .spawn()?;
        let file = dir.path().join("started");
        let started =
            until("concert up starts", TIMEOUT, async || Ok(std::fs::read(&file).ok())).await?;
        Ok(Self { dir, terminal, started: serde_json::from_slice(&started)? })
    }

    async fn close_terminal(&mut self) -> anyhow::Result<()> {
        Ok(self.terminal.kill().await?)
    }

    /// Waits until it exits, and returns its exit status.
    async fn status(&self) -> anyhow::Result<String> {
        let file = self.dir.path().join("status");
        until("concert up exits", TIMEOUT, async || {
            let status = std::fs::read_to_string(&file).unwrap_or_default();
            Ok(status.strip_suffix('\n').map(str::to_owned))
        })
        .await
    }

    fn address(&self) -> anyhow::Result<std::net::SocketAddr> {
        Ok(self.started.get("http").and_then(Value::as_str).context("no address")?.parse()?)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concert_up_drains_and_exits_0_when_its_terminal_closes() -> anyhow::Result<()> {
    let mut up = Up::start("trap : HUP").await?;
    ensure!(http::is_ready(up.address()?).await, "not ready");
    up.close_terminal().await?;
    assert_eq!(up.status().await?, "0");
    Ok(())
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn concert_up_under_nohup_survives_its_terminal() -> anyhow::Result<()> {
    let mut up = Up::start("trap '' HUP").await?;
    let nats = up.started["nats_pid"].as_i64().context("no server")?;
    // The server's guardian is a child of the process.
    let parent = |pid: i64| -> anyhow::Result<i32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields = stat.rsplit(')').next().context("no fields")?;
        Ok(fields.split_whitespace().nth(1).context("no parent")?.parse()?)
    };
    let concert = Pid::from_raw(parent(parent(nats)?.into())?).context("no process")?;
    up.close_terminal().await?;
    kill_process(concert, Signal::HUP)?;
    ensure!(http::is_ready(up.address()?).await, "not ready");
    kill_process(concert, Signal::TERM)?;
    assert_eq!(up.status().await?, "0");
    Ok(())
}

/// Returns whether a log line has escape codes, written to a terminal or to a file.
async fn has_colours(shell: &str) -> anyhow::Result<bool> {
    let output = on_terminal(shell)
        .env_remove("NO_COLOR")
        .env_remove("CLICOLOR_FORCE")
        // A CI runner counts as a terminal with colours, even a dumb one.
        .env_remove("CI")
        .env("TERM", "xterm")
        .stdout(Stdio::piped())
        .output()
        .await?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.contains("/nowhere"), "{text}");
    Ok(text.contains('\x1b'))
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_have_colours_only_on_capable_terminals() -> anyhow::Result<()> {
    let router = binaries::dir().await?.join("concert");
    let router = format!("'{}' sync-router --syncs /nowhere", router.display());
    for format in ["text", "pretty"] {
        let router = format!("{router} --log-format {format}");
        assert!(has_colours(&router).await?, "{format}");
        assert!(!has_colours(&format!("{router} 2>&1 | cat")).await?, "{format}");
        assert!(!has_colours(&format!("NO_COLOR=1 {router}")).await?, "{format}");
        assert!(!has_colours(&format!("TERM=dumb {router}")).await?, "{format}");
    }
    Ok(())
}
