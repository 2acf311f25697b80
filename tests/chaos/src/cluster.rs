//! The processes: edge, two routers, two workers per concept, two archives, nats-server and mongod,
//! with a link between each Concert process and its servers.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use concert_local_servers::Port;
use concert_tests::{binaries, certificates, http};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::build;
use crate::bus::Bus;
use crate::history::History;
use crate::nodes::{Nodes, Servers, Single};
use crate::options::Options;
use crate::points::Points;
use crate::proxy::{Link, Mode};

/// A Concert process.
#[derive(Debug)]
pub struct Part {
    /// Its name in logs.
    pub name: &'static str,
    /// Its role at kill points.
    pub role: &'static str,
    /// The arguments of `concert`.
    args: &'static [&'static str],
    /// Its link to NATS.
    pub nats: Arc<Link>,
    /// Its link to MongoDB.
    pub mongo: Arc<Link>,
}

/// Name, role and arguments of `concert` for each process.
const PARTS: [(&str, &str, &[&str]); 14] = [
    ("router-a", "router", &["sync-router"]),
    ("router-b", "router", &["sync-router"]),
    ("profile-a", "profile", &["worker", "Profile"]),
    ("profile-b", "profile", &["worker", "Profile"]),
    ("sessioning-a", "sessioning", &["worker", "Sessioning"]),
    ("sessioning-b", "sessioning", &["worker", "Sessioning"]),
    // Data that the deletion of an account also deletes.
    ("library", "library", &["worker", "Library"]),
    ("focusstats", "focusstats", &["worker", "FocusStats"]),
    ("textsettings", "textsettings", &["worker", "TextSettings"]),
    ("annotation", "annotation", &["worker", "Annotation"]),
    ("likertsurvey", "likertsurvey", &["worker", "LikertSurvey"]),
    ("edge", "edge", &["http-edge"]),
    ("archive-a", "archive", &["archive"]),
    ("archive-b", "archive", &["archive"]),
];

struct Running {
    child: Child,
    since: Instant,
}

/// The running system.
pub struct Cluster {
    /// The servers; locked during a restart.
    pub servers: Mutex<Servers>,
    /// The direct address of NATS, without a link.
    pub bus: Bus,
    /// The direct address of MongoDB.
    pub mongo_uri: String,
    /// The same, with all rights.
    pub admin_uri: String,
    /// The Concert processes.
    pub parts: Vec<Part>,
    /// The kill points.
    pub points: Points,
    /// Locked during a key rotation.
    pub rotating: Mutex<()>,
    /// The edge.
    pub address: SocketAddr,
    _edge_port: Port,
    mongo_port: u16,
    /// The options of the run.
    pub options: Options,
    running: Mutex<BTreeMap<&'static str, Running>>,
}

/// Maximum restart time of a process. A process that cannot reach a server at start exits with an
/// error, and is started again.
const START: Duration = Duration::from_secs(75);
const TIMEOUT: Duration = Duration::from_secs(90);

/// The command line of the `concert` under test.
fn concert(options: &Options) -> Command {
    let program = build::program(options.sabotage.as_deref());
    command(options, &options.programs.join(program))
}

/// The command line of a `concert` for a process.
fn command(options: &Options, program: &Path) -> Command {
    let mut command = binaries::command(program);
    command
        .stdout(Stdio::null())
        .env("CONCERT_KEYS", options.dir.join("keys"))
        .env("CONCERT_ARGON2_MEMORY_KIB", "64")
        .env("CONCERT_ARGON2_PASSES", "1")
        // All clients share one address, and many passwords are wrong on purpose.
        .env("CONCERT_LOGIN_ACCOUNT_FAILURES", "0")
        .env("CONCERT_LOGIN_CLIENT_FAILURES", "0")
        .env("CONCERT_HTTP__CLIENT_REQUESTS_PER_SECOND", "0")
        .env("CONCERT_WORKERS__PROFILE__SETTINGS__ACCOUNTS_PER_CLIENT", "0")
        .env("CONCERT_LOG", "info")
        .env("CONCERT_CHAOS_DIR", options.dir.join("points"));
    if let Some(sabotage) = &options.sabotage {
        command.env("CONCERT_SABOTAGE", sabotage);
    }
    if options.mongodb_users {
        command.env("CONCERT_MONGODB__USERS", "true");
    }
    if let Some(rules) = &options.rules {
        command.env("CONCERT_CONCEPTS", rules.join("concepts"));
        command.env("CONCERT_SYNCS", rules.join("syncs"));
    }
    command
}

/// Returns whether the rules have the concept of a process, if it is a worker.
fn has_concept(options: &Options, args: &[&str]) -> bool {
    match (&options.rules, args) {
        (Some(rules), ["worker", concept]) => {
            rules.join("concepts").join(format!("{concept}.concept")).exists()
        }
        _ => true,
    }
}

/// The port of the last of these servers.
fn port(url: &str) -> Option<u16> {
    let digits = url.rsplit_once("127.0.0.1:")?.1;
    digits.split('/').next()?.parse().ok()
}

impl Cluster {
    /// Starts everything, and waits until the edge responds.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn start(options: &Options) -> anyhow::Result<Self> {
        let points = Points { dir: options.dir.join("points") };
        std::fs::create_dir_all(&points.dir)?;
        let keys = options.dir.join("keys");
        // The keys come first, because the servers need the users when they start.
        binaries::finished(concert(options).arg("setup")).await?;
        let certificate = match options.tls {
            true => Some(certificates::of_loopback(&options.dir, "chaos")?),
            false => None,
        };
        let servers = if options.three {
            Servers::Three(Nodes::start(&keys).await?)
        } else {
            Servers::One(Box::new(Single::start(&keys, options, certificate.as_ref()).await?))
        };
        let bus = Bus {
            url: servers.nats_url(),
            keys,
            ca: certificate.map(|certificate| certificate.ca),
        };
        let (mongo_uri, admin_uri) = (servers.mongo_uri(), servers.admin_uri()?);
        let nats_port = port(&bus.url).context("the port of NATS")?;
        let mongo_port = port(&mongo_uri).context("the port of MongoDB")?;
        let mut parts = Vec::new();
        for (name, role, args) in PARTS.iter().copied().filter(|of| has_concept(options, of.2)) {
            let (nats, mongo) = (Link::to(nats_port).await?, Link::to(mongo_port).await?);
            parts.push(Part { name, role, args, nats, mongo });
        }
        let edge_port = Port::free().context("no free port")?;
        let cluster = Self {
            servers: Mutex::new(servers),
            bus,
            mongo_uri,
            admin_uri,
            mongo_port,
            parts,
            points,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, edge_port.number())),
            _edge_port: edge_port,
            rotating: Mutex::default(),
            options: options.clone(),
            running: Mutex::default(),
        };
        binaries::finished(cluster.concert().args(["setup", "--streams"])).await?;
        for part in &cluster.parts {
            cluster.spawn(part).await?;
        }
        // A process that starts before the servers have elected leaders exits and is started again.
        let early = History::default();
        tokio::select! {
            () = cluster.supervise(&early) => {}
            ready = cluster.ready() => ready?,
        }
        Ok(cluster)
    }

    /// A `concert` command with direct connections to the servers.
    pub fn concert(&self) -> Command {
        self.connected(concert(&self.options))
    }

    fn connected(&self, mut command: Command) -> Command {
        command
            .env("NATS_URL", &self.bus.url)
            .env("MONGODB_URI", &self.mongo_uri)
            .env("CONCERT_STREAM_REPLICAS", if self.options.three { "3" } else { "1" });
        if let Some(ca) = &self.bus.ca {
            command.env("NATS_CA", ca);
        }
        command
    }

    /// The log file of a process.
    pub fn log(&self, part: &Part) -> PathBuf {
        self.options.dir.join(format!("{}.log", part.name))
    }

    async fn spawn(&self, part: &Part) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.log(part))?;
        let mut command = match &self.options.beside {
            // The workers of a concept are of one release (docs/operations.md, "Upgrade").
            Some(program) if part.name.ends_with("-b") || part.args.contains(&"worker") => {
                let mut command = self.connected(command(&self.options, program));
                // Its log must be text without colours.
                command.env("NO_COLOR", "1");
                command
            }
            _ => self.concert(),
        };
        command
            .args(part.args)
            .stderr(log)
            .env("NATS_NKEY", self.bus.seeds(part.role))
            .env("CONCERT_LISTEN", self.address.to_string())
            .env("CONCERT_CHAOS_ROLE", part.role)
            .env("CONCERT_CHAOS_PROCESS", part.name);
        if !self.options.three {
            let (from, to) = (format!(":{}/", self.mongo_port), format!(":{}/", part.mongo.port()));
            command
                .env("NATS_URL", self.bus.through(part.nats.port())?)
                .env("MONGODB_URI", self.mongo_uri.replace(&from, &to));
        }
        let running = Running { child: command.spawn()?, since: Instant::now() };
        self.running.lock().await.insert(part.name, running);
        Ok(())
    }

    /// Returns whether a process was started after a moment.
    pub async fn started_after(&self, part: &Part, moment: Instant) -> bool {
        let running = self.running.lock().await;
        running.get(part.name).is_some_and(|running| running.since > moment)
    }

    /// Restarts processes that have exited, until it is dropped. A process that was ready may only
    /// exit by a kill.
    pub async fn supervise(&self, history: &History) {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            for part in &self.parts {
                let ended = match self.running.lock().await.get_mut(part.name) {
                    Some(running) => running
                        .child
                        .try_wait()
                        .ok()
                        .flatten()
                        .map(|status| (status, running.since.elapsed())),
                    None => None,
                };
                let Some((status, lived)) = ended else { continue };
                if status.signal().is_none() && lived > START {
                    history.violated(format!(
                        "{} exited unexpectedly with {status} after {} s",
                        part.name,
                        lived.as_secs()
                    ));
                }
                if let Err(error) = self.spawn(part).await {
                    history.violated(format!("cannot restart {}: {error}", part.name));
                }
            }
        }
    }

    /// Sends a signal to a Concert process.
    pub async fn signal(&self, part: &Part, signal: Signal) {
        let pid = self.running.lock().await.get(part.name).and_then(|running| running.child.id());
        if let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw)
            && let Err(error) = kill_process(pid, signal)
        {
            eprintln!("{} has already exited: {error}", part.name);
        }
    }

    /// Ends every fault.
    ///
    /// # Errors
    /// A kill point cannot be disarmed.
    pub async fn heal(&self) -> anyhow::Result<()> {
        self.points.disarm()?;
        for part in &self.parts {
            self.points.set_clock(part.name, 0)?;
        }
        for part in &self.parts {
            part.nats.set(Mode::Pass);
            part.mongo.set(Mode::Pass);
            self.signal(part, Signal::CONT).await;
        }
        Ok(())
    }

    /// Waits until the edge accepts requests.
    ///
    /// # Errors
    /// It does not do so in time.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        let nats = self.bus.connect().await?;
        loop {
            let mut waiting = Vec::new();
            for concept in ["Profile", "Sessioning"] {
                if nats.request(format!("$SRV.PING.{concept}"), "".into()).await.is_err() {
                    waiting.push(concept);
                }
            }
            let edge = http::get(format!("http://{}/readyz", self.address)).await;
            if waiting.is_empty() && edge.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            ensure!(
                began.elapsed() < TIMEOUT,
                "not ready: {waiting:?}, edge; logs in {}",
                self.options.dir.display()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The log files of the servers.
    pub async fn server_logs(&self) -> Vec<PathBuf> {
        self.servers.lock().await.logs()
    }
}
