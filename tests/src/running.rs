//! An application that `concert up` or `concert dev` runs.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::until;

/// Timeout of a start.
pub const START: Duration = Duration::from_secs(90);

/// Variables of an application on free ports.
pub const FREE_PORTS: [(&str, &str); 3] = [
    ("CONCERT_HTTP__LISTEN", "127.0.0.1:0"),
    ("CONCERT_NATS__PORT", "0"),
    ("CONCERT_MONGODB__PORT", "0"),
];

/// Settings of Conduit: cheap hashes, and workers that may start slowly on a busy machine.
pub const CONDUIT: [&str; 3] = [
    "workers.Account.settings.argon2_memory_kib=64",
    "workers.Account.settings.argon2_passes=1",
    "router.worker_grace_ms=60000",
];

/// Starts `up` of an application on free ports, and waits until it answers requests. `dir` gets its
/// data (`data`) and its standard error (`stderr`).
///
/// # Errors
/// As [`address`].
pub async fn up(
    mut application: Command,
    dir: &Path,
    settings: &[&str],
) -> anyhow::Result<(Child, SocketAddr)> {
    let (data_dir, stderr) = (dir.join("data"), dir.join("stderr"));
    application.arg("up").arg("--data-dir").arg(&data_dir).envs(FREE_PORTS);
    for setting in settings {
        application.args(["--set", setting]);
    }
    let mut child = application.stdout(Stdio::null()).stderr(File::create(&stderr)?).spawn()?;
    let address = address(&mut child, &data_dir, &stderr).await?;
    Ok((child, address))
}

/// Waits until an application answers requests, and returns its address.
///
/// # Errors
/// The process has exited; the message holds its standard error, which is in the file `stderr`.
pub async fn address(
    child: &mut Child,
    data_dir: &Path,
    stderr: &Path,
) -> anyhow::Result<SocketAddr> {
    let running: Value = until("the application runs", START, async || {
        ensure!(child.try_wait()?.is_none(), "{}", std::fs::read_to_string(stderr)?);
        let file = std::fs::read(data_dir.join("running.json")).ok();
        Ok(file.map(|text| serde_json::from_slice(&text)).transpose()?)
    })
    .await?;
    Ok(running.get("http").and_then(Value::as_str).context("an address")?.parse()?)
}
