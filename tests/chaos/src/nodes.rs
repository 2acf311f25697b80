//! Three NATS nodes with streams of three replicas, and a replica set of three members, on
//! loopback.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use concert_local_servers::{Certificate, FindOptions, Port, TestServers, find_or_fetch, include};
use concert_tests::server_key;
use mongodb::bson::{Document, doc};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::bus::{self, Bus};
use crate::disk::Disks;
use crate::options::Options;
use crate::partition::{PartitionMode, Partitions};

/// The servers of a run.
pub enum Servers {
    /// One NATS server and one MongoDB server.
    One(Box<Single>),
    /// Three of each.
    Three(Nodes),
}

/// One server of each.
pub struct Single {
    /// The small disks, or why there are none. This field is dropped before the servers' directory.
    disks: Result<Disks, String>,
    both: TestServers,
    /// The password of mongod's internal user, if it requires authentication.
    mongo_key: Option<PathBuf>,
}

impl Single {
    /// Starts both servers with the users of a key directory. Uses small disks if requested and
    /// permitted, and a certificate if there is one.
    ///
    /// # Errors
    /// A server does not start.
    pub async fn start(
        keys: &Path,
        options: &Options,
        certificate: Option<&Certificate>,
    ) -> anyhow::Result<Self> {
        let mongo_key = options.mongodb_users.then(|| server_key(keys));
        let mut both =
            TestServers::start_in(&FindOptions::of_user()?, tempfile::tempdir()?, |nats, mongo| {
                nats.accounts = Some(bus::accounts(keys));
                nats.tls = certificate.cloned();
                mongo.tls = certificate.cloned();
                mongo.key_file = mongo_key.clone();
            })
            .await?;
        let disks = if options.small_disks {
            Disks::under(&mut both).await.map_err(|error| error.to_string())
        } else {
            Err("not requested".to_owned())
        };
        Ok(Self { disks, both, mongo_key })
    }

    fn admin_uri(&self) -> anyhow::Result<String> {
        let uri = self.both.mongo.uri();
        let Some(file) = &self.mongo_key else { return Ok(uri) };
        let key = std::fs::read_to_string(file)?;
        let uri = uri.replacen("mongodb://", &format!("mongodb://__system:{}@", key.trim()), 1);
        Ok(format!("{uri}&authSource=local&authMechanism=SCRAM-SHA-256"))
    }
}

impl Servers {
    /// Reason why disks cannot be filled; `None` if they can.
    pub fn why_no_small_disks(&self) -> Option<&str> {
        match self {
            Self::One(servers) => servers.disks.as_ref().err().map(String::as_str),
            Self::Three(_) => Some("this needs one server of each kind"),
        }
    }

    /// Fills the disk of nats-server for some time, and restarts the server.
    ///
    /// # Errors
    /// There is no small disk, or the server does not restart.
    pub async fn fill_nats(&mut self, time: Duration) -> anyhow::Result<()> {
        let Self::One(servers) = self else { bail!("this needs one server of each kind") };
        let disks = servers.disks.as_ref().map_err(|why| anyhow!("{why}"))?;
        disks.nats.full(time).await?;
        // After a failed write a stream silently accepts nothing more, although the server responds
        // otherwise. It continues after a restart.
        servers.both.nats.kill().await;
        Ok(servers.both.nats.restart().await?)
    }

    /// Fills the disk of mongod for some time, and restarts the server if it exited.
    ///
    /// # Errors
    /// There is no small disk, or the server does not restart.
    pub async fn fill_mongo(&mut self, time: Duration) -> anyhow::Result<()> {
        let Self::One(servers) = self else { bail!("this needs one server of each kind") };
        let disks = servers.disks.as_ref().map_err(|why| anyhow!("{why}"))?;
        let uri = servers.admin_uri()?;
        // mongod writes to a preallocated journal. It writes its data files once a minute, or on
        // request.
        let (full, _) = tokio::join!(disks.mongo.full(time), checkpoints(&uri, time));
        full?;
        if let Err(error) =
            tokio::time::timeout(ALIVE, primary(&uri)).await.map_err(anyhow::Error::from).flatten()
        {
            eprintln!("mongod exited on the full disk; restarting it: {error}");
            servers.both.mongo.kill().await;
            servers.both.mongo.restart().await?;
        }
        Ok(())
    }

    /// Isolates the leader of the log, or a follower, for some time.
    ///
    /// # Errors
    /// There is only one server, or no leader.
    pub async fn divide_nats(
        &mut self,
        leader: bool,
        mode: PartitionMode,
        time: Duration,
    ) -> anyhow::Result<()> {
        let Self::Three(nodes) = self else { bail!("this needs three servers of each kind") };
        let name = log_leader(&nodes.bus()).await?;
        nodes.nats_partitions.close(place(&nodes.nats, &name, leader)?, mode);
        tokio::time::sleep(time).await;
        nodes.nats_partitions.open();
        Ok(())
    }

    /// Isolates the primary, or a secondary, for some time.
    ///
    /// # Errors
    /// There is only one server, or no primary.
    pub async fn divide_mongo(
        &mut self,
        leader: bool,
        mode: PartitionMode,
        time: Duration,
    ) -> anyhow::Result<()> {
        let uri = self.mongo_uri();
        let Self::Three(nodes) = self else { bail!("this needs three servers of each kind") };
        let name = primary(&uri).await?;
        nodes.mongo_partitions.close(place(&nodes.mongo, &name, leader)?, mode);
        tokio::time::sleep(time).await;
        nodes.mongo_partitions.open();
        Ok(())
    }

    /// The URLs of all NATS servers.
    pub fn nats_url(&self) -> String {
        match self {
            Self::One(servers) => servers.both.nats.url(),
            Self::Three(nodes) => nodes.nats_url(),
        }
    }

    /// The URI of all MongoDB servers.
    pub fn mongo_uri(&self) -> String {
        match self {
            Self::One(servers) => servers.both.mongo.uri(),
            Self::Three(nodes) => nodes.mongo_uri(),
        }
    }

    /// The URI of all MongoDB servers, with all rights.
    ///
    /// # Errors
    /// The key file of MongoDB cannot be read.
    pub fn admin_uri(&self) -> anyhow::Result<String> {
        match self {
            Self::One(servers) => servers.admin_uri(),
            Self::Three(nodes) => Ok(nodes.mongo_uri()),
        }
    }

    /// Makes every running NATS server reload its users; others read them when they start.
    pub fn reload_nats(&self) {
        match self {
            Self::One(servers) => servers.both.nats.reload(),
            Self::Three(nodes) => nodes.nats.iter().for_each(|node| node.signal(Signal::HUP)),
        }
    }

    /// The servers' logs.
    pub fn logs(&self) -> Vec<PathBuf> {
        match self {
            Self::One(servers) => {
                ["nats-server.log", "mongod.log"].map(|name| servers.both.dir().join(name)).to_vec()
            }
            Self::Three(nodes) => {
                nodes.nats.iter().chain(&nodes.mongo).map(|node| node.log.clone()).collect()
            }
        }
    }

    /// Kills a NATS server and restarts it; of three, the leader of the log or a follower.
    ///
    /// # Errors
    /// It does not restart.
    pub async fn kill_nats(&mut self, leader: bool, down: Duration) -> anyhow::Result<()> {
        match self {
            Self::One(servers) => {
                servers.both.nats.kill().await;
                Ok(servers.both.nats.restart().await?)
            }
            Self::Three(nodes) => {
                let name = log_leader(&nodes.bus()).await?;
                fell(&mut nodes.nats, &nodes.nats_partitions, &name, leader, down).await
            }
        }
    }

    /// Kills a MongoDB server and restarts it; of three, the primary or a secondary.
    ///
    /// # Errors
    /// It does not restart.
    pub async fn kill_mongo(&mut self, leader: bool, down: Duration) -> anyhow::Result<()> {
        let uri = self.mongo_uri();
        match self {
            Self::One(servers) => {
                servers.both.mongo.kill().await;
                Ok(servers.both.mongo.restart().await?)
            }
            Self::Three(nodes) => {
                let primary = primary(&uri).await?;
                fell(&mut nodes.mongo, &nodes.mongo_partitions, &primary, leader, down).await
            }
        }
    }
}

/// A server, with its command line.
#[derive(Debug)]
struct Node {
    name: String,
    /// The port for clients.
    address: String,
    _port: Port,
    program: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    child: Child,
}

/// Three nodes of each kind; dropping this stops them.
pub struct Nodes {
    nats: Vec<Node>,
    mongo: Vec<Node>,
    nats_partitions: Partitions,
    mongo_partitions: Partitions,
    keys: PathBuf,
    _routes: [Port; 3],
    _dir: TempDir,
}

/// Maximum response time of a server before it counts as down.
const ALIVE: Duration = Duration::from_secs(10);

const TIMEOUT: Duration = Duration::from_secs(60);

impl Nodes {
    /// Starts all six nodes with the users of a key directory, and waits until both clusters have a
    /// leader.
    ///
    /// # Errors
    /// A program is missing, or there is no leader in time.
    pub async fn start(keys: &Path) -> anyhow::Result<Self> {
        let programs = find_or_fetch(&FindOptions::of_user()?, &|_| {}).await?;
        let dir = tempfile::tempdir()?;
        let free = || Port::free().context("no free port");
        let routes = [free()?, free()?, free()?];
        let (mut nats, mut nats_partitions) = (Vec::new(), Partitions::default());
        let mut gates = Vec::new();
        for route in &routes {
            gates.push(nats_partitions.gate(route.number()).await?);
        }
        for (number, route) in routes.iter().enumerate() {
            let others: Vec<String> = (0..)
                .zip(&gates)
                .filter(|(other, _)| *other != number)
                .map(|(_, gate)| format!("nats-route://127.0.0.1:{gate}"))
                .collect();
            let gate = gates.get(number).context("each node has a gate")?;
            let (name, port) = (format!("n{number}"), free()?);
            let home = dir.path().join(&name);
            std::fs::create_dir_all(&home)?;
            let config = home.join("nats-server.conf");
            // Clients use the addresses that they were given; nodes use the gates.
            let text = format!(
                "listen: 127.0.0.1:{}\nserver_name: {name}\nmax_payload: 2097152\njetstream {{ store_dir: \"{}\", sync_interval: \"1s\" }}\ncluster {{ name: chaos, listen: 127.0.0.1:{}, advertise: \"127.0.0.1:{gate}\", routes: [{}], no_advertise: true }}\n{}",
                port.number(),
                home.display(),
                route.number(),
                others.join(", "),
                include(&bus::accounts(keys), &config)?,
            );
            std::fs::write(&config, text)?;
            let args = vec!["-c".to_owned(), config.display().to_string()];
            let address = format!("127.0.0.1:{}", port.number());
            nats.push(Node::start(
                name,
                address,
                port,
                programs.nats_server.clone(),
                args,
                dir.path(),
            )?);
        }
        nats_partitions.nodes_are(pids(&nats));
        let (mut mongo, mut mongo_partitions) = (Vec::new(), Partitions::default());
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
            // Its host name for members and clients.
            let name = format!("127.0.0.1:{}", mongo_partitions.gate(port.number()).await?);
            let program = programs.mongod.clone();
            mongo.push(Node::start(name.clone(), name, port, program, args, dir.path())?);
        }
        mongo_partitions.nodes_are(pids(&mongo));
        let nodes = Self {
            nats,
            mongo,
            nats_partitions,
            mongo_partitions,
            keys: keys.to_owned(),
            _routes: routes,
            _dir: dir,
        };
        nodes.form().await?;
        Ok(nodes)
    }

    fn nats_url(&self) -> String {
        let urls = self.nats.iter().map(|node| format!("nats://{}", node.address));
        urls.collect::<Vec<_>>().join(",")
    }

    fn bus(&self) -> Bus {
        Bus { url: self.nats_url(), keys: self.keys.clone(), ca: None }
    }

    fn mongo_uri(&self) -> String {
        let hosts: Vec<&str> = self.mongo.iter().map(|node| node.address.as_str()).collect();
        format!("mongodb://{}/?replicaSet=chaos", hosts.join(","))
    }

    async fn form(&self) -> anyhow::Result<()> {
        let members: Vec<Document> = (0..)
            .zip(&self.mongo)
            .map(|(id, node): (i32, _)| doc! { "_id": id, "host": &node.name })
            .collect();
        let first = self.mongo.first().context("no member")?;
        let client = mongodb::Client::with_uri_str(format!(
            "mongodb://{}/?directConnection=true",
            first.name
        ))
        .await?;
        // A fixed majority for writes, and a shorter election timeout than the default of ten
        // seconds.
        let config = doc! { "_id": "chaos", "members": members, "settings": { "electionTimeoutMillis": 2000 } };
        let initiate = doc! { "replSetInitiate": config };
        until("the replica set is created", async || {
            client
                .database("admin")
                .run_command(initiate.clone())
                .await
                .map_err(anyhow::Error::from)
        })
        .await?;
        let uri = self.mongo_uri();
        until("there is a primary", async || primary(&uri).await).await?;
        let bus = self.bus();
        until("the NATS nodes have a leader", async || {
            let jetstream = async_nats::jetstream::new(bus.connect().await?);
            Ok(jetstream.query_account().await?)
        })
        .await?;
        Ok(())
    }
}

impl Node {
    fn start(
        name: String,
        address: String,
        port: Port,
        program: PathBuf,
        args: Vec<String>,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let log = dir.join(format!("{}.log", name.replace(':', "-")));
        let child = spawn(&program, &args, &log)?;
        Ok(Self { name, address, _port: port, program, args, log, child })
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw)
            && let Err(error) = kill_process(pid, signal)
        {
            eprintln!("{} has already exited: {error}", self.name);
        }
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

async fn log_leader(bus: &Bus) -> anyhow::Result<String> {
    let jetstream = async_nats::jetstream::new(bus.connect().await?);
    let log = jetstream.get_stream("COMPLETIONS").await?;
    let cluster = log.cached_info().cluster.as_ref().context("no cluster")?;
    cluster.leader.clone().context("the log has no leader")
}

async fn primary(uri: &str) -> anyhow::Result<String> {
    let client = mongodb::Client::with_uri_str(uri).await?;
    let hello = client.database("admin").run_command(doc! { "hello": 1 }).await?;
    Ok(hello.get_str("primary")?.to_owned())
}

/// The leader, or another node.
fn place(nodes: &[Node], leader: &str, wanted: bool) -> anyhow::Result<usize> {
    let found = nodes.iter().position(|node| (node.name == leader) == wanted);
    found.context("no such node")
}

fn pids(nodes: &[Node]) -> Vec<u32> {
    nodes.iter().map(|node| node.child.id().unwrap_or_default()).collect()
}

/// Makes mongod write its data files repeatedly.
async fn checkpoints(uri: &str, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        let asked = async {
            let client = mongodb::Client::with_uri_str(uri).await?;
            client.database("admin").run_command(doc! { "fsync": 1 }).await
        };
        // Errors are expected; they are the purpose of the fault.
        drop(tokio::time::timeout(Duration::from_secs(1), asked).await);
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Kills a node, waits, and restarts it.
async fn fell(
    nodes: &mut [Node],
    partitions: &Partitions,
    leader: &str,
    wanted: bool,
    down: Duration,
) -> anyhow::Result<()> {
    let place = place(nodes, leader, wanted)?;
    let node = nodes.get_mut(place).context("no such node")?;
    node.signal(Signal::KILL);
    node.child.wait().await?;
    tokio::time::sleep(down).await;
    node.child = spawn(&node.program, &node.args, &node.log)?;
    partitions.nodes_are(pids(nodes));
    // Only one node at a time: the others keep a majority, and this one catches up.
    tokio::time::sleep(Duration::from_secs(3)).await;
    Ok(())
}

async fn until<T>(
    what: &str,
    mut ask: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let began = Instant::now();
    loop {
        match ask().await {
            Ok(found) => return Ok(found),
            Err(error) => {
                ensure!(began.elapsed() < TIMEOUT, "timed out waiting until {what}: {error}")
            }
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
