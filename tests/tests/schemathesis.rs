//! The OpenAPI documents, checked and used by independent tools: `openapi-spec-validator` and
//! `schemathesis`. `.ci/run` installs them.

#[path = "routes/application.rs"]
mod application;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use concert_tests::{System, binaries, http};
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

/// Sends requests that follow the document of a system, and requests that do not.
async fn test(system: &System, paths: &str) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let document = format!("http://{}/openapi.json", system.address());
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
    run(&mut command).await
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_follow_their_document() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let system = application::system(&dir).await?;
    test(&system, "^/(articles|user|auth)").await
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_app_follows_its_document() -> anyhow::Result<()> {
    test(&System::reader(&[]).await?, "^/").await
}

#[tokio::test(flavor = "multi_thread")]
async fn committed_document_is_valid() -> anyhow::Result<()> {
    let document = binaries::root().join("docs/openapi.json");
    run(Command::new(program("openapi-spec-validator")).arg(document)).await
}
