//! The SDKs for Python and TypeScript on the real system: secrets, refusals, workers that are
//! killed under load, and an imported application. `.ci/run` installs what they need.

#![expect(clippy::indexing_slicing, reason = "a response without these members fails the test")]

#[path = "sdk/import.rs"]
mod import;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
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

    /// Connects as the operator.
    async fn nats(&self) -> anyhow::Result<async_nats::Client> {
        let key = std::fs::read_to_string(self.dir.path().join("keys/nats/operator.nk"))?;
        let key = key.lines().next().context("a key")?.to_owned();
        let options = async_nats::ConnectOptions::with_nkey(key);
        Ok(options.connect(text(&self.running, "nats_url")?).await?)
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

/// An entry of the load, of 60 characters, so that its rows fill a message.
fn entry(number: usize) -> String {
    format!("{number:0>60}")
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
            let entry = entry(number);
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

/// Null, a missing key, and what the spec does not allow: in inputs, outputs and rows.
async fn null_is_not_a_missing_key(system: &Counters) -> anyhow::Result<()> {
    let note = async |body: Value| -> anyhow::Result<(u16, Value)> {
        let answer = system.post("note", &body).await?;
        Ok((answer.status, answer.body))
    };
    let kept = |kept: Value| (200, json!({ "kept": kept }));
    let n = json!({ "name": "n" });
    assert_eq!(note(n.clone()).await?, kept(json!({})));
    assert_eq!(note(json!({ "name": "n", "note": null })).await?, kept(json!({ "note": null })));
    let given = json!({ "name": "n", "note": "a", "alias": "b" });
    let both = kept(json!({ "note": "a", "alias": "b" }));
    assert_eq!(note(given).await?, both);
    assert_eq!(note(n.clone()).await?, both);
    let read = async || Ok::<_, anyhow::Error>(system.post("read-note", &n).await?.body);
    assert_eq!(read().await?, json!({ "note": "a" }));
    let kept = kept(json!({ "note": null, "alias": "b" }));
    assert_eq!(note(json!({ "name": "n", "note": null })).await?, kept);
    assert_eq!(read().await?, json!({ "note": null }));

    let sized = system.post("sized", &json!({ "name": "load", "least": 1 })).await?;
    assert_eq!(sized.body, json!({ "found": "load" }));
    // A handler that requires an optional key finds no row without it.
    let sized = system.post("sized", &json!({ "name": "load" })).await?;
    assert_eq!(sized.body, json!({ "found": null }));

    // An input, an output and a row that the spec does not allow.
    let string = "must be a string of at most 64 characters";
    let (status, body) = note(json!({ "name": "n", "alias": null })).await?;
    assert_eq!((status, body["error"].as_str()), (400, Some(&*format!("`alias` {string}"))));
    let (status, body) = note(json!({ "name": "x", "alias": "null" })).await?;
    let why = format!("the output does not fit the spec: `kept.alias` {string}");
    assert_eq!(status, 500, "{body}");
    assert!(body["error"].as_str().is_some_and(|error| error.contains(&why)), "{body}");
    let wrong = system.post("read-note", &json!({ "name": "wrong" })).await?;
    assert_eq!(wrong.status, 500, "{wrong:?}");
    assert!(wrong.text("error")?.contains("Counter._note cannot be answered"), "{wrong:?}");
    let action = json!({ "name": "n", "alias": null }).to_string();
    let direct = system.nats().await?.request("concept.Counter.note", action.into()).await?;
    let headers = direct.headers.context("headers")?;
    let error = headers.get("Nats-Service-Error").map(async_nats::HeaderValue::as_str);
    assert_eq!(error, Some(&*format!("`alias` {string}")));
    Ok(())
}

/// Queries of many frames are one message. Counts the messages of each endpoint.
async fn batches(system: &Counters) -> anyhow::Result<()> {
    let nats = system.nats().await?;
    let requests = async |name: &str| -> anyhow::Result<u64> {
        let stats = nats.request("$SRV.STATS.Counter", "".into()).await?;
        let stats: Value = serde_json::from_slice(&stats.payload)?;
        let endpoints = stats["endpoints"].as_array().context("no endpoints")?;
        let endpoint = endpoints.iter().find(|of| of["name"] == name).context("no endpoint")?;
        endpoint["num_requests"].as_u64().context("no number")
    };
    let before = (requests("_count").await?, requests("query-batch").await?);
    let names: Vec<String> = (0..20).map(|number| format!("none-{number}")).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names[7] = "load";
    let counts = system.post("counts", &json!({ "names": names })).await?;
    let count = |name: &str| if name == "load" { REQUESTS } else { 0 };
    let row = |name: &&str| json!({ "name": name, "count": count(name) });
    let expected: Vec<Value> = names.iter().map(row).collect();
    assert_eq!(counts.body, json!({ "counts": expected }));
    let after = (requests("_count").await?, requests("query-batch").await?);
    assert_eq!(after, (before.0, before.1 + 1));

    let flow = "0199f0a0-0000-7000-8000-000000000001";
    let ask = async |body: Value, flow: &str| -> anyhow::Result<(String, Value)> {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Concert-Flow", flow);
        let subject = "concept.Counter.query-batch";
        let request = async_nats::Request::new().headers(headers).payload(body.to_string().into());
        let answer = nats.send_request(subject, request.timeout(Some(TIMEOUT))).await?;
        let code = answer.headers.as_ref().and_then(|of| of.get("Nats-Service-Error-Code"));
        let code = code.map_or_else(String::new, ToString::to_string);
        Ok((code, serde_json::from_slice(&answer.payload).unwrap_or_default()))
    };
    let batch = |query: &str, inputs: Value| json!({ "query": query, "inputs": inputs });
    let load = json!([{ "name": "load" }, { "name": "none" }]);
    let results = json!({ "results": [[{ "count": REQUESTS }], [{ "count": 0 }]] });
    assert_eq!(ask(batch("_count", load.clone()), flow).await?, (String::new(), results));
    // One that fails fails the batch; one that is too large is sent again as single queries.
    let many = Value::from(vec![json!({ "name": "load" }); 320]);
    for (body, flow, code) in [
        (batch("_count", json!([{ "name": "load" }, {}])), flow, "400"),
        (batch("_none", load.clone()), flow, "400"),
        (batch("_count", json!({})), flow, "400"),
        (batch("_count", load), "", "400"),
        (batch("_entries", many), flow, "413"),
    ] {
        // On a busy machine, the worker may reach the deadline of a request.
        let mut tries = 1..=5;
        let answer = loop {
            let answer = ask(body.clone(), flow).await?.0;
            if answer != "503" || tries.next().is_none() {
                break answer;
            }
        };
        assert_eq!(answer, code);
    }
    Ok(())
}

/// Serves one text. Adds to the counter `quoted` before each response, which fails while the action
/// that waits for the response holds a transaction on it. Returns the URL and the number of calls.
async fn service(edge: SocketAddr) -> anyhow::Result<(String, Arc<AtomicUsize>)> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/", listener.local_addr()?);
    let calls = Arc::new(AtomicUsize::new(0));
    let number = calls.clone();
    let app = axum::Router::new().fallback(async move || {
        number.fetch_add(1, Ordering::SeqCst);
        let body = json!({ "name": "quoted", "entry": "by the service" });
        match post_once(edge, "add", &body, "").await {
            Ok(answer) => answer.body.to_string(),
            Err(error) => error.to_string(),
        }
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok((url, calls))
}

/// A duplicate key, an error that the worker ignores, a handler that outlasts the ack deadline, and
/// one that calls a service.
async fn unusual_actions(system: &mut Counters) -> anyhow::Result<()> {
    let name = json!({ "name": "once" });
    assert_eq!(system.post("claim", &name).await?.status, 200);
    let refused = system.post("claim", &name).await?;
    assert_eq!(refused.brief(), (409, json!({ "error": "The name is stored" }).to_string()));

    system.worker.kill().await?;
    let (url, calls) = service(system.http).await?;
    let settings = [("CONCERT_WORKERS__ATTEMPTS", "1"), ("COUNTER_SERVICE", &*url)];
    system.worker = worker(&system.program, system.dir.path(), &system.running, &settings)?;
    let swallow = json!({ "name": "swallow" });
    let slow = json!({ "name": "slow" });
    let (swallowed, slow) =
        tokio::try_join!(system.post("swallow", &swallow), system.post("slow", &slow))?;
    // The action becomes a dead letter, because its outcome is unknown.
    assert_eq!(swallowed.status, 500, "{swallowed:?}");
    assert_eq!(slow.brief(), (200, json!({ "count": 1 }).to_string()));
    // The count is not that of the action, which is written after the call.
    let quote = system.post("quote", &json!({ "name": "quoted" })).await?;
    assert_eq!(quote.brief(), (200, json!({ "quote": "{\"count\":1}" }).to_string()));
    let count = system.post("count", &json!({ "name": "quoted" })).await?;
    assert_eq!(count.brief(), (200, json!({ "count": 2 }).to_string()));
    assert_eq!(calls.load(Ordering::SeqCst), 1);

    let about = system.nats().await?.request("$SRV.PING.Counter", "".into()).await?;
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
    let body = json!({ "name": "load", "entry": entry(0) });
    let again = post_once(system.http, "add", &body, &entry(0)).await?;
    assert_eq!(again.status, 200);
    let count = system.post("count", &json!({ "name": "load" })).await?;
    assert_eq!(count.brief(), (200, json!({ "count": REQUESTS }).to_string()));

    null_is_not_a_missing_key(&system).await?;
    batches(&system).await?;
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

#[tokio::test(flavor = "multi_thread")]
async fn typescript_class_takes_effect_once_under_deno() -> anyhow::Result<()> {
    let deno = "sdk/typescript/node_modules/.bin/deno";
    sdk(&[deno, "run", "--allow-all", TYPESCRIPT, "class"]).await
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
    let types = match lang {
        "ts" => "workers/note-types.ts",
        _ => "workers/note_types.py",
    };
    let readme = std::fs::read_to_string(app.join("README.md"))?;
    ensure!(readme.contains(&format!("concert gen Note --lang {lang} --out {types}")), "{readme}");
    run(&app, &[&concert, "gen", "Note", "--lang", lang, "--out", types]).await?;
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
