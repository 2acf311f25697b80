//! Three nodes of NATS with streams of three replicas, and a replica set of three members, on loopback.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use concert_local_servers::{Port, Throwaway, find_or_fetch};
use concert_tests::binaries;
use mongodb::bson::{Document, doc};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// What the system stands on.
pub enum Servers {
    /// One NATS server and one MongoDB server.
    One(Box<Throwaway>),
    /// Three of each.
    Three(Nodes),
}

impl Servers {
    /// Where NATS is, all of it.
    pub fn nats_url(&self) -> String {
        match self {
            Self::One(servers) => servers.nats.url(),
            Self::Three(nodes) => nodes.url("nats://", &nodes.nats, ",nats://"),
        }
    }

    /// Where MongoDB is, all of it.
    pub fn mongo_uri(&self) -> String {
        match self {
            Self::One(servers) => servers.mongo.uri(),
            Self::Three(nodes) => format!("{}/?replicaSet=chaos", nodes.url("mongodb://", &nodes.mongo, ",")),
        }
    }

    /// The servers' logs.
    pub fn logs(&self) -> Vec<PathBuf> {
        match self {
            Self::One(servers) => ["nats-server.log", "mongod.log"]
                .map(|name| servers.dir().join(name))
                .to_vec(),
            Self::Three(nodes) => nodes
                .nats
                .iter()
                .chain(&nodes.mongo)
                .map(|node| node.log.clone())
                .collect(),
        }
    }

    /// Kills a NATS server and starts it again; of three the leader of the log, or a follower.
    ///
    /// # Errors
    /// It does not start again.
    pub async fn kill_nats(&mut self, leader: bool, down: Duration) -> anyhow::Result<()> {
        match self {
            Self::One(servers) => {
                servers.nats.kill().await;
                Ok(servers.nats.restart().await?)
            }
            Self::Three(nodes) => {
                let url = nodes.url("nats://", &nodes.nats, ",nats://");
                let name = log_leader(&url).await?;
                fell(&mut nodes.nats, &name, leader, down).await
            }
        }
    }

    /// Kills a MongoDB server and starts it again; of three the primary, or a secondary.
    ///
    /// # Errors
    /// It does not start again.
    pub async fn kill_mongo(&mut self, leader: bool, down: Duration) -> anyhow::Result<()> {
        let uri = self.mongo_uri();
        match self {
            Self::One(servers) => {
                servers.mongo.kill().await;
                Ok(servers.mongo.restart().await?)
            }
            Self::Three(nodes) => {
                let primary = primary(&uri).await?;
                fell(&mut nodes.mongo, &primary, leader, down).await
            }
        }
    }
}

/// A server, and how it is started again.
#[derive(Debug)]
struct Node {
    name: String,
    port: Port,
    program: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    child: Child,
}

/// Three of each; they end when this is dropped.
pub struct Nodes {
    nats: Vec<Node>,
    mongo: Vec<Node>,
    _dir: TempDir,
}

const PATIENCE: Duration = Duration::from_secs(60);

impl Nodes {
    /// Starts all six, and waits until both have a leader.
    ///
    /// # Errors
    /// A program is missing, or there is no leader in time.
    pub async fn start() -> anyhow::Result<Self> {
        let programs = find_or_fetch(&binaries::servers(), &|_| {}).await?;
        let dir = tempfile::tempdir()?;
        let free = || Port::free().context("no free port");
        let routes = [free()?, free()?, free()?];
        let mut nats = Vec::new();
        let all: Vec<String> = routes
            .iter()
            .map(|port| format!("nats-route://127.0.0.1:{}", port.number()))
            .collect();
        for (number, route) in routes.iter().enumerate() {
            let (name, port) = (format!("n{number}"), free()?);
            let home = dir.path().join(&name);
            std::fs::create_dir_all(&home)?;
            let config = home.join("nats-server.conf");
            // Clients keep to the addresses that they were given.
            let text = format!(
                "listen: 127.0.0.1:{}\nserver_name: {name}\nmax_payload: 2097152\njetstream {{ store_dir: \"{}\", sync_interval: \"1s\" }}\ncluster {{ name: chaos, listen: 127.0.0.1:{}, routes: [{}], no_advertise: true }}\n",
                port.number(),
                home.display(),
                route.number(),
                all.join(", "),
            );
            std::fs::write(&config, text)?;
            let args = vec!["-c".to_owned(), config.display().to_string()];
            nats.push(Node::start(name, port, programs.nats_server.clone(), args, dir.path())?);
        }
        let mut mongo = Vec::new();
        for number in 0..3 {
            let port = free()?;
            let home = dir.path().join(format!("m{number}"));
            std::fs::create_dir_all(&home)?;
            let args = [
                "--replSet",
                "chaos",
                "--bind_ip",
                "127.0.0.1",
                "--port",
                &port.number().to_string(),
                "--dbpath",
                &home.display().to_string(),
                "--wiredTigerCacheSizeGB",
                "0.25",
                "--setParameter",
                "diagnosticDataCollectionEnabled=false",
                "--nounixsocket",
            ]
            .map(str::to_owned)
            .to_vec();
            let name = format!("127.0.0.1:{}", port.number());
            mongo.push(Node::start(name, port, programs.mongod.clone(), args, dir.path())?);
        }
        let nodes = Self { nats, mongo, _dir: dir };
        nodes.form().await?;
        Ok(nodes)
    }

    fn url(&self, scheme: &str, nodes: &[Node], between: &str) -> String {
        let hosts: Vec<String> = nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port.number()))
            .collect();
        format!("{scheme}{}", hosts.join(between))
    }

    async fn form(&self) -> anyhow::Result<()> {
        let members: Vec<Document> = (0..)
            .zip(&self.mongo)
            .map(|(id, node): (i32, _)| doc! { "_id": id, "host": &node.name })
            .collect();
        let first = self.mongo.first().context("no member")?;
        let client = mongodb::Client::with_uri_str(format!("mongodb://{}/?directConnection=true", first.name)).await?;
        // A fixed majority to wait for, and elections that do not take the ten seconds of the default.
        let config = doc! { "_id": "chaos", "members": members, "settings": { "electionTimeoutMillis": 2000 } };
        let initiate = doc! { "replSetInitiate": config };
        until("the replica set is made", async || {
            client
                .database("admin")
                .run_command(initiate.clone())
                .await
                .map_err(anyhow::Error::from)
        })
        .await?;
        let uri = format!("{}/?replicaSet=chaos", self.url("mongodb://", &self.mongo, ","));
        until("there is a primary", async || primary(&uri).await).await?;
        let url = self.url("nats://", &self.nats, ",nats://");
        until("the NATS nodes have a leader", async || {
            let jetstream = async_nats::jetstream::new(connect(&url).await?);
            Ok(jetstream.query_account().await?)
        })
        .await?;
        Ok(())
    }
}

impl Node {
    fn start(name: String, port: Port, program: PathBuf, args: Vec<String>, dir: &Path) -> anyhow::Result<Self> {
        let log = dir.join(format!("{}.log", name.replace(':', "-")));
        let child = spawn(&program, &args, &log)?;
        Ok(Self {
            name,
            port,
            program,
            args,
            log,
            child,
        })
    }
}

fn spawn(program: &Path, args: &[String], log: &Path) -> anyhow::Result<Child> {
    let log = std::fs::File::options().create(true).append(true).open(log)?;
    Ok(Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()?)
}

/// Connects to whichever of several servers is there.
///
/// # Errors
/// None is.
pub async fn connect(urls: &str) -> anyhow::Result<async_nats::Client> {
    let urls: Vec<async_nats::ServerAddr> = urls.split(',').map(str::parse).collect::<Result<_, _>>()?;
    Ok(async_nats::connect(urls.as_slice()).await?)
}

async fn log_leader(url: &str) -> anyhow::Result<String> {
    let jetstream = async_nats::jetstream::new(connect(url).await?);
    let log = jetstream.get_stream("COMPLETIONS").await?;
    let cluster = log.cached_info().cluster.as_ref().context("no cluster")?;
    cluster.leader.clone().context("the log has no leader")
}

async fn primary(uri: &str) -> anyhow::Result<String> {
    let client = mongodb::Client::with_uri_str(uri).await?;
    let hello = client.database("admin").run_command(doc! { "hello": 1 }).await?;
    Ok(hello.get_str("primary")?.to_owned())
}

/// Kills one, waits, and starts it again.
async fn fell(nodes: &mut [Node], leader: &str, wanted: bool, down: Duration) -> anyhow::Result<()> {
    let node = nodes
        .iter_mut()
        .find(|node| (node.name == leader) == wanted)
        .context("no such node")?;
    if let Some(pid) = node.child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
        kill_process(pid, Signal::KILL)?;
    }
    node.child.wait().await?;
    tokio::time::sleep(down).await;
    node.child = spawn(&node.program, &node.args, &node.log)?;
    // One at a time: the others have a majority, and this one catches up.
    tokio::time::sleep(Duration::from_secs(3)).await;
    Ok(())
}

async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let began = Instant::now();
    loop {
        match ask().await {
            Ok(found) => return Ok(found),
            Err(error) => ensure!(began.elapsed() < PATIENCE, "{what} does not come about: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
