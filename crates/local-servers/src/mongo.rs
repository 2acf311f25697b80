//! Runs `mongod` on loopback as a replica set of one: majority writes need a replica set.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{AuthMechanism, ClientOptions, Credential};
use mongodb::{Client, Database};

use crate::certificate::Certificate;
use crate::data_dir::DataDir;
use crate::data_version;
use crate::error::StartError;
use crate::guardian::{Exited, Guarded};
use crate::port::Port;
use crate::program::{self, Program};
use crate::startup::Startup;

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
    /// Key file of the replica set. If set, clients must authenticate; a client with the content of
    /// this file has all rights.
    pub key_file: Option<PathBuf>,
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
            key_file: None,
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
/// Timeout of the initiation of a replica set.
const INITIATE_TIMEOUT: Duration = Duration::from_secs(90);

impl MongoServer {
    /// Starts the server, initiates the replica set, and waits until it accepts writes.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(binary: &Path, options: &MongoOptions) -> Result<Self, StartError> {
        let mut options = options.clone();
        // The directory is locked first: a leftover server in it may use the port.
        let data_dir = DataDir::take(&options.data_dir, PROGRAM).await?;
        let version = program::version(binary)
            .await
            .map_err(|output| StartError::DoesNotRun { binary: binary.to_owned(), output })?;
        data_version::check(&options.data_dir, binary, PROGRAM, version)?;
        let port = Port::choose(PROGRAM, options.port, "--mongo-port")?;
        options.port = port.number();
        let guarded = launch(binary, &options, &data_dir.pid_file()).await?;
        let failed = |source| StartError::DataDir { path: options.data_dir.clone(), source };
        data_version::record(&options.data_dir, PROGRAM, version).map_err(failed)?;
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
pub async fn initiate_replica_set(
    host: &str,
    options: &str,
    credential: Option<Credential>,
) -> Result<(), Error> {
    let separator = if options.is_empty() { "" } else { "&" };
    let uri = format!("{}{separator}{options}", uri(host, None));
    let admin = admin(&uri, credential).await?;
    let began = tokio::time::Instant::now();
    loop {
        match make_writable(&admin, host).await {
            Ok(true) => return Ok(()),
            Err(error) if began.elapsed() > INITIATE_TIMEOUT => return Err(error),
            Ok(false) if began.elapsed() > INITIATE_TIMEOUT => return Err(not_primary()),
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
    if let Some(key_file) = &options.key_file {
        args.extend(["--keyFile".to_owned(), absolute(key_file).map_err(failed)?]);
        // Passwords are random keys, so the minimum of iterations is enough.
        args.extend(["--setParameter", "scramSHA256IterationCount=5000"].map(str::to_owned));
    }
    let mut guarded = Guarded::start(PROGRAM, binary, &args, &options.log_file).await?;
    let mut startup = Startup::new(PROGRAM, &options.log_file);
    let host = host(options.port);
    let credential = options.key_file.as_deref().map(server_credential).transpose();
    let credential = credential.map_err(failed)?;
    let admin = match admin(&uri(&host, options.tls.as_ref()), credential).await {
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
        if let Err(error) = startup.check(&error) {
            guarded.kill().await;
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn not_ready(guarded: &mut Guarded, options: &MongoOptions, error: &Error) -> StartError {
    guarded.kill().await;
    StartError::NotReady {
        program: PROGRAM,
        seconds: 0,
        why: error.to_string(),
        log_file: options.log_file.clone(),
    }
}

/// Credential of the server's internal user, whose password is the content of the key file.
///
/// # Errors
/// The file cannot be read.
pub fn server_credential(key_file: &Path) -> std::io::Result<Credential> {
    let key = std::fs::read_to_string(key_file)?;
    Ok(Credential::builder()
        .username("__system".to_owned())
        .password(key.trim().to_owned())
        .source("local".to_owned())
        .mechanism(AuthMechanism::ScramSha256)
        .build())
}

fn absolute(path: &Path) -> std::io::Result<String> {
    std::path::absolute(path).map(|path| path.display().to_string())
}

async fn admin(uri: &str, credential: Option<Credential>) -> Result<Database, Error> {
    let mut options = ClientOptions::parse(uri).await?;
    options.credential = credential;
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
