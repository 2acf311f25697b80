//! `concert up` as a process: killed servers, interrupted starts, and commands that find it.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use concert_local_servers::{DirLock, FindOptions, Port, find_or_fetch};
use concert_tests::running::FREE_PORTS;
use concert_tests::{binaries, http, until};
use mongodb::bson::doc;
use mongodb::error::ErrorKind;
use mongodb::options::{ClientOptions, Credential};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

const TIMEOUT: Duration = Duration::from_secs(90);
/// Shorter than any timeout during a start.
const PROMPT: Duration = Duration::from_secs(20);
const ADA: &str = r#"{"username":"ada","password":"correct horse battery"}"#;

/// A `concert up` of a test, on free ports by default.
struct Up {
    child: Child,
    dir: TempDir,
}

async fn concert() -> anyhow::Result<Command> {
    Ok(binaries::command(&binaries::dir().await?.join("concert")))
}

impl Up {
    async fn start(change: impl FnOnce(&mut Command)) -> anyhow::Result<Self> {
        Self::start_in(tempfile::tempdir()?, change).await
    }

    async fn start_in(dir: TempDir, change: impl FnOnce(&mut Command)) -> anyhow::Result<Self> {
        let output = |name| std::fs::File::create(dir.path().join(name));
        let mut command = concert().await?;
        // Variables, which a test can replace.
        command.arg("up").arg("--data-dir").arg(dir.path().join("data"));
        command.envs(FREE_PORTS).envs([
            ("CONCERT_ARCHIVE__ENABLED", "false"),
            ("CONCERT_ARGON2_MEMORY_KIB", "64"),
            ("CONCERT_ARGON2_PASSES", "1"),
        ]);
        change(&mut command);
        let child = command.stdout(output("stdout")?).stderr(output("stderr")?).spawn()?;
        Ok(Self { child, dir })
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn printed(&self, name: &str) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.dir.path().join(name))?)
    }

    /// Waits until it answers requests and returns the connection details.
    async fn running(&mut self) -> anyhow::Result<Value> {
        let file = self.data_dir().join("running.json");
        until("concert up runs", TIMEOUT, async || {
            ensure!(self.child.try_wait()?.is_none(), "{}", self.printed("stderr")?);
            let Ok(text) = std::fs::read(&file) else {
                return Ok(None);
            };
            let running: Value = serde_json::from_slice(&text)?;
            // The file of an earlier process may still exist.
            let pid = running.get("pid").and_then(Value::as_u64);
            Ok((pid == self.child.id().map(u64::from)).then_some(running))
        })
        .await
    }

    async fn post(&self, running: &Value, path: &str) -> anyhow::Result<u16> {
        let address = running["http"].as_str().context("an address")?.parse()?;
        let body: Value = serde_json::from_str(ADA)?;
        Ok(http::post(address, &format!("/api{path}"), &body).await?.status)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill(self.child.id().context("the process has exited")?.into(), signal)
    }

    async fn ended(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        Ok(tokio::time::timeout(within, self.child.wait()).await??)
    }

    /// Runs a command for its data directory.
    async fn command(&self, args: &[&str]) -> anyhow::Result<Output> {
        let mut command = concert().await?;
        command.args(args).arg("--data-dir").arg(self.data_dir());
        Ok(tokio::time::timeout(PROMPT, command.output()).await??)
    }
}

fn kill(pid: u64, signal: Signal) -> anyhow::Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("no process")?;
    Ok(kill_process(pid, signal)?)
}

/// A directory with a `nats-server` that answers `--version` and otherwise runs this shell script.
fn with_nats_server(dir: &Path, script: &str) -> anyhow::Result<std::ffi::OsString> {
    let made = std::process::Command::new("sh")
        .args(["-c", r#"printf '%s\n' "$1" > "$0" && chmod 755 "$0""#])
        .arg(dir.join("nats-server"))
        .arg(format!(
            "#!/bin/sh\n[ \"$1\" = --version ] && {{ echo nats-server: v2.15.1; exit; }}\n{script}"
        ))
        .status()?;
    ensure!(made.success());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::iter::once(dir.to_owned()).chain(std::env::split_paths(&path));
    Ok(std::env::join_paths(dirs)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_servers_are_restarted_and_logins_succeed_again() -> anyhow::Result<()> {
    let mut up = Up::start(|_| {}).await?;
    let before = up.running().await?;
    assert_eq!(up.post(&before, "/auth/createAccount").await?, 200);
    for (pid, program) in [("nats_pid", "nats-server"), ("mongod_pid", "mongod")] {
        let old = before[pid].as_u64().context("a process id")?;
        kill(old, Signal::KILL)?;
        let again = until("the server is restarted", TIMEOUT, async || {
            let running = up.running().await?;
            Ok((running[pid].as_u64() != Some(old)).then_some(running))
        })
        .await?;
        assert_eq!(again["nats_url"], before["nats_url"]);
        assert_eq!(again["mongodb_uri"], before["mongodb_uri"]);
        until("a login succeeds", TIMEOUT, async || {
            Ok((up.post(&before, "/auth/login").await? == 200).then_some(()))
        })
        .await?;
        let printed = up.printed("stdout")?;
        for line in [
            format!("{program} exited unexpectedly (exit status: 137); restarting it"),
            format!("{program} is running again"),
        ] {
            assert!(printed.contains(&line), "{line}: {printed}");
        }
    }
    up.signal(Signal::TERM)?;
    assert!(up.ended(TIMEOUT).await?.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn external_worker_joins_with_the_data_directory() -> anyhow::Result<()> {
    let mut up = Up::start(|command| {
        command.env("CONCERT_WORKERS__SESSIONING__EXTERNAL", "true");
    })
    .await?;
    let running = up.running().await?;
    for (service, setting) in [
        (&["worker", "Profile"][..], "workers.Profile.external = true"),
        (&["http-edge", "--listen", "0"], "nats.isolate = true"),
    ] {
        let output = up.command(service).await?;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && errors.contains(setting), "{errors}");
    }
    let mut worker = concert().await?;
    worker.args(["worker", "Sessioning", "--data-dir"]).arg(up.data_dir());
    let mut worker = worker.spawn()?;
    until("the edge has a route table", TIMEOUT, async || {
        Ok((up.post(&running, "/auth/createAccount").await? == 200).then_some(()))
    })
    .await?;
    assert_eq!(up.post(&running, "/auth/login").await?, 200);
    kill(worker.id().context("the worker has exited")?.into(), Signal::TERM)?;
    assert!(tokio::time::timeout(PROMPT, worker.wait()).await??.success());
    up.signal(Signal::TERM)?;
    assert!(up.ended(TIMEOUT).await?.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_keeps_exiting_stops_up_with_its_log_tail() -> anyhow::Result<()> {
    let real = find_or_fetch(&FindOptions::of_user()?, &|_| {}).await?.nats_server;
    let dir = tempfile::tempdir()?;
    let once = dir.path().join("once");
    let script = format!(
        "[ -e {once} ] && {{ echo the disk is on fire; exit 3; }}\n\
         touch {once}\nexec {real} \"$@\"",
        once = once.display(),
        real = real.display()
    );
    let path = with_nats_server(dir.path(), &script)?;
    let mut up = Up::start(|command| {
        command.env("PATH", path);
    })
    .await?;
    let running = up.running().await?;
    kill(running["nats_pid"].as_u64().context("a process id")?, Signal::KILL)?;
    assert_eq!(up.ended(TIMEOUT).await?.code(), Some(1));
    let errors = up.printed("stderr")?;
    assert!(
        errors.contains("nats-server was restarted 5 times within 120 s")
            && errors.contains("the disk is on fire"),
        "{errors}"
    );
    assert!(!up.data_dir().join("running.json").exists());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn up_can_be_started_again_immediately_after_it_was_killed() -> anyhow::Result<()> {
    let nats = Port::free().context("no free port")?;
    let mongo = Port::free().context("no free port")?;
    let ports = |command: &mut Command| {
        command.env("CONCERT_NATS__PORT", nats.number().to_string());
        command.env("CONCERT_MONGODB__PORT", mongo.number().to_string());
    };
    let mut first = Up::start(ports).await?;
    let running = first.running().await?;
    assert_eq!(first.post(&running, "/auth/createAccount").await?, 200);
    first.child.start_kill()?;
    let Up { mut child, dir } = first;
    let mut second = Up::start_in(dir, ports).await?;
    let running = second.running().await?;
    assert_eq!(second.post(&running, "/auth/login").await?, 200);
    child.wait().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupt_stops_a_start_that_waits_for_a_server() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let waits = dir.path().join("waits");
    let path =
        with_nats_server(dir.path(), &format!("touch {}\nexec sleep 1000", waits.display()))?;
    let mut up = Up::start(|command| {
        command.env("PATH", path);
    })
    .await?;
    until("the server was started", TIMEOUT, async || Ok(waits.exists().then_some(()))).await?;
    up.signal(Signal::INT)?;
    assert!(up.ended(PROMPT).await?.success());

    // A server that accepts connections and sends nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("nats://{}", silent.local_addr()?);
    let mut up = Up::start(|command| {
        command.env("NATS_URL", url);
    })
    .await?;
    let _connection = tokio::time::timeout(TIMEOUT, silent.accept()).await??;
    up.signal(Signal::INT)?;
    assert!(up.ended(PROMPT).await?.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn address_in_use_is_reported_before_any_server_starts() -> anyhow::Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0").await?;
    let address = taken.local_addr()?.to_string();
    let mut up = Up::start(|command| {
        command.env("CONCERT_HTTP__LISTEN", &address);
    })
    .await?;
    assert_eq!(up.ended(TIMEOUT).await?.code(), Some(1));
    let errors = up.printed("stderr")?;
    assert!(errors.contains(&address), "{errors}");
    assert!(!up.data_dir().join("nats").exists() && !up.data_dir().join("mongo").exists());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_find_the_running_system_by_its_data_directory() -> anyhow::Result<()> {
    let mut up = Up::start(|command| {
        command.env_remove("CONCERT_ARCHIVE__ENABLED");
    })
    .await?;
    let running = up.running().await?;
    assert_eq!(up.post(&running, "/auth/createAccount").await?, 200);
    until("the archive has the flow", TIMEOUT, async || {
        let output = up.command(&["flows"]).await?;
        ensure!(output.status.success(), "{output:?}");
        let flows = String::from_utf8_lossy(&output.stdout);
        Ok(flows.contains("/auth/createAccount").then_some(()))
    })
    .await?;
    let http = running["http"].as_str().context("an address")?;
    for args in [
        &["ready", "--concept", "Profile"][..],
        &["ready", "--concept", "Requesting", "--edge", http],
        &["dead", "list"],
    ] {
        let output = up.command(args).await?;
        assert!(output.status.success(), "{args:?}: {output:?}");
    }
    let output = up.command(&["ready", "--concept", "Requesting"]).await?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && errors.contains("has no worker; name its edge"),
        "{errors}"
    );
    up.signal(Signal::TERM)?;
    assert!(up.ended(TIMEOUT).await?.success());
    assert!(!up.data_dir().join("running.json").exists());
    for args in [
        &["flows"][..],
        &["tail"],
        &["dead", "list"],
        &["keys", "list"],
        &["ready", "--concept", "Profile"],
    ] {
        let output = up.command(args).await?;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success()
                && errors.contains("is `concert up` running in this directory?"),
            "{args:?}: {errors}"
        );
    }
    // A server that is named explicitly has the same timeout.
    let closed = Port::free().context("no free port")?;
    let url = format!("nats://127.0.0.1:{}", closed.number());
    let output = up.command(&["flows", "--nats-url", &url]).await?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains(&format!("cannot connect to NATS at {url} within 3 s")), "{errors}");
    Ok(())
}

/// Inserts a document as a client with this credential; the error code of MongoDB, if it fails.
async fn insert(
    running: &Value,
    credential: Option<Credential>,
    database: &str,
) -> anyhow::Result<Option<i32>> {
    let uri = running["mongodb_uri"].as_str().context("a URI")?;
    let mut options = ClientOptions::parse(uri).await?;
    options.credential = credential;
    let client = mongodb::Client::with_options(options)?;
    let inserted = client.database(database).collection("notes").insert_one(doc! { "a": 1 }).await;
    match inserted {
        Ok(_) => Ok(None),
        Err(error) => match &*error.kind {
            ErrorKind::Command(command) => Ok(Some(command.code)),
            _ => Err(error.into()),
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mongodb_of_up_gives_each_concept_rights_on_its_own_database_only() -> anyhow::Result<()> {
    const UNAUTHORIZED: Option<i32> = Some(13);
    let mut up = Up::start(|_| {}).await?;
    let running = up.running().await?;
    assert_eq!(up.post(&running, "/auth/createAccount").await?, 200);
    assert_eq!(insert(&running, None, "concert_sessioning").await?, UNAUTHORIZED);
    let keys = std::fs::read_to_string(up.data_dir().join("keys/mongo/profile.key"))?;
    let key = keys.lines().find(|line| !line.starts_with('#')).context("no key")?;
    let (id, password) = key.split_once(' ').context("no password")?;
    let profile = Credential::builder()
        .username(format!("profile_{id}"))
        .password(password.to_owned())
        .source("concert_profile".to_owned())
        .build();
    let foreign = insert(&running, Some(profile.clone()), "concert_sessioning").await?;
    assert_eq!(foreign, UNAUTHORIZED);
    assert_eq!(insert(&running, Some(profile), "concert_profile").await?, None);

    // A second key, and a restart that uses it.
    let added = up.command(&["keys", "add", "mongo/profile"]).await?;
    assert!(added.status.success(), "{added:?}");
    let added = String::from_utf8(added.stdout)?;
    let new = added.trim().rsplit(' ').next().context("no id")?;
    assert!(up.command(&["keys", "use", "mongo/profile", new]).await?.status.success());
    up.signal(Signal::TERM)?;
    assert!(up.ended(TIMEOUT).await?.success());
    let mut up = Up::start_in(up.dir, |_| {}).await?;
    let running = up.running().await?;
    assert!(up.command(&["keys", "drop", "mongo/profile", id]).await?.status.success());
    assert_eq!(up.post(&running, "/auth/login").await?, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_sealing_key_stops_up_until_it_is_restored() -> anyhow::Result<()> {
    let mut up = Up::start(|_| {}).await?;
    let running = up.running().await?;
    assert_eq!(up.post(&running, "/auth/createAccount").await?, 200);
    up.signal(Signal::TERM)?;
    assert!(up.ended(TIMEOUT).await?.success());
    let key = up.data_dir().join("keys/seal.key");
    let backup = up.dir.path().join("backup");
    std::fs::rename(&key, &backup)?;

    let mut up = Up::start_in(up.dir, |_| {}).await?;
    assert_eq!(up.ended(TIMEOUT).await?.code(), Some(1));
    let errors = up.printed("stderr")?;
    assert!(errors.contains("`seal`") && errors.contains("--accept-new-keys"), "{errors}");
    assert!(!key.exists(), "a new key replaced the lost one");

    // A key of an earlier release, without a time of creation, is replaced by the daily rotation.
    let text = std::fs::read_to_string(&backup)?;
    let (id, _) = text
        .lines()
        .find_map(|line| line.split_once(' ').filter(|(id, _)| *id != "#"))
        .context("no key")?;
    std::fs::write(&key, text.replace(&format!("\n{id} "), "\nk1 "))?;
    let mut up = Up::start_in(up.dir, |_| {}).await?;
    let running = up.running().await?;
    assert_eq!(up.post(&running, "/auth/login").await?, 200);
    until("a new key was added", TIMEOUT, async || {
        let keys = std::fs::read_to_string(&key)?;
        Ok((keys.lines().filter(|line| !line.starts_with('#')).count() == 2).then_some(()))
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn second_up_on_a_data_directory_is_rejected_before_it_changes_anything() -> anyhow::Result<()>
{
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data");
    let _lock = DirLock::acquire(&data).await?;
    let mut up = Up::start_in(dir, |_| {}).await?;
    assert_eq!(up.ended(TIMEOUT).await?.code(), Some(1));
    let errors = up.printed("stderr")?;
    assert!(errors.contains("in use by process") && errors.contains("--data-dir"), "{errors}");
    assert!(!data.join("keys").exists());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn data_directory_with_a_quotation_mark_is_rejected() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("a\"b\\c");
    let mut up = Up::start(|command| {
        command.arg("--data-dir").arg(&data);
    })
    .await?;
    assert_eq!(up.ended(TIMEOUT).await?.code(), Some(1));
    let errors = up.printed("stderr")?;
    assert!(errors.contains("contains a quotation mark"), "{errors}");
    assert!(!data.exists(), "a rejected directory is not created");
    Ok(())
}
