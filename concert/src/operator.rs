//! How the commands of an operator reach the running system.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use concert_runtime::bus::{self, Bus, BusArgs};
use concert_runtime::keys;
use concert_wire::access::User;

use crate::running::{self, DATA_DIR};

/// How long a command waits for NATS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Arguments of the commands that talk to a running system.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct OperatorArgs {
    /// The NATS server, or several separated by commas; without it, the one of the `concert up` of the data directory.
    #[arg(long, env = "NATS_URL", value_name = "URL", global = true)]
    nats_url: Option<String>,
    /// A NATS credentials file; without one, user and password may stand in the URL.
    #[arg(long, env = "NATS_CREDS", value_name = "FILE")]
    nats_creds: Option<PathBuf>,
    /// A file with the seed of the NATS key to connect with; without it, the operator's in the data directory.
    #[arg(long, env = "NATS_NKEY", value_name = "FILE", conflicts_with = "nats_creds")]
    nats_nkey: Option<PathBuf>,
    /// A file with the certificates that the NATS server's must follow from; the connection is encrypted then.
    #[arg(long, env = "NATS_CA", value_name = "FILE")]
    nats_ca: Option<PathBuf>,
    /// A file with the certificate to show to the NATS server.
    #[arg(long, env = "NATS_CERT", value_name = "FILE", requires = "nats_key")]
    nats_cert: Option<PathBuf>,
    /// A file with the private key of that certificate.
    #[arg(long, env = "NATS_KEY", value_name = "FILE", requires = "nats_cert")]
    nats_key: Option<PathBuf>,
    /// Data directory of the `concert up` to talk to.
    #[arg(long, env = "CONCERT_DATA_DIR", default_value = DATA_DIR, value_name = "DIR", global = true)]
    data_dir: PathBuf,
}

impl OperatorArgs {
    /// Connects to the NATS server that was named, or to that of the running system.
    ///
    /// # Errors
    /// None was named and no system runs, or the server does not answer within [`CONNECT_TIMEOUT`].
    pub(crate) async fn connect(&self, name: &str) -> anyhow::Result<Bus> {
        let args = self.bus()?;
        let connect = tokio::time::timeout(CONNECT_TIMEOUT, Bus::connect_to_streams(&args, name));
        let connected = connect.await.map_or_else(
            |_| {
                let (url, seconds) = (bus::without_credentials(&args.nats_url), CONNECT_TIMEOUT.as_secs());
                Err(anyhow!("no connection to NATS at {url} within {seconds} s"))
            },
            |connected| Ok(connected?),
        );
        match &self.nats_url {
            Some(_) => connected,
            None => connected.with_context(|| running::not_running(&self.data_dir)),
        }
    }

    fn bus(&self) -> anyhow::Result<BusArgs> {
        let mut bus = BusArgs {
            nats_url: self.nats_url.clone().unwrap_or_default(),
            nats_creds: self.nats_creds.clone(),
            nats_nkey: self.nats_nkey.clone(),
            nats_ca: self.nats_ca.clone(),
            nats_cert: self.nats_cert.clone(),
            nats_key: self.nats_key.clone(),
        };
        let mut keys_dir = self.data_dir.join("keys");
        if self.nats_url.is_none() {
            let started = running::find(&self.data_dir).context("--nats-url names no NATS server")?;
            bus.nats_url = started.nats_url;
            bus.nats_ca = bus.nats_ca.or(started.nats_ca);
            if bus.nats_nkey.is_none() {
                bus.nats_creds = bus.nats_creds.or(started.nats_creds);
            }
            keys_dir = started.keys_dir;
        }
        let key = keys::seeds_path(&keys_dir, &User::Operator);
        if bus.nats_nkey.is_none() && bus.nats_creds.is_none() && key.exists() {
            bus.nats_nkey = Some(key);
        }
        Ok(bus)
    }
}
