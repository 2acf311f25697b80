//! The way onto the bus, where nobody gets without a key.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use async_nats::{Client, ConnectOptions, ServerAddr};

/// Where the bus is, and the keys of its users.
#[derive(Debug, Clone)]
pub struct Bus {
    /// The servers, separated by commas.
    pub url: String,
    /// The directory of the key files.
    pub keys: PathBuf,
    /// What the server's certificate must follow from, where there is encryption.
    pub ca: Option<PathBuf>,
}

impl Bus {
    /// The file with the seeds of a user, one on a line.
    pub fn seeds(&self, user: &str) -> PathBuf {
        self.keys.join("nats").join(format!("{user}.nk"))
    }

    /// Connects as whoever may do anything.
    ///
    /// # Errors
    /// No server is there.
    pub async fn connect(&self) -> anyhow::Result<Client> {
        let seeds = std::fs::read_to_string(self.seeds("setup"))?;
        self.connect_with(seeds.lines().next().unwrap_or_default()).await
    }

    /// Connects with a key, to whichever of several servers is there.
    ///
    /// # Errors
    /// None is, or the key is refused.
    pub async fn connect_with(&self, seed: &str) -> anyhow::Result<Client> {
        let servers: Vec<&str> = self.servers().collect();
        self.connect_to(&servers, seed).await
    }

    /// Each server.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        self.url.split(',')
    }

    /// Connects with a key to one of these servers; the first that refuses it speaks for all.
    ///
    /// # Errors
    /// None is there, or the key is refused.
    pub async fn connect_to(&self, servers: &[&str], seed: &str) -> anyhow::Result<Client> {
        let servers: Vec<ServerAddr> =
            servers.iter().map(|url| url.parse()).collect::<Result<_, _>>()?;
        let mut options = ConnectOptions::with_nkey(seed.to_owned());
        if let Some(ca) = &self.ca {
            options = options.add_root_certificates(ca.clone()).require_tls(true);
        }
        Ok(options.connect(servers.as_slice()).await?)
    }

    /// As [`url`](Self::url), through a link to one server.
    ///
    /// # Errors
    /// There is no scheme.
    pub fn through(&self, port: u16) -> anyhow::Result<String> {
        let (scheme, _) = self.url.split_once("://").context("no scheme")?;
        Ok(format!("{scheme}://127.0.0.1:{port}"))
    }
}

/// The file with the users, which the servers' configuration includes.
pub fn accounts(keys: &Path) -> PathBuf {
    keys.join("nats").join("accounts.conf")
}
