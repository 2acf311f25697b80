//! A running system and the operations of a test on it.

mod bus;

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use concert_local_servers::{Certificate, FindOptions, Port, TestServers, server_credential};
use mongodb::options::ClientOptions;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::http::{self, Answer};
use crate::{binaries, until};

pub use self::bus::service_error;

/// A process of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `concert http-edge`
    Edge,
    /// `concert sync-router`
    Router,
    /// `concert worker Profile`
    Profile,
    /// `concert worker Sessioning`
    Sessioning,
    /// `concert worker Library`, as the following ones started by [`System::reader`].
    Library,
    /// `concert worker FocusStats`
    FocusStats,
    /// `concert worker TextSettings`
    TextSettings,
    /// `concert worker Annotation`
    Annotation,
    /// `concert worker LikertSurvey`
    LikertSurvey,
    /// `concert archive`; only started by tests of the archive.
    Archive,
}

impl Part {
    /// The arguments of `concert` that start it.
    const fn args(self) -> &'static [&'static str] {
        match self {
            Self::Edge => &["http-edge"],
            Self::Router => &["sync-router"],
            Self::Profile => &["worker", "Profile"],
            Self::Sessioning => &["worker", "Sessioning"],
            Self::Library => &["worker", "Library"],
            Self::FocusStats => &["worker", "FocusStats"],
            Self::TextSettings => &["worker", "TextSettings"],
            Self::Annotation => &["worker", "Annotation"],
            Self::LikertSurvey => &["worker", "LikertSurvey"],
            Self::Archive => &["archive"],
        }
    }

    /// The log line of a finished start. An archive has none, since it answers queries by then.
    const fn start_message(self) -> Option<&'static str> {
        match self {
            Self::Edge => Some("edge started"),
            Self::Router => Some("router started"),
            Self::Archive => None,
            _ => Some("worker started"),
        }
    }
}

/// The processes that answer requests, in their start order.
pub const PARTS: [Part; 4] = [Part::Router, Part::Profile, Part::Sessioning, Part::Edge];

/// The workers of the reading app, in addition to [`PARTS`].
const READER: [Part; 5] =
    [Part::Library, Part::FocusStats, Part::TextSettings, Part::Annotation, Part::LikertSurvey];

/// Real servers and the system on them. Everything stops when this is dropped.
pub struct System {
    /// NATS and MongoDB.
    pub servers: TestServers,
    /// Ports of the edges, reserved for restarts.
    ports: Vec<Port>,
    binaries: PathBuf,
    keys: PathBuf,
    settings: Vec<(&'static str, String)>,
    running: BTreeMap<(Part, usize), Running>,
    /// Log files of all started processes, in start order.
    logs: Vec<(Part, PathBuf)>,
}

struct Running {
    child: Child,
    log: PathBuf,
}

fn command(binaries: &Path, program: &str, settings: &[(&'static str, String)]) -> Command {
    let mut command = binaries::command(&binaries.join(program));
    command.envs(settings.iter().map(|(name, value)| (name, value)));
    command
}

/// Timeout of every wait.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);
/// Number of last log lines that hold the reason of an exit, including the messages of interrupted
/// work.
const END_OF_LOG: usize = 500;

/// The key file of the MongoDB server in a directory of keys.
pub fn server_key(keys: &Path) -> PathBuf {
    keys.join("mongo").join("mongod-keyfile")
}

impl System {
    /// Starts everything, with cheap password hashes.
    ///
    /// # Errors
    /// A program is missing or does not start.
    pub async fn start() -> anyhow::Result<Self> {
        Self::with(&[]).await
    }

    /// Starts everything with further settings in the environment.
    ///
    /// # Errors
    /// A program is missing or does not start.
    pub async fn with(settings: &[(&'static str, &str)]) -> anyhow::Result<Self> {
        Self::encrypted(settings, None).await
    }

    /// Starts everything with further settings. The servers use TLS if a certificate is given.
    ///
    /// # Errors
    /// A program is missing or does not start.
    pub async fn encrypted(
        settings: &[(&'static str, &str)],
        certificate: Option<&Certificate>,
    ) -> anyhow::Result<Self> {
        let programs = binaries::dir().await?.to_owned();
        let dir = tempfile::tempdir()?;
        let keys = dir.path().join("keys");
        let operator = keys.join("nats").join("operator.nk");
        let mut all = vec![
            ("CONCERT_APP__KEYS_DIR", keys.display().to_string()),
            ("NATS_NKEY", operator.display().to_string()),
            ("CONCERT_WORKERS__PROFILE__SETTINGS__ARGON2_MEMORY_KIB", "64".to_owned()),
            ("CONCERT_WORKERS__PROFILE__SETTINGS__ARGON2_PASSES", "1".to_owned()),
            // All clients of a test have one address.
            ("CONCERT_HTTP__CLIENT_REQUESTS_PER_SECOND", "0".to_owned()),
            ("CONCERT_TELEMETRY__LOG", "info".to_owned()),
            // Most tests start some of the workers only.
            ("CONCERT_ROUTER__WORKER_GRACE_MS", "0".to_owned()),
            ("CONCERT_MONGODB__USERS", "true".to_owned()),
        ];
        all.extend(settings.iter().map(|(name, value)| (*name, (*value).to_owned())));
        // The keys come first: the NATS server reads its users when it starts.
        binaries::finished(command(&programs, "concert", &all).arg("setup")).await?;
        let accounts = keys.join("nats").join("accounts.conf");
        let server_key = server_key(&keys);
        let servers = TestServers::start_in(&FindOptions::of_user()?, dir, |nats, mongo| {
            nats.accounts = Some(accounts);
            mongo.key_file = Some(server_key);
            if let Some(certificate) = certificate {
                nats.tls = Some(certificate.clone());
                mongo.tls = Some(certificate.clone());
            }
        })
        .await?;
        all.push(("NATS_URL", servers.nats.url()));
        all.push(("MONGODB_URI", servers.mongo.uri()));
        let mut system = Self {
            servers,
            ports: vec![Port::free().context("no free port")?],
            binaries: programs,
            keys,
            settings: all,
            running: BTreeMap::new(),
            logs: Vec::new(),
        };
        binaries::finished(&mut system.concert(&["setup", "--streams"])).await?;
        for part in PARTS {
            system.start_part(part)?;
        }
        system.ready().await?;
        Ok(system)
    }

    /// Starts everything and the other workers of the reading app, with further settings.
    ///
    /// # Errors
    /// A program is missing or does not start.
    pub async fn reader(settings: &[(&'static str, &str)]) -> anyhow::Result<Self> {
        let mut system = Self::with(settings).await?;
        for part in READER {
            system.start_part(part)?;
        }
        system.ready().await?;
        Ok(system)
    }

    /// `concert` with these arguments and the system's settings.
    pub fn concert(&self, args: &[&str]) -> Command {
        let mut command = self.command("concert");
        command.args(args);
        command
    }

    /// A program of the project with the system's settings.
    pub fn command(&self, program: &str) -> Command {
        command(&self.binaries, program, &self.settings)
    }

    /// File with the key seed of a NATS user.
    pub fn seeds(&self, user: &str) -> PathBuf {
        self.keys.join("nats").join(format!("{user}.nk"))
    }

    /// Starts one process.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn start_part(&mut self, part: Part) -> anyhow::Result<()> {
        self.start_one(part, 0)
    }

    /// Starts one of several processes of a kind. Tests with only one of each use number 0.
    ///
    /// # Errors
    /// The process cannot be started.
    pub fn start_one(&mut self, part: Part, number: usize) -> anyhow::Result<()> {
        let mut command = self.concert(part.args());
        command.env("NATS_NKEY", self.seeds(&format!("{part:?}").to_lowercase()));
        if part == Part::Edge {
            while self.ports.len() <= number {
                self.ports.push(Port::free().context("no free port")?);
            }
            command.env("CONCERT_HTTP__LISTEN", self.edge(number)?.to_string());
        }
        let log = self.servers.dir().join(format!("{part:?}-{}.log", self.logs.len()));
        let stderr = File::create_new(&log)?;
        let child = command.stdout(Stdio::null()).stderr(stderr).spawn()?;
        self.logs.push((part, log.clone()));
        self.running.insert((part, number), Running { child, log });
        Ok(())
    }

    /// Address of one of several edges.
    ///
    /// # Errors
    /// The edge was never started.
    pub fn edge(&self, number: usize) -> anyhow::Result<SocketAddr> {
        let port = self.ports.get(number).context("no such edge")?;
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port.number())))
    }

    fn take(&mut self, part: Part, number: usize) -> anyhow::Result<Running> {
        let taken = self.running.remove(&(part, number));
        taken.with_context(|| format!("{part:?} does not run"))
    }

    /// Kills one process with SIGKILL.
    ///
    /// # Errors
    /// The process does not run.
    pub async fn kill(&mut self, part: Part) -> anyhow::Result<()> {
        self.take(part, 0)?.child.kill().await?;
        Ok(())
    }

    /// Stops one process until it is killed.
    ///
    /// # Errors
    /// The process does not run.
    pub fn pause(&self, part: Part) -> anyhow::Result<()> {
        let running = self.running.get(&(part, 0)).context("the process does not run")?;
        binaries::signal(&running.child, Signal::STOP)
    }

    /// Gives a process another number.
    ///
    /// # Errors
    /// The process does not run.
    pub fn renumber(&mut self, part: Part, from: usize, to: usize) -> anyhow::Result<()> {
        let running = self.take(part, from)?;
        self.running.insert((part, to), running);
        Ok(())
    }

    /// Waits until one process exits with an error on its own, and returns its log.
    ///
    /// # Errors
    /// The process keeps running, or it exits with status 0.
    pub async fn wait_for_crash(&mut self, part: Part) -> anyhow::Result<String> {
        let Running { mut child, log } = self.take(part, 0)?;
        let status = tokio::time::timeout(TIMEOUT, child.wait()).await??;
        ensure!(!status.success(), "{part:?} exited with {status}");
        Ok(std::fs::read_to_string(log)?)
    }

    /// Restarts the processes that exited because their NATS client failed at an unreadable
    /// message, and returns their number.
    ///
    /// # Errors
    /// A process has exited for another reason.
    pub fn restart_crashed(&mut self) -> anyhow::Result<usize> {
        let mut ended = Vec::new();
        for ((part, number), Running { child, log }) in &mut self.running {
            if let Some(status) = child.try_wait()? {
                ended.push((*part, *number, status, log.clone()));
            }
        }
        for (part, number, status, log) in &ended {
            let log = std::fs::read_to_string(log)?;
            let last: Vec<&str> = log.lines().rev().take(END_OF_LOG).collect();
            ensure!(
                last.iter().any(|line| line.contains("the NATS client has stopped")),
                "{part:?} exited with {status}:\n{log}"
            );
            self.start_one(*part, *number)?;
        }
        Ok(ended.len())
    }

    /// Sends SIGTERM to one process and waits until it exits with status 0.
    ///
    /// # Errors
    /// The process exits with an error.
    pub async fn terminate(&mut self, part: Part) -> anyhow::Result<()> {
        self.terminate_one(part, 0).await
    }

    /// As [`terminate`](Self::terminate), for one of several processes.
    ///
    /// # Errors
    /// The process exits with an error.
    pub async fn terminate_one(&mut self, part: Part, number: usize) -> anyhow::Result<()> {
        self.signal(part, number, Signal::TERM).await
    }

    /// As [`terminate`](Self::terminate), with the signal that a closing terminal sends.
    ///
    /// # Errors
    /// The process exits with an error.
    pub async fn hang_up(&mut self, part: Part) -> anyhow::Result<()> {
        self.signal(part, 0, Signal::HUP).await
    }

    async fn signal(&mut self, part: Part, number: usize, signal: Signal) -> anyhow::Result<()> {
        let Running { mut child, .. } = self.take(part, number)?;
        binaries::signal(&child, signal)?;
        let status = tokio::time::timeout(TIMEOUT, child.wait()).await??;
        ensure!(status.success(), "{part:?} exited with {status}");
        Ok(())
    }

    /// Waits until every process has started and every concept answers. An archive may still wait
    /// for its database.
    ///
    /// # Errors
    /// A process exits, or does not start in time.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let nats = self.nats().await?;
            let mut waiting = Vec::new();
            for concept in ["Profile", "Sessioning"] {
                if nats.request(format!("$SRV.PING.{concept}"), "".into()).await.is_err() {
                    waiting.push(concept);
                }
            }
            let (mut starting, mut edges) = (Vec::new(), true);
            for ((part, number), process) in &mut self.running {
                let log = std::fs::read_to_string(&process.log)?;
                if let Some(status) = process.child.try_wait()? {
                    bail!("{part:?} exited with {status}:\n{log}");
                }
                // Another instance may answer in its place.
                if part.start_message().is_some_and(|line| !log.contains(line)) {
                    starting.push((*part, *number));
                }
            }
            let running = self.running.keys().filter(|(part, _)| *part == Part::Edge);
            for (_, number) in running {
                edges &= http::is_ready(self.edge(*number)?).await;
            }
            if waiting.is_empty() && starting.is_empty() && edges {
                return Ok(());
            }
            ensure!(
                began.elapsed() < TIMEOUT,
                "not ready: {waiting:?}, {starting:?}, edges: {edges}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The concatenated logs of all processes of a kind.
    ///
    /// # Errors
    /// A log is not UTF-8.
    pub fn log(&self, part: Part) -> anyhow::Result<String> {
        let logs = self.logs.iter().filter(|(of, _)| *of == part);
        logs.map(|(_, log)| Ok(std::fs::read_to_string(log)?)).collect()
    }

    /// Resident memory of a process, in KiB.
    ///
    /// # Errors
    /// The process does not run, or the kernel reports no value.
    pub fn resident_kib(&self, part: Part) -> anyhow::Result<u64> {
        let pid = self.running.get(&(part, 0)).and_then(|process| process.child.id());
        let pid = pid.with_context(|| format!("{part:?} does not run"))?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?;
        Ok(kib.parse()?)
    }

    /// Address that the edge listens on.
    pub fn address(&self) -> SocketAddr {
        // The first edge exists from the start.
        self.edge(0).unwrap_or_else(|_| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// Address of a process's metrics, as it logs it.
    ///
    /// # Errors
    /// The process does not log it in time.
    pub async fn metrics_address(&self, part: Part) -> anyhow::Result<String> {
        self.until("the metrics are served", async |system: &System| {
            let log = system.log(part).unwrap_or_default();
            let line = log.lines().find(|line| line.contains("serving metrics"));
            let address =
                line.and_then(|line| line.split("address=").nth(1)?.split_whitespace().next());
            Ok(address.map(str::to_owned))
        })
        .await
    }

    /// The database of a concept, through a bare MongoDB client with all rights.
    ///
    /// # Errors
    /// The connection fails.
    pub async fn database(&self, concept: &str) -> anyhow::Result<mongodb::Database> {
        let mut options = ClientOptions::parse(self.servers.mongo.uri()).await?;
        options.credential = Some(server_credential(&server_key(&self.keys))?);
        let client = mongodb::Client::with_options(options)?;
        Ok(client.database(&format!("concert_{concept}")))
    }

    /// Posts JSON to a path below the base.
    ///
    /// # Errors
    /// The request fails, or the response is not JSON.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        http::post(self.address(), &format!("/api{path}"), body).await
    }

    /// Creates an account and returns its user ID.
    ///
    /// # Errors
    /// The request is refused.
    pub async fn account(&self, username: &str, password: &str) -> anyhow::Result<String> {
        let answer = self
            .post("/auth/createAccount", &json!({ "username": username, "password": password }))
            .await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(answer.text("user")?.to_owned())
    }

    /// Logs in and returns the session.
    ///
    /// # Errors
    /// The request is refused.
    pub async fn login(&self, username: &str, password: &str) -> anyhow::Result<String> {
        let answer = self
            .post("/auth/login", &json!({ "username": username, "password": password }))
            .await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(answer.text("session")?.to_owned())
    }

    /// Waits until a condition holds.
    ///
    /// # Errors
    /// The condition does not hold in time.
    pub async fn until<F, T>(&self, what: &str, mut ask: F) -> anyhow::Result<T>
    where
        F: AsyncFnMut(&Self) -> anyhow::Result<Option<T>>,
    {
        until(what, TIMEOUT, async || ask(self).await).await
    }
}
