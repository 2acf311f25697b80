//! `concert dev`: workers as child processes, and changes while the application runs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use concert_tests::http::{self, Answer, post};
use concert_tests::running::{self, FREE_PORTS};
use concert_tests::{binaries, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

const TIMEOUT: Duration = Duration::from_secs(90);

const ECHO: &str = r#"sync Echo
when
    Requesting.request (path: "/echo", text) : (request)
then
    Requesting.respond (request, text)
"#;

/// A `concert dev` of an application that `concert new` wrote.
struct Dev {
    child: Child,
    dir: TempDir,
}

async fn concert(dir: &Path) -> anyhow::Result<Command> {
    let mut command = binaries::command(&binaries::dir().await?.join("concert"));
    command.current_dir(dir);
    Ok(command)
}

impl Dev {
    /// Starts an application that has only the rule Echo. The files of its concept Note are
    /// moved to another directory.
    async fn start(further: &[&str]) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let root = binaries::root().display().to_string();
        let mut new = concert(dir.path()).await?;
        new.args(["new", "app", "--lang", "rust", "--sdk-path", &root]);
        binaries::finished(&mut new).await?;
        let app = dir.path().join("app");
        for file in ["concepts/Note.concept", "syncs/note.sync", "concert.toml"] {
            std::fs::rename(app.join(file), dir.path().join(name(file)?))?;
        }
        std::fs::write(app.join("syncs/echo.sync"), ECHO)?;
        std::fs::write(app.join("concert.toml"), "[app]\nname = \"dev\"\n")?;

        let output = |name| std::fs::File::create(dir.path().join(name));
        let mut command = concert(&app).await?;
        command.arg("dev").args(further).envs(FREE_PORTS);
        command.env("CONCERT_ARCHIVE__ENABLED", "false");
        let child = command.stdout(output("stdout")?).stderr(output("stderr")?).spawn()?;
        Ok(Self { child, dir })
    }

    fn app(&self) -> PathBuf {
        self.dir.path().join("app")
    }

    /// Moves a file of the concept Note to the application.
    fn add(&self, file: &str) -> anyhow::Result<()> {
        Ok(std::fs::rename(self.dir.path().join(name(file)?), self.app().join(file))?)
    }

    /// Replaces a text in a file of the application.
    fn edit(&self, file: &str, from: &str, to: &str) -> anyhow::Result<()> {
        let path = self.app().join(file);
        let text = std::fs::read_to_string(&path)?;
        ensure!(text.contains(from), "{file} has no `{from}`");
        Ok(std::fs::write(path, text.replace(from, to))?)
    }

    fn printed(&self, name: &str) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.dir.path().join(name))?)
    }

    async fn until_printed(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let found =
            until(text, TIMEOUT, async || Ok(self.printed(name)?.contains(text).then_some(())));
        found.await.with_context(|| self.printed(name).unwrap_or_default())
    }

    async fn address(&mut self) -> anyhow::Result<SocketAddr> {
        let (data_dir, stderr) = (self.app().join(".concert"), self.dir.path().join("stderr"));
        running::address(&mut self.child, &data_dir, &stderr).await
    }

    async fn post(&mut self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        post(self.address().await?, &format!("/api/{path}"), body).await
    }

    /// Sends a request until it gets this status.
    async fn until_status(&mut self, path: &str, status: u16) -> anyhow::Result<()> {
        let body = json!({ "writer": "ada", "text": "Hello" });
        let what = format!("{path} has the status {status}");
        let answered = until(&what, TIMEOUT, async || {
            Ok((self.post(path, &body).await?.status == status).then_some(()))
        });
        answered.await.with_context(|| self.printed("stderr").unwrap_or_default())
    }

    /// The problems of workers that the console shows.
    async fn worker_problems(&self) -> anyhow::Result<String> {
        let file = std::fs::read(self.app().join(".concert/running.json"))?;
        let running: Value = serde_json::from_slice(&file)?;
        let console = running.get("console").and_then(Value::as_str).context("no console")?;
        Ok(http::get(format!("http://{console}/_concert/api/workers")).await?.text().await?)
    }

    /// The process id of the worker, if it is not this one.
    async fn other_worker(&self, than: Option<Pid>) -> anyhow::Result<Pid> {
        let program = binaries::dir().await?.join("note-worker");
        let keys = self.app().join(".concert/keys").canonicalize()?;
        until("another worker runs", TIMEOUT, async || {
            let found = std::fs::read_dir("/proc")?.flatten().find_map(|process| {
                let pid = process.file_name().to_str()?.parse().ok().and_then(Pid::from_raw)?;
                let is_worker = std::fs::read_link(process.path().join("exe")).ok()? == program;
                let variables = std::fs::read(process.path().join("environ")).ok()?;
                let is_ours = String::from_utf8_lossy(&variables).contains(keys.to_str()?);
                (is_worker && is_ours && Some(pid) != than).then_some(pid)
            });
            Ok(found)
        })
        .await
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        binaries::signal(&self.child, signal)
    }
}

/// Returns whether a process runs; one that only waits for its parent does not.
fn runs(pid: Pid) -> bool {
    std::fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero())).is_ok()
}

fn name(file: &str) -> anyhow::Result<&str> {
    Path::new(file).file_name().and_then(|name| name.to_str()).context("a name")
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_take_effect_while_the_application_runs() -> anyhow::Result<()> {
    let mut dev = Dev::start(&[]).await?;
    dev.until_status("echo", 200).await?;

    // A new concept: its rules wait until it has a worker.
    dev.add("concepts/Note.concept")?;
    dev.add("syncs/note.sync")?;
    let waits = "the changed rules wait, and the active rules stay: the concept `Note` has no";
    dev.until_printed("stderr", waits).await?;
    assert_eq!(dev.post("note/find", &json!({ "writer": "ada" })).await?.status, 404);
    let worker = binaries::dir().await?.join("note-worker").display().to_string();
    let worker = format!("[workers.Note]\ncommand = [{worker:?}]\nwatch = [\"watched\"]\n");
    std::fs::write(dev.app().join("concert.toml"), worker)?;
    dev.until_status("note/create", 200).await?;
    dev.until_printed("stdout", "Note: the worker is ready").await?;

    // It has its own account and database user, and a killed one returns.
    let first = dev.other_worker(None).await?;
    let variables = std::fs::read(format!("/proc/{}/environ", first.as_raw_nonzero()))?;
    let variables = String::from_utf8_lossy(&variables).into_owned();
    assert!(variables.contains("keys/nats/note.nk") && !variables.contains("CARGO_PKG"));
    kill_process(first, Signal::KILL)?;
    dev.until_printed("stdout", "Note: the worker exited").await?;
    let second = dev.other_worker(Some(first)).await?;
    dev.until_status("note/create", 200).await?;

    // A changed source restarts it.
    std::fs::write(dev.app().join("watched"), "changed")?;
    let third = dev.other_worker(Some(second)).await?;
    dev.until_status("note/create", 200).await?;

    // Changed rules are active, and invalid ones are not.
    dev.edit("syncs/note.sync", "/note/find", "/note/search")?;
    dev.until_status("note/search", 200).await?;
    dev.edit("syncs/note.sync", "collect", "colect")?;
    dev.until_printed("stderr", "the active rules stay: the specs or rules have errors").await?;
    dev.edit("syncs/note.sync", "colect", "collect")?;

    // A spec that the worker does not implement: the rules wait again.
    dev.edit("concepts/Note.concept", "String(280)", "String(300)")?;
    dev.until_printed("stderr", "the worker of `Note` has another spec than the rules").await?;
    dev.until_status("note/search", 200).await?;
    dev.edit("concepts/Note.concept", "String(300)", "String(280)")?;

    let last = dev.other_worker(Some(third)).await?;
    dev.until_status("note/create", 200).await?;
    dev.signal(Signal::INT)?;
    let status = tokio::time::timeout(TIMEOUT, dev.child.wait()).await??;
    assert!(status.success(), "{}", dev.printed("stderr")?);
    assert!(!runs(last), "the worker still runs");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn end_of_the_start_command_stops_everything() -> anyhow::Result<()> {
    for (command, is_success) in [("printenv CONCERT_API", true), ("exit 3", false)] {
        let mut dev = Dev::start(&["--start", command]).await?;
        let status = tokio::time::timeout(TIMEOUT, dev.child.wait()).await??;
        assert_eq!(status.success(), is_success, "{}", dev.printed("stderr")?);
        match is_success {
            true => assert!(dev.printed("stdout")?.contains("start | http://127.0.0.1:")),
            false => assert!(dev.printed("stderr")?.contains("the command of --start failed")),
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_dev_leaves_no_worker() -> anyhow::Result<()> {
    let mut dev = Dev::start(&[]).await?;
    // The settings and rules are read before the keys exist, so these changes are made during the
    // start.
    let keys = dev.app().join(".concert/keys");
    until("the keys exist", TIMEOUT, async || Ok(keys.exists().then_some(()))).await?;
    dev.add("concepts/Note.concept")?;
    dev.add("syncs/note.sync")?;
    let text = |command: Value| format!("[workers.Note]\ncommand = {command}\n");
    std::fs::write(dev.app().join("concert.toml"), text(json!(["sh", "-c", "exit 3"])))?;
    dev.address().await?;
    let shown = async |dev: &Dev, problem: &str| {
        until(problem, TIMEOUT, async || {
            Ok(dev.worker_problems().await?.contains(problem).then_some(()))
        })
        .await
    };
    shown(&dev, "Note: the worker exited (exit status: 3); restarting it in").await?;
    // The shell does not pass signals on.
    let worker = binaries::dir().await?.join("note-worker").display().to_string();
    let command = json!(["sh", "-c", format!("{worker}; true")]);
    std::fs::write(dev.app().join("concert.toml"), text(command))?;
    dev.until_status("note/create", 200).await?;
    shown(&dev, r#"{"rows":[]}"#).await?;
    let worker = dev.other_worker(None).await?;
    dev.signal(Signal::KILL)?;
    until("the worker has exited", TIMEOUT, async || Ok((!runs(worker)).then_some(()))).await
}
