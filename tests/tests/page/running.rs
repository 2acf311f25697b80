//! A running `concert up`.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use concert_tests::http::Answer;
use concert_tests::{binaries, http};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Child;
use tokio::time::Instant;

/// The process; dropping this stops it.
pub(crate) struct Running {
    address: SocketAddr,
    console: SocketAddr,
    _child: Child,
    _dir: TempDir,
}

const PATIENCE: Duration = Duration::from_secs(90);

impl Running {
    /// Starts it on free ports, with cheap password hashes.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        Self::hashing(1).await
    }

    /// As [`start`](Self::start), with this number of passes per password hash.
    pub(crate) async fn hashing(passes: u32) -> anyhow::Result<Self> {
        let programs = binaries::dir().await?;
        let dir = tempfile::tempdir()?;
        let report = dir.path().join("started.json");
        let data = dir.path().join("data");
        let mut child = binaries::command(&programs.join("concert"))
            .args(["up", "--listen", "127.0.0.1:0", "--nats-port", "0", "--mongo-port", "0"])
            .arg("--data-dir")
            .arg(&data)
            .arg("--started-file")
            .arg(&report)
            .env("CONCERT_WORKERS__PROFILE__SETTINGS__ARGON2_MEMORY_KIB", "64")
            .env("CONCERT_WORKERS__PROFILE__SETTINGS__ARGON2_PASSES", passes.to_string())
            // A slow hash on a busy machine must not reach the deadline.
            .env("CONCERT_HTTP__DEADLINE_MS", "50000")
            .stdout(Stdio::null())
            .spawn()?;
        let began = Instant::now();
        while !report.exists() {
            ensure!(child.try_wait()?.is_none(), "concert up exited");
            ensure!(began.elapsed() < PATIENCE, "concert up did not start in time");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let started: Value = serde_json::from_slice(&std::fs::read(&report)?)?;
        let address = |of: &str| {
            let address = started[of].as_str().with_context(|| format!("no address of {of}"))?;
            anyhow::Ok(address.parse()?)
        };
        let (address, console) = (address("http")?, address("console")?);
        Ok(Self { address, console, _child: child, _dir: dir })
    }

    /// URL of the console.
    pub(crate) fn page(&self) -> String {
        format!("http://{}/", self.console)
    }

    /// URL of the application.
    pub(crate) fn app(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Sends a request with a name and a password.
    pub(crate) async fn post(
        &self,
        path: &str,
        username: &str,
        password: &str,
    ) -> anyhow::Result<Answer> {
        let body = json!({ "username": username, "password": password });
        http::post(self.address, path, &body).await
    }
}
