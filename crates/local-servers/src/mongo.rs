//! Runs `mongod` on loopback as a replica set of one: majority writes need a replica set.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::ClientOptions;
use mongodb::{Client, Database};

use crate::certificate::Certificate;
use crate::data_dir::DataDir;
use crate::error::StartError;
use crate::guardian::{Exited, Guarded};
use crate::port::Port;
use crate::program::Program;

/// Start options of a MongoDB server.
#[derive(Debug, Clone)]
pub struct MongoOptions {
    /// Data directory.
    pub data_dir: PathBuf,
    /// Log file.
    pub log_file: PathBuf,
    /// Port; 0 picks a free port.
    pub port: u16,
    /// Cache size, in gigabytes.
    pub cache_gb: f32,
    /// If set, only TLS connections are accepted.
    pub tls: Option<Certificate>,
}

impl MongoOptions {
    /// A free port, and all files below one directory.
    pub fn new(dir: &Path) -> Self {
        Self {
            data_dir: dir.join("mongo"),
            log_file: dir.join("mongod.log"),
            port: 0,
            cache_gb: 0.25,
            tls: None,
        }
    }
}

/// A running MongoDB server.
#[derive(Debug)]
pub struct MongoServer {
    binary: PathBuf,
    options: MongoOptions,
    /// Reserves the port for restarts.
    _port: Port,
    guarded: Guarded,
    /// Released last, after the server has received the stop signal.
    data_dir: DataDir,
}

const PROGRAM: Program = Program::Mongod;
/// Name of the replica set.
const REPLICA_SET: &str = "concert";
/// Timeout of the start. After a crash, the server replays its journal.
const READY_TIMEOUT: Duration = Duration::from_secs(90);

impl MongoServer {
    /// Starts the server, initiates the replica set, and waits until it accepts writes.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(binary: &Path, options: &MongoOptions) -> Result<Self, StartError> {
        let mut options = options.clone();
        // The directory is locked first: a leftover server in it may use the port.
        let data_dir = DataDir::take(&options.data_dir, PROGRAM).await?;
        let port = Port::choose(PROGRAM, options.port, "--mongo-port")?;
        options.port = port.number();
        let guarded = launch(binary, &options, &data_dir.pid_file()).await?;
        Ok(Self { binary: binary.to_owned(), options, _port: port, guarded, data_dir })
    }

    /// URI of the server, for a direct connection.
    pub fn uri(&self) -> String {
        uri(&host(self.options.port), self.options.tls.as_ref())
    }

    /// Process id of the server.
    pub fn pid(&self) -> u32 {
        self.guarded.pid()
    }

    /// Returns when the server exits.
    pub async fn exited(&mut self) -> Exited {
        self.guarded.exited().await
    }

    /// Stops the server.
    pub async fn stop(&mut self) {
        self.guarded.stop().await;
    }

    /// Kills the server immediately, as in a crash.
    pub async fn kill(&mut self) {
        self.guarded.kill().await;
    }

    /// Restarts the server after it has exited, on the same port and data.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn restart(&mut self) -> Result<(), StartError> {
        self.data_dir.end_leftover().await?;
        self.guarded = launch(&self.binary, &self.options, &self.data_dir.pid_file()).await?;
        Ok(())
    }
}

fn host(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn uri(host: &str, tls: Option<&Certificate>) -> String {
    let tls = tls.map(|tls| format!("&tls=true&tlsCAFile={}", tls.ca.display()));
    format!("mongodb://{host}/?directConnection=true{}", tls.unwrap_or_default())
}

/// Makes the server at `host` (name and port, as other processes connect to it) a replica set of
/// one, and waits until it accepts writes.
///
/// `options` are added to the connection URI, such as `tls=true&tlsCAFile=ca.pem`.
///
/// # Errors
/// The server is not the primary within 90 seconds.
pub async fn initiate_replica_set(host: &str, options: &str) -> Result<(), Error> {
    let separator = if options.is_empty() { "" } else { "&" };
    let admin = admin(&format!("{}{separator}{options}", uri(host, None))).await?;
    let began = tokio::time::Instant::now();
    loop {
        match make_writable(&admin, host).await {
            Ok(true) => return Ok(()),
            Err(error) if began.elapsed() > READY_TIMEOUT => return Err(error),
            Ok(false) if began.elapsed() > READY_TIMEOUT => return Err(not_primary()),
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

fn not_primary() -> Error {
    Error::custom("the server is not yet the primary of its replica set")
}

async fn launch(
    binary: &Path,
    options: &MongoOptions,
    pid_file: &Path,
) -> Result<Guarded, StartError> {
    let failed = |source| StartError::DataDir { path: options.data_dir.clone(), source };
    // Written first, so that a directory without write access causes our error message, not one of
    // the server.
    std::fs::write(pid_file, "").map_err(failed)?;
    let args = [
        "--replSet",
        REPLICA_SET,
        "--bind_ip",
        "127.0.0.1",
        "--port",
        &options.port.to_string(),
        "--dbpath",
        &options.data_dir.display().to_string(),
        "--pidfilepath",
        &absolute(pid_file).map_err(failed)?,
        "--wiredTigerCacheSizeGB",
        &options.cache_gb.to_string(),
        "--setParameter",
        "diagnosticDataCollectionEnabled=false",
        "--nounixsocket",
    ];
    let mut args = args.map(str::to_owned).to_vec();
    if let Some(Certificate { file, ca }) = &options.tls {
        args.extend(
            ["--tlsMode", "requireTLS", "--tlsAllowConnectionsWithoutCertificates"]
                .map(str::to_owned),
        );
        args.extend(["--tlsCertificateKeyFile".to_owned(), file.display().to_string()]);
        args.extend(["--tlsCAFile".to_owned(), ca.display().to_string()]);
    }
    let mut guarded = Guarded::start(PROGRAM, binary, &args, &options.log_file).await?;
    let began = tokio::time::Instant::now();
    let host = host(options.port);
    let admin = match admin(&uri(&host, options.tls.as_ref())).await {
        Ok(admin) => admin,
        Err(error) => return Err(not_ready(&mut guarded, options, &error).await),
    };
    loop {
        let error = match make_writable(&admin, &host).await {
            Ok(true) => return Ok(guarded),
            Ok(false) => not_primary(),
            Err(error) => error,
        };
        if let Some(status) = guarded.ended() {
            return Err(guarded.ended_at_start(status));
        }
        if began.elapsed() > READY_TIMEOUT {
            return Err(not_ready(&mut guarded, options, &error).await);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn not_ready(guarded: &mut Guarded, options: &MongoOptions, error: &Error) -> StartError {
    guarded.kill().await;
    StartError::NotReady {
        program: PROGRAM,
        seconds: READY_TIMEOUT.as_secs(),
        why: error.to_string(),
        log_file: options.log_file.clone(),
    }
}

fn absolute(path: &Path) -> std::io::Result<String> {
    std::path::absolute(path).map(|path| path.display().to_string())
}

async fn admin(uri: &str) -> Result<Database, Error> {
    let mut options = ClientOptions::parse(uri).await?;
    options.server_selection_timeout = Some(Duration::from_millis(500));
    options.connect_timeout = Some(Duration::from_millis(500));
    Ok(Client::with_options(options)?.database("admin"))
}

/// Initiates or corrects a replica set of which the server is the only member. Returns whether it
/// is the primary.
async fn make_writable(admin: &Database, host: &str) -> Result<bool, Error> {
    let hello = admin.run_command(doc! { "hello": 1 }).await?;
    let member = doc! { "_id": 0, "host": host };
    if is_true(&hello, "isWritablePrimary") && hello.get_str("me").is_ok_and(|me| me == host) {
        return Ok(true);
    }
    match admin.run_command(doc! { "replSetGetConfig": 1 }).await {
        Err(error) if code(&error) == Some(NOT_YET_INITIALIZED) => {
            let config = doc! { "_id": REPLICA_SET, "members": [member] };
            admin.run_command(doc! { "replSetInitiate": config }).await?;
        }
        Ok(found) => {
            let mut config = found.get_document("config").cloned().map_err(Error::custom)?;
            // The port has changed since the last start.
            if config.get_array("members").is_ok_and(|members| {
                members.iter().any(|old| {
                    old.as_document().and_then(|old| old.get_str("host").ok())
                        != member.get_str("host").ok()
                })
            }) {
                let version = config.get_i32("version").unwrap_or(1);
                config.insert("version", version + 1);
                config.insert("members", vec![member]);
                admin.run_command(doc! { "replSetReconfig": config, "force": true }).await?;
            }
        }
        Err(error) => return Err(error),
    }
    Ok(false)
}

const NOT_YET_INITIALIZED: i32 = 94;

fn is_true(document: &Document, key: &str) -> bool {
    document.get_bool(key).unwrap_or(false)
}

fn code(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(command) => Some(command.code),
        _ => None,
    }
}
