//! An edge that serves the page with nothing behind it but a bus, and somebody who answers in the
//! archive's place.

use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, ensure};
use concert_local_servers::{FindOptions, NatsOptions, NatsServer, Port, find_or_fetch};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Child;
use tokio::time::Instant;

use crate::binaries;
use crate::nats::hear;
use crate::system::PATIENCE;

/// What somebody makes of a query: its name and its input to its rows, or to a code and why not.
pub type Answering = dyn Fn(&str, &Value) -> Result<Vec<Value>, (u16, String)> + Send + Sync;

/// The edge and its bus. Both end when this is dropped.
pub struct LoneEdge {
    nats: NatsServer,
    edge: Option<Child>,
    port: Port,
    dir: TempDir,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

/// What opens the page.
pub const TOKEN: &str = "an-operators-token-of-forty-characters-xx";

impl LoneEdge {
    /// Starts an edge with `--console`, the token and further arguments.
    ///
    /// # Errors
    /// Something is missing or does not start.
    pub async fn start(args: &[&str]) -> anyhow::Result<Self> {
        let programs = binaries::dir().await?;
        let dir = tempfile::tempdir()?;
        let keys = dir.path().join("keys");
        let servers = find_or_fetch(&FindOptions::of_user()?, &|_| {}).await?;
        let nats = NatsServer::start(&servers.nats_server, &NatsOptions::new(dir.path())).await?;
        let mut setup = binaries::command(&programs.join("concert"));
        setup.args(["setup", "--streams"]).env("CONCERT_APP__KEYS_DIR", &keys);
        binaries::finished(setup.env("NATS_URL", nats.url())).await?;
        let token = dir.path().join("token");
        writeln!(File::create(&token)?, "{TOKEN}")?;
        let port = Port::free().context("no free port")?;
        let log = File::create(dir.path().join("edge.log"))?;
        let edge = binaries::command(&programs.join("concert"))
            .arg("http-edge")
            .env("CONCERT_APP__KEYS_DIR", &keys)
            .env("NATS_URL", nats.url())
            .arg("--console")
            .env("CONCERT_CONSOLE__TOKEN_FILE", token)
            .args(["--listen", &format!("localhost:{}", port.number())])
            .args(args)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let mut lone = Self { nats, edge: Some(edge), port, dir, asked: Arc::default() };
        lone.listens().await?;
        Ok(lone)
    }

    async fn listens(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        let url = format!("http://{}/healthz", self.address());
        while crate::http::get(&url).await.is_err() {
            let ended = self.edge.as_mut().and_then(|edge| edge.try_wait().transpose());
            ensure!(ended.is_none(), "the edge ended:\n{}", std::fs::read_to_string(self.log())?);
            ensure!(began.elapsed() < PATIENCE, "the edge does not listen");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port.number()))
    }

    /// What it says on its standard error.
    pub fn log(&self) -> PathBuf {
        self.dir.path().join("edge.log")
    }

    /// Asks it to end, and waits until it has; its status must be good.
    ///
    /// # Errors
    /// It does not end well.
    pub async fn terminate(&mut self) -> anyhow::Result<()> {
        let mut edge = self.edge.take().context("it does not run")?;
        let pid = edge
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(rustix::process::Pid::from_raw)
            .context("no process id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = tokio::time::timeout(PATIENCE, edge.wait()).await??;
        ensure!(status.success(), "the edge ended with {status}");
        Ok(())
    }

    /// A bare NATS client.
    ///
    /// # Errors
    /// No connection.
    pub async fn nats(&self) -> anyhow::Result<async_nats::Client> {
        Ok(async_nats::connect(self.nats.url()).await?)
    }

    /// Answers queries in the archive's place, until the bus ends.
    ///
    /// # Errors
    /// No connection.
    pub async fn stand_in(&self, answer: Box<Answering>) -> anyhow::Result<()> {
        let nats = self.nats().await?;
        answer_queries(nats, self.asked.clone(), answer).await
    }

    /// What was asked since this was last looked at.
    pub fn asked(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells that flows have changed.
    ///
    /// # Errors
    /// No connection.
    pub async fn notify(&self, flows: &[Value]) -> anyhow::Result<()> {
        let nats = self.nats().await?;
        let body = json!({ "flows": flows, "left_out": 0 }).to_string();
        nats.publish("notice.flows", body.into()).await?;
        nats.flush().await?;
        Ok(())
    }
}

async fn answer_queries(
    nats: async_nats::Client,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    answer: Box<Answering>,
) -> anyhow::Result<()> {
    let mut queries = hear(&nats, "concept.Concert.*").await?;
    tokio::spawn(async move {
        while let Some(query) = queries.next().await {
            let (Some(reply), Some(name)) = (query.reply, query.subject.rsplit('.').next()) else {
                continue;
            };
            let input: Value = serde_json::from_slice(&query.payload).unwrap_or_default();
            let answered = answer(name, &input);
            asked.lock().unwrap_or_else(PoisonError::into_inner).push((name.to_owned(), input));
            let sent = match answered {
                Ok(rows) => nats.publish(reply, json!({ "rows": rows }).to_string().into()).await,
                Err((code, why)) => {
                    let mut headers = async_nats::HeaderMap::new();
                    headers.insert("Nats-Service-Error", why);
                    headers.insert("Nats-Service-Error-Code", code.to_string());
                    nats.publish_with_headers(reply, headers, "".into()).await
                }
            };
            if sent.is_err() {
                return;
            }
        }
    });
    Ok(())
}
