//! An edge that serves the console, connected only to a bus, with a stub in place of the archive.

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
use crate::nats::subscribe;
use crate::system::TIMEOUT;

/// Maps a query's name and input to its rows, or to an error code and its reason.
pub type QueryHandler = dyn Fn(&str, &Value) -> Result<Vec<Value>, (u16, String)> + Send + Sync;

/// The edge and its bus. Both stop when this is dropped.
pub struct EdgeWithStubArchive {
    nats: NatsServer,
    edge: Option<Child>,
    port: Port,
    console: Port,
    dir: TempDir,
    queries_seen: Arc<Mutex<Vec<(String, Value)>>>,
}

/// The operator's token for the console.
pub const TOKEN: &str = "an-operators-token-of-forty-characters-xx";

impl EdgeWithStubArchive {
    /// Starts an edge with `--console`, the token and further arguments.
    ///
    /// # Errors
    /// A program is missing or does not start.
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
        let console = Port::free().context("no free port")?;
        let log = File::create(dir.path().join("edge.log"))?;
        let edge = binaries::command(&programs.join("concert"))
            .arg("http-edge")
            .env("CONCERT_APP__KEYS_DIR", &keys)
            .env("NATS_URL", nats.url())
            .arg("--console")
            .env("CONCERT_CONSOLE__TOKEN_FILE", token)
            .args(["--listen", &format!("localhost:{}", port.number())])
            .args(["--console-listen", &format!("localhost:{}", console.number())])
            .args(args)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let mut lone =
            Self { nats, edge: Some(edge), port, console, dir, queries_seen: Arc::default() };
        lone.listens().await?;
        Ok(lone)
    }

    async fn listens(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        let url = format!("http://{}/healthz", self.address());
        while crate::http::get(&url).await.is_err() {
            let ended = self.edge.as_mut().and_then(|edge| edge.try_wait().transpose());
            ensure!(ended.is_none(), "the edge exited:\n{}", std::fs::read_to_string(self.log())?);
            ensure!(began.elapsed() < TIMEOUT, "the edge does not listen");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Address that the edge listens on.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port.number()))
    }

    /// Address of the console.
    pub fn console(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.console.number()))
    }

    /// File with the standard error of the edge.
    pub fn log(&self) -> PathBuf {
        self.dir.path().join("edge.log")
    }

    /// Sends SIGTERM and waits until the edge exits with status 0.
    ///
    /// # Errors
    /// The edge exits with an error.
    pub async fn terminate(&mut self) -> anyhow::Result<()> {
        let mut edge = self.edge.take().context("the edge does not run")?;
        binaries::signal(&edge, rustix::process::Signal::TERM)?;
        let status = tokio::time::timeout(TIMEOUT, edge.wait()).await??;
        ensure!(status.success(), "the edge exited with {status}");
        Ok(())
    }

    /// A bare NATS client.
    ///
    /// # Errors
    /// The connection fails.
    pub async fn nats(&self) -> anyhow::Result<async_nats::Client> {
        Ok(async_nats::connect(self.nats.url()).await?)
    }

    /// Answers queries in place of the archive, until the bus stops.
    ///
    /// # Errors
    /// The connection fails.
    pub async fn stub_archive(&self, answer: Box<QueryHandler>) -> anyhow::Result<()> {
        let nats = self.nats().await?;
        answer_queries(nats, self.queries_seen.clone(), answer).await
    }

    /// The queries since the last call.
    pub fn take_queries(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut *self.queries_seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Publishes a notification of changed flows.
    ///
    /// # Errors
    /// The connection fails.
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
    queries_seen: Arc<Mutex<Vec<(String, Value)>>>,
    answer: Box<QueryHandler>,
) -> anyhow::Result<()> {
    let mut queries = subscribe(&nats, "concept.Concert.*").await?;
    tokio::spawn(async move {
        while let Some(query) = queries.next().await {
            let (Some(reply), Some(name)) = (query.reply, query.subject.rsplit('.').next()) else {
                continue;
            };
            let input: Value = serde_json::from_slice(&query.payload).unwrap_or_default();
            let answered = answer(name, &input);
            queries_seen
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((name.to_owned(), input));
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
