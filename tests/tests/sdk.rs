//! The SDKs for Python and TypeScript on the real system: secrets, refusals, and workers that are
//! killed under load. `.ci/run` installs what they need.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use concert_tests::http::{Answer, post_with};
use concert_tests::running::FREE_PORTS;
use concert_tests::{binaries, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

const TIMEOUT: Duration = Duration::from_secs(90);
/// Number of requests, of concurrent clients, and of requests between two kills of the worker.
const REQUESTS: usize = 100;
const CLIENTS: usize = 6;
const KILL_AFTER: u32 = 30;

/// A `concert up` of the application `sdk/tests/counters`, whose only worker is external.
struct Counters {
    _up: Child,
    dir: TempDir,
    http: SocketAddr,
    running: Value,
    /// Program and arguments of the worker.
    program: Vec<String>,
    worker: Child,
}

impl Counters {
    async fn start(program: &[&str]) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut command = binaries::command(&binaries::dir().await?.join("concert"));
        command.current_dir(binaries::root().join("sdk/tests/counters"));
        command.args(["up", "--isolate-parts", "--data-dir"]).arg(dir.path());
        command
            .envs(FREE_PORTS)
            .envs([("CONCERT_HTTP__DEADLINE_MS", "30000"), ("CONCERT_ARCHIVE__ENABLED", "false")]);
        let mut up = command.spawn()?;
        let running: Value = until("concert up runs", TIMEOUT, async || {
            ensure!(up.try_wait()?.is_none(), "concert up has exited");
            Ok(std::fs::read(dir.path().join("running.json")).ok())
        })
        .await
        .and_then(|text| Ok(serde_json::from_slice(&text)?))?;
        let program: Vec<String> = program.iter().map(|part| (*part).to_owned()).collect();
        let worker = worker(&program, dir.path(), &running, &[])?;
        let http = text(&running, "http")?.parse()?;
        let system = Self { _up: up, dir, http, running, program, worker };
        until("the worker answers", TIMEOUT, async || {
            let answer = system.post("count", &json!({ "name": "ready" })).await?;
            Ok((answer.status == 200).then_some(()))
        })
        .await?;
        Ok(system)
    }

    async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        post_once(self.http, path, body, "").await
    }
}

/// Posts a request; retries with the same key have one effect.
async fn post_once(
    address: SocketAddr,
    path: &str,
    body: &Value,
    key: &str,
) -> anyhow::Result<Answer> {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    let headers = if key.is_empty() { &headers[..1] } else { &headers };
    let path = format!("/api/counters/{path}");
    post_with(address, &path, body.to_string().into_bytes(), headers).await
}

fn text<'a>(running: &'a Value, key: &str) -> anyhow::Result<&'a str> {
    running.get(key).and_then(Value::as_str).with_context(|| format!("no {key} in running.json"))
}

fn worker(
    program: &[String],
    data_dir: &Path,
    running: &Value,
    settings: &[(&str, &str)],
) -> anyhow::Result<Child> {
    let mut words = Vec::new();
    for word in program {
        let path = binaries::root().join(word);
        let is_path = word.contains('/');
        ensure!(!is_path || path.exists(), "{} is missing; see .ci/run", path.display());
        words.push(if is_path { path } else { word.into() });
    }
    let (program, args) = words.split_first().context("a program")?;
    let mut command: Command = binaries::command(program);
    command
        .current_dir(binaries::root().join("sdk/tests/counters"))
        .args(args)
        .env("NATS_URL", text(running, "nats_url")?)
        .env("NATS_NKEY", data_dir.join("keys/nats/counter.nk"))
        .env("MONGODB_URI", text(running, "mongodb_uri")?)
        .env("CONCERT_KEYS", data_dir.join("keys"))
        .envs(settings.iter().copied());
    Ok(command.spawn()?)
}

/// Sends requests, and kills the worker after each `KILL_AFTER` responses. Restarts it.
async fn load_a_killed_worker(system: &mut Counters) -> anyhow::Result<()> {
    let (next, done) = (AtomicUsize::new(0), Semaphore::new(0));
    let address = system.http;
    let client = async || -> anyhow::Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::SeqCst);
            if number >= REQUESTS {
                return Ok(());
            }
            let entry = format!("entry-{number}");
            let body = json!({ "name": "load", "entry": entry });
            // A request may time out while the worker is restarted.
            until("the request has a response", TIMEOUT, async || {
                let answer = post_once(address, "add", &body, &entry).await?;
                Ok((answer.status == 200).then_some(()))
            })
            .await?;
            done.add_permits(1);
        }
    };
    let clients = futures_util::future::try_join_all((0..CLIENTS).map(|_| client()));
    let restart = async {
        loop {
            tokio::select! {
                due = done.acquire_many(KILL_AFTER) => {
                    due?.forget();
                    system.worker.kill().await?;
                }
                // It also kills itself, between the write and the completion.
                _ = system.worker.wait() => {}
            }
            system.worker = worker(&system.program, system.dir.path(), &system.running, &[])?;
        }
    };
    tokio::select! {
        sent = clients => sent.map(drop),
        failed = restart => failed,
    }
}

/// A duplicate key, an error that the worker ignores, and a handler that outlasts the ack deadline.
async fn unusual_actions(system: &mut Counters) -> anyhow::Result<()> {
    let name = json!({ "name": "once" });
    assert_eq!(system.post("claim", &name).await?.status, 200);
    let refused = system.post("claim", &name).await?;
    assert_eq!(refused.brief(), (409, json!({ "error": "The name is stored" }).to_string()));

    system.worker.kill().await?;
    let attempts = [("CONCERT_WORKERS__ATTEMPTS", "1")];
    system.worker = worker(&system.program, system.dir.path(), &system.running, &attempts)?;
    let swallow = json!({ "name": "swallow" });
    let slow = json!({ "name": "slow" });
    let (swallowed, slow) =
        tokio::try_join!(system.post("swallow", &swallow), system.post("slow", &slow))?;
    // The action becomes a dead letter, because its outcome is unknown.
    assert_eq!(swallowed.status, 500, "{swallowed:?}");
    assert_eq!(slow.brief(), (200, json!({ "count": 1 }).to_string()));

    let key = std::fs::read_to_string(system.dir.path().join("keys/nats/operator.nk"))?;
    let key = key.lines().next().context("a key")?.to_owned();
    let nats = async_nats::ConnectOptions::with_nkey(key);
    let nats = nats.connect(text(&system.running, "nats_url")?).await?;
    let about = nats.request("$SRV.PING.Counter", "".into()).await?;
    let about: Value = serde_json::from_slice(&about.payload)?;
    assert_eq!(about.pointer("/metadata/concert-protocol"), Some(&json!("1")), "{about}");
    let hash = about.pointer("/metadata/concert-spec").and_then(Value::as_str);
    assert_eq!(hash.context("a hash")?.len(), 64);
    Ok(())
}

async fn sdk(program: &[&str]) -> anyhow::Result<()> {
    let mut system = Counters::start(program).await?;
    let refused = system.post("add", &json!({ "name": "a", "entry": "" })).await?;
    assert_eq!(refused.brief(), (409, json!({ "error": "An entry is not empty" }).to_string()));
    let ticket = system.post("ticket", &json!({ "name": "a", "word": "hunter22" })).await?;
    assert_eq!(ticket.brief(), (200, json!({ "ticket": "a:hunter22" }).to_string()));

    load_a_killed_worker(&mut system).await?;
    let count = system.post("count", &json!({ "name": "load" })).await?;
    assert_eq!(count.brief(), (200, json!({ "count": REQUESTS }).to_string()));
    let entries = system.post("entries", &json!({ "name": "load" })).await?;
    let entries = entries.body.get("entries").and_then(Value::as_array).context("no entries")?;
    let mut entries: Vec<&str> = entries.iter().filter_map(Value::as_str).collect();
    assert_eq!(entries.len(), REQUESTS);
    entries.sort_unstable();
    entries.dedup();
    assert_eq!(entries.len(), REQUESTS);

    // A repeated request gets the response of the first one.
    let body = json!({ "name": "load", "entry": "entry-0" });
    let again = post_once(system.http, "add", &body, "entry-0").await?;
    assert_eq!(again.status, 200);
    let count = system.post("count", &json!({ "name": "load" })).await?;
    assert_eq!(count.brief(), (200, json!({ "count": REQUESTS }).to_string()));

    unusual_actions(&mut system).await?;

    binaries::signal(&system.worker, Signal::TERM)?;
    let ended = tokio::time::timeout(TIMEOUT, system.worker.wait()).await??;
    assert!(ended.success(), "{ended}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn typescript_class_takes_effect_once() -> anyhow::Result<()> {
    sdk(&["node", TYPESCRIPT, "class"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn typescript_handlers_take_effect_once() -> anyhow::Result<()> {
    sdk(&["node", TYPESCRIPT, "native"]).await
}

const PYTHON: &str = "sdk/python/.venv/bin/python";
const PYTHON_WORKER: &str = "sdk/python/tests/counter.py";
const TYPESCRIPT: &str = "sdk/typescript/dist/tests/counter.js";

#[tokio::test(flavor = "multi_thread")]
async fn python_class_takes_effect_once() -> anyhow::Result<()> {
    sdk(&[PYTHON, PYTHON_WORKER, "class"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn python_handlers_take_effect_once() -> anyhow::Result<()> {
    sdk(&[PYTHON, PYTHON_WORKER, "native"]).await
}

/// Creates an application with the documented commands, checks its types, and runs its tests.
async fn new_application(lang: &str, commands: &[&str]) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let programs = binaries::dir().await?;
    let root = binaries::root().canonicalize()?.display().to_string();
    let run = async |dir: &Path, words: &[&str]| {
        let (program, args) = words.split_first().context("a program")?;
        let mut command = binaries::command(Path::new(program));
        command.current_dir(dir).args(args).envs(FREE_PORTS).env("ROOT", &root);
        binaries::finished(&mut command).await
    };
    let concert = programs.join("concert").display().to_string();
    run(dir.path(), &[&concert, "new", "app", "--lang", lang, "--sdk-path", &root]).await?;
    let app = dir.path().join("app");
    run(&app, &[&concert, "check", "--deny-warnings"]).await?;
    run(&app, &[&concert, "fmt", "--check"]).await?;
    let (test, before) = commands.split_last().context("a test")?;
    for command in before {
        run(&app, &["sh", "-c", command]).await?;
    }
    let printed = run(&app, &[&concert, "dev", "--start", test]).await?;
    ensure!(printed.contains("Note: the worker is ready"), "{printed}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn new_typescript_application_passes_its_tests() -> anyhow::Result<()> {
    let install = "npm install --no-fund --no-audit";
    new_application("ts", &[install, "npm run check", "npm test"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn new_python_application_passes_its_tests() -> anyhow::Result<()> {
    let commands = [
        "python3 -m venv .venv",
        ".venv/bin/pip install --quiet --requirement requirements.txt",
        "$ROOT/sdk/python/.venv/bin/mypy --strict --python-executable .venv/bin/python workers tests",
        ".venv/bin/python -m unittest discover tests",
    ];
    new_application("py", &commands).await
}
