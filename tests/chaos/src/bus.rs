//! Connections to a NATS server that requires keys.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use async_nats::{Client, ConnectOptions, ServerAddr};

/// The addresses of NATS servers, and the keys of their users.
#[derive(Debug, Clone)]
pub struct Bus {
    /// The server URLs, separated by commas.
    pub url: String,
    /// The directory of the key files.
    pub keys: PathBuf,
    /// The CA certificate of the servers, if connections are encrypted.
    pub ca: Option<PathBuf>,
}

impl Bus {
    /// The file with the seeds of a user, one per line.
    pub fn seeds(&self, user: &str) -> PathBuf {
        self.keys.join("nats").join(format!("{user}.nk"))
    }

    /// Connects as the user with all rights.
    ///
    /// # Errors
    /// No server is reachable.
    pub async fn connect(&self) -> anyhow::Result<Client> {
        let seeds = std::fs::read_to_string(self.seeds("setup"))?;
        self.connect_with(seeds.lines().next().unwrap_or_default()).await
    }

    /// Connects with a key to any reachable server.
    ///
    /// # Errors
    /// No server is reachable, or the key is rejected.
    pub async fn connect_with(&self, seed: &str) -> anyhow::Result<Client> {
        let servers: Vec<&str> = self.servers().collect();
        self.connect_to(&servers, seed).await
    }

    /// The servers, one by one.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        self.url.split(',')
    }

    /// Connects with a key to one of these servers. The first rejection is final.
    ///
    /// # Errors
    /// No server is reachable, or the key is rejected.
    pub async fn connect_to(&self, servers: &[&str], seed: &str) -> anyhow::Result<Client> {
        let servers: Vec<ServerAddr> =
            servers.iter().map(|url| url.parse()).collect::<Result<_, _>>()?;
        let mut options = ConnectOptions::with_nkey(seed.to_owned());
        if let Some(ca) = &self.ca {
            options = options.add_root_certificates(ca.clone()).require_tls(true);
        }
        Ok(options.connect(servers.as_slice()).await?)
    }

    /// Like [`url`](Self::url), through a link to one server.
    ///
    /// # Errors
    /// The URL has no scheme.
    pub fn through(&self, port: u16) -> anyhow::Result<String> {
        let (scheme, _) = self.url.split_once("://").context("no scheme")?;
        Ok(format!("{scheme}://127.0.0.1:{port}"))
    }
}

/// The file with the users, which the servers' configuration includes.
pub fn accounts(keys: &Path) -> PathBuf {
    keys.join("nats").join("accounts.conf")
}
