//! Runs `nats-server` on loopback, with JetStream.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::certificate::Certificate;
use crate::data_dir::DataDir;
use crate::data_version;
use crate::error::StartError;
use crate::guardian::{Exited, Guarded};
use crate::port::Port;
use crate::program::{self, Program};
use crate::startup::Startup;

/// Start options of a NATS server.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// Data directory of the streams.
    pub data_dir: PathBuf,
    /// Log file.
    pub log_file: PathBuf,
    /// Port; 0 picks a free port.
    pub port: u16,
    /// fsync interval: `always`, or an interval such as `1s`.
    pub sync_interval: String,
    /// Maximum size of all streams, in bytes; without one, the server takes three quarters of the
    /// free disk space.
    pub max_storage_bytes: Option<u64>,
    /// File with the block `accounts` of the configuration. Without it, every client has all
    /// rights.
    pub accounts: Option<PathBuf>,
    /// If set, only TLS connections are accepted.
    pub tls: Option<Certificate>,
}

impl NatsOptions {
    /// A free port, and all files below one directory.
    pub fn new(dir: &Path) -> Self {
        Self {
            data_dir: dir.join("nats"),
            log_file: dir.join("nats-server.log"),
            port: 0,
            sync_interval: "1s".to_owned(),
            max_storage_bytes: None,
            accounts: None,
            tls: None,
        }
    }
}

/// A running NATS server.
#[derive(Debug)]
pub struct NatsServer {
    binary: PathBuf,
    options: NatsOptions,
    /// Reserves the port for restarts.
    _port: Port,
    guarded: Guarded,
    /// Released last, after the server has received the stop signal.
    data_dir: DataDir,
}

const PROGRAM: Program = Program::NatsServer;
/// Maximum size of a message, in bytes.
const MAX_PAYLOAD: usize = 2 * 1024 * 1024;
/// Time in which a client must authenticate, in seconds. The server's own 2 s are too short on a
/// machine that hashes passwords and starts many processes at once.
const LOGIN_TIMEOUT: u32 = 10;

impl NatsServer {
    /// Starts the server, and waits until JetStream is ready.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(binary: &Path, options: &NatsOptions) -> Result<Self, StartError> {
        let mut options = options.clone();
        // The directory is locked first: a leftover server in it may use the port.
        let data_dir = DataDir::take(&options.data_dir, PROGRAM).await?;
        let version = program::version(binary)
            .await
            .map_err(|output| StartError::DoesNotRun { binary: binary.to_owned(), output })?;
        data_version::check(&options.data_dir, binary, PROGRAM, version)?;
        let port = Port::choose(PROGRAM, options.port, "--nats-port")?;
        options.port = port.number();
        let guarded = launch(binary, &options, &data_dir.pid_file()).await?;
        let failed = |source| StartError::DataDir { path: options.data_dir.clone(), source };
        data_version::record(&options.data_dir, PROGRAM, version).map_err(failed)?;
        Ok(Self { binary: binary.to_owned(), options, _port: port, guarded, data_dir })
    }

    /// URL of the server.
    pub fn url(&self) -> String {
        let scheme = if self.options.tls.is_some() { "tls" } else { "nats" };
        format!("{scheme}://127.0.0.1:{}", self.options.port)
    }

    /// Process id of the server.
    pub fn pid(&self) -> u32 {
        self.guarded.pid()
    }

    /// Makes the server reload its configuration. Connections of unchanged users stay open.
    pub fn reload(&self) {
        self.guarded.hang_up();
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

async fn launch(
    binary: &Path,
    options: &NatsOptions,
    pid_file: &Path,
) -> Result<Guarded, StartError> {
    let failed = |source| StartError::DataDir { path: options.data_dir.clone(), source };
    let config_file = options.data_dir.join("nats-server.conf");
    // Included files are relative to the configuration file, so its path must be absolute.
    let config_file = std::path::absolute(config_file).map_err(failed)?;
    let config = config(options, pid_file, &config_file).map_err(failed)?;
    std::fs::write(&config_file, config).map_err(failed)?;
    let args = ["-c".to_owned(), config_file.display().to_string()];
    let mut guarded = Guarded::start(PROGRAM, binary, &args, &options.log_file).await?;
    let mut startup = Startup::new(PROGRAM, &options.log_file);
    loop {
        let is_closed = options.accounts.is_some() || options.tls.is_some();
        let Err(why) = is_ready(options.port, is_closed).await else {
            return Ok(guarded);
        };
        if let Some(status) = guarded.ended() {
            return Err(guarded.ended_at_start(status));
        }
        if let Err(error) = startup.check(&why) {
            guarded.kill().await;
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Quotes a path for the configuration file.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('\\', "\\\\").replace('"', "\\\""))
}

/// The configuration line that includes `file` in `config_file`, for any locations of the two.
///
/// # Errors
/// The current directory does not exist, so relative paths cannot be resolved.
pub fn include(file: &Path, config_file: &Path) -> std::io::Result<String> {
    let (file, config_file) = (std::path::absolute(file)?, std::path::absolute(config_file)?);
    // The server resolves every path from the directory of its configuration, so the path first
    // leads up to the root.
    let up = "../".repeat(config_file.components().count().saturating_sub(2));
    let down = file.strip_prefix("/").unwrap_or(&file);
    Ok(format!("include {}\n", quoted(&Path::new(&up).join(down))))
}

fn config(options: &NatsOptions, pid_file: &Path, config_file: &Path) -> std::io::Result<String> {
    let mut config = format!(
        "# Written at every start.\nlisten: 127.0.0.1:{port}\npid_file: {pid}\n\
         max_payload: {MAX_PAYLOAD}\n\
         authorization {{\n  timeout: {LOGIN_TIMEOUT}\n}}\n\
         jetstream {{\n  store_dir: {store}\n  sync_interval: {sync}{storage}\n}}\n",
        port = options.port,
        pid = quoted(pid_file),
        store = quoted(&options.data_dir),
        sync = options.sync_interval,
        storage = options
            .max_storage_bytes
            .map_or(String::new(), |bytes| format!("\n  max_file_store: {bytes}")),
    );
    if let Some(accounts) = &options.accounts {
        config.push_str(&include(accounts, config_file)?);
    }
    if let Some(Certificate { file, ca }) = &options.tls {
        let file = quoted(&std::path::absolute(file)?);
        let ca = quoted(&std::path::absolute(ca)?);
        let files = format!("cert_file: {file}\n  key_file: {file}\n  ca_file: {ca}");
        writeln!(config, "tls {{\n  {files}\n  timeout: {LOGIN_TIMEOUT}\n}}")
            .map_err(std::io::Error::other)?;
    }
    Ok(config)
}

/// Checks that JetStream is ready, with the client protocol. With accounts or TLS, only the
/// greeting is available; the server sends it after it has loaded its streams.
async fn is_ready(port: u16, is_closed: bool) -> std::io::Result<()> {
    let ask = async {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        let mut stream = BufReader::new(stream);
        if is_closed {
            let mut hello = String::new();
            stream.read_line(&mut hello).await?;
            return if hello.starts_with("INFO ") && hello.contains("\"jetstream\":true") {
                Ok(())
            } else {
                Err(std::io::Error::other("the server does not report JetStream"))
            };
        }
        stream.write_all(b"CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\nSUB ready 1\r\nPUB $JS.API.INFO ready 0\r\n\r\n").await?;
        let mut line = String::new();
        loop {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Err(std::io::Error::other("the server closed the connection"));
            }
            if line.starts_with("MSG ready") {
                return Ok(());
            }
            if line.starts_with("HMSG") || line.starts_with("-ERR") {
                return Err(std::io::Error::other("JetStream is not ready"));
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(2), ask)
        .await
        .unwrap_or_else(|_| Err(std::io::Error::other("no answer in time")))
}
