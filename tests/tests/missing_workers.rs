//! `concert up` of an application with other concepts than the program has workers.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::ensure;
use concert_tests::{binaries, http, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(90);

const GREETING: &str =
    "concept Greeting\npurpose to greet\nactions\n    greet (name: String) : (name: String)\n";

const RULES: &str = r#"
sync Echo
when
    Requesting.request (path: "/echo", text) : (request)
then
    Requesting.respond (request, text)

sync Greet
when
    Requesting.request (path: "/greet", name) : (request)
then
    Greeting.greet (name)
    Requesting.respond (request, name)
"#;

/// Writes an application with a concept that has no worker, and without the concepts of the
/// program's workers.
fn application(dir: &Path) -> anyhow::Result<()> {
    let (concepts, syncs) = (dir.join("concepts"), dir.join("syncs"));
    std::fs::create_dir(&concepts)?;
    std::fs::create_dir(&syncs)?;
    std::fs::write(concepts.join("Greeting.concept"), GREETING)?;
    std::fs::write(syncs.join("greet.sync"), RULES)?;
    Ok(())
}

/// Starts the application, sends a request that needs no worker, stops it, and returns its standard
/// error.
async fn up(further: &[&str]) -> anyhow::Result<String> {
    let programs = binaries::dir().await?;
    let dir = tempfile::tempdir()?;
    application(dir.path())?;
    let child = binaries::command(&programs.join("concert"))
        .args(["up", "--listen", "0", "--nats-port", "0", "--mongo-port", "0", "--no-archive"])
        .args(["--started-file", "started"])
        .args(further)
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let pid = child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
    let file = dir.path().join("started");
    let exits = tokio::spawn(child.wait_with_output());
    let started = until("concert up starts or exits", TIMEOUT, async || {
        let started = std::fs::read(&file).ok();
        Ok((exits.is_finished() || started.is_some()).then_some(started))
    })
    .await?;
    if let (Some(started), Some(pid)) = (started, pid) {
        let started: Value = serde_json::from_slice(&started)?;
        let address = started.get("http").and_then(Value::as_str).unwrap_or_default().parse()?;
        let answer =
            http::post(address, "/api/echo", &serde_json::json!({ "text": "hello" })).await?;
        ensure!(answer.status == 200 && answer.text("text")? == "hello", "{answer:?}");
        kill_process(pid, Signal::TERM)?;
    }
    let output = exits.await??;
    let text = String::from_utf8(output.stderr)?;
    ensure!(output.status.success(), "{}: {text}", output.status);
    Ok(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn application_without_built_in_concepts_starts_with_a_warning() -> anyhow::Result<()> {
    for further in [&[][..], &["--isolate-parts"]] {
        let printed = up(further).await?;
        assert!(printed.contains("the rules use the concept `Greeting`"), "{printed}");
        assert!(!printed.contains("`Profile`"), "{printed}");
        assert!(!printed.contains("ERROR"), "{printed}");
    }
    Ok(())
}
