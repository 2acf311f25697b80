//! `concert conform` against the fixture workers of the three SDKs, and against a worker without
//! one of its guards. `.ci/run` installs what they need.

use anyhow::{Context as _, ensure};
use concert_tests::binaries;
use serde_json::Value;
use tokio::sync::Mutex;

const PYTHON: [&str; 2] = ["sdk/python/.venv/bin/python", "sdk/python/conformance/worker.py"];

/// One kit at a time: each has two servers, and a worker without CPU time loses its lease.
static ONE: Mutex<()> = Mutex::const_new(());

/// Runs the kit, and returns the rows with their results.
async fn conform(
    options: &[&str],
    worker: &[&str],
) -> anyhow::Result<(bool, Vec<(String, Value)>)> {
    let mut command = binaries::command(&binaries::dir().await?.join("concert"));
    let _one = ONE.lock().await;
    command.args(["conform", "--json"]).args(options).arg("--").args(worker);
    let done = command.stdout(std::process::Stdio::piped()).output().await?;
    let report: Value = serde_json::from_slice(&done.stdout).context("no report")?;
    let rows = report.get("rows").and_then(Value::as_array).context("no rows")?.clone();
    let name = |row: &Value| row.get("row").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok((done.status.success(), rows.into_iter().map(|row| (name(&row), row)).collect()))
}

/// Checks that a worker passes all rows.
async fn passes(worker: &[&str]) -> anyhow::Result<()> {
    let (is_success, rows) = conform(&[], worker).await?;
    ensure!(rows.len() >= 30, "{} rows", rows.len());
    for (_, row) in rows {
        ensure!(row.get("result").and_then(Value::as_str) == Some("ok"), "{row}");
    }
    ensure!(is_success, "the exit status reports a failure");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_worker_conforms() -> anyhow::Result<()> {
    let worker = binaries::dir().await?.join("conformance-worker");
    passes(&[worker.to_str().context("not UTF-8")?]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn typescript_worker_conforms() -> anyhow::Result<()> {
    passes(&["node", "sdk/typescript/dist/conformance/worker.js"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn typescript_class_conforms() -> anyhow::Result<()> {
    passes(&["node", "sdk/typescript/dist/conformance/class.js"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn python_worker_conforms() -> anyhow::Result<()> {
    passes(&PYTHON).await
}

#[tokio::test(flavor = "multi_thread")]
async fn python_class_conforms() -> anyhow::Result<()> {
    let [python, _] = PYTHON;
    passes(&[python, "sdk/python/conformance/class_worker.py"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_without_a_guard_fails_its_row() -> anyhow::Result<()> {
    for (guard, row) in [
        ("stamp", "redelivery without completion"),
        ("lookup", "standing completion"),
        ("extension", "slow handler"),
        ("lease", "SIGSTOP past the lease"),
        ("sequence", "happy path"),
        ("age", "flow older than the log"),
        ("note", "poison"),
    ] {
        let [program, file] = PYTHON;
        let (is_success, rows) = conform(&["--only", row], &[program, file, guard]).await?;
        let failed: Vec<&str> = rows
            .iter()
            .filter(|(_, found)| found.get("result").and_then(Value::as_str) == Some("failed"))
            .map(|(name, _)| name.as_str())
            .collect();
        ensure!(failed == [row] && !is_success, "without {guard}: {failed:?}");
    }
    Ok(())
}
