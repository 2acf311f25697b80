//! The OpenAPI documents, checked and used by independent tools: `openapi-spec-validator` and
//! `schemathesis`. `.ci/run` installs them.

#[path = "routes/application.rs"]
mod application;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use concert_tests::{System, binaries, http, running};
use rustix::process::Signal;
use serde_json::json;
use tokio::process::Command;

/// Time budget of `schemathesis` for one system, in seconds.
const SECONDS: &str = "30";
/// Above its time budget, because it completes the requests in progress.
const TIMEOUT: Duration = Duration::from_secs(180);

/// A program of the virtual environment that `.ci/run` makes.
fn program(name: &str) -> PathBuf {
    binaries::root().join("sdk/python/.venv/bin").join(name)
}

/// Runs a program, which must exit with 0 in time.
async fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = tokio::time::timeout(TIMEOUT, command.kill_on_drop(true).output()).await??;
    let (text, errors) = (&output.stdout, &output.stderr);
    let shown =
        || format!("{}\n{}", String::from_utf8_lossy(text), String::from_utf8_lossy(errors));
    ensure!(output.status.success(), "{command:?} exited with {}:\n{}", output.status, shown());
    Ok(())
}

/// Sends requests with a header that follow the document of an edge, and requests that do not.
async fn test(address: SocketAddr, paths: &str, header: Option<&str>) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let document = format!("http://{address}/openapi.json");
    let file = dir.path().join("openapi.json");
    std::fs::write(&file, http::get(&document).await?.bytes().await?)?;
    run(Command::new(program("openapi-spec-validator")).arg(file)).await?;
    let checks = [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "unsupported_method",
    ];
    let mut command = Command::new(program("st"));
    command.current_dir(dir.path()).args(["run", &document, "--include-path-regex", paths]);
    command.args(["--max-time", SECONDS, "--checks", &checks.join(","), "--seed", "1"]);
    command.args(["--no-color", "--warnings", "off", "--request-timeout", "30"]);
    command.args(header.into_iter().flat_map(|header| ["--header", header]));
    run(&mut command).await
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_follow_their_document() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let system = application::system(&dir).await?;
    test(system.address(), "^/(articles|user|auth)", None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_app_follows_its_document() -> anyhow::Result<()> {
    test(System::reader(&[]).await?.address(), "^/", None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn conduit_follows_its_document() -> anyhow::Result<()> {
    let mut build = binaries::cargo();
    build.args(["build", "--quiet", "--workspace", "--locked", "--bin", "conduit"]);
    ensure!(build.status().await?.success(), "cannot build conduit");
    let dir = tempfile::tempdir()?;
    let mut conduit = binaries::command(&binaries::dir().await?.join("conduit"));
    conduit.current_dir(binaries::root().join("examples/conduit"));
    let (mut conduit, address) = running::up(conduit, dir.path(), &running::CONDUIT).await?;
    let user = json!({ "username": "ada", "email": "ada@x.org", "password": "password" });
    let made = http::post(address, "/api/users", &json!({ "user": user })).await?;
    let token = made.body.pointer("/user/token").and_then(|token| token.as_str());
    let header = format!("Authorization: Token {}", token.with_context(|| format!("{made:?}"))?);
    test(address, "^/", Some(&header)).await?;
    binaries::signal(&conduit, Signal::INT)?;
    let log = || std::fs::read_to_string(dir.path().join("stderr")).unwrap_or_default();
    ensure!(conduit.wait().await?.success(), "{}", log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn committed_document_is_valid() -> anyhow::Result<()> {
    let document = binaries::root().join("docs/openapi.json");
    run(Command::new(program("openapi-spec-validator")).arg(document)).await
}
