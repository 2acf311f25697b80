//! The two servers: existing ones, or servers that are found or downloaded and started here.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Context as _;
use concert_local_servers::{
    Binaries, FindOptions, MongoOptions, MongoServer, NatsOptions, NatsServer, Program, Progress,
    find_or_fetch,
};
use concert_runtime::keys;
use concert_wire::access::BUS;

use super::stream_sizes;
use super::supervisor::{Event, Server, supervise};
use crate::config::Settings;
use crate::{access, output};

/// Addresses of the servers.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    /// URL of the NATS server.
    pub(crate) nats_url: String,
    /// URI of the MongoDB server.
    pub(crate) mongodb_uri: String,
    /// `true` if `concert up` started the NATS server, so that it knows the configured users.
    pub(crate) has_own_nats: bool,
    /// `true` if `concert up` started the MongoDB server, which has a user for each concept.
    pub(crate) has_own_mongodb: bool,
}

/// The NATS and MongoDB servers.
pub(crate) struct Servers {
    addresses: Addresses,
    nats: Option<NatsServer>,
    mongo: Option<MongoServer>,
    nats_server: Option<PathBuf>,
}

/// Rejects a path that cannot be written to the configuration file of nats-server.
pub(super) fn check_data_dir(settings: &Settings) -> anyhow::Result<()> {
    let dir = std::path::absolute(&settings.app.data_dir)?;
    let is_bad = |c: char| c == '"' || c == '\\' || c.is_control();
    anyhow::ensure!(
        settings.nats.url.is_some() || !dir.to_string_lossy().contains(is_bad),
        "nats-server cannot use the data directory {}, because its path contains a quotation mark, \
         a backslash or a control character; choose another with --data-dir",
        dir.display()
    );
    Ok(())
}

/// Finds or starts both servers.
pub(crate) async fn start(settings: &Settings) -> anyhow::Result<Servers> {
    let logs = settings.app.data_dir.join("logs");
    std::fs::create_dir_all(&logs).with_context(|| {
        format!(
            "cannot write the data directory {}; choose another with --data-dir",
            settings.app.data_dir.display()
        )
    })?;
    adopt_streams(&settings.app.data_dir.join("nats"))?;
    let needed = settings.nats.url.is_none() || settings.mongodb.uri.is_none();
    let binaries = if needed { Some(find(settings).await?) } else { None };
    let nats = async {
        Ok(match (&settings.nats.url, &binaries) {
            (None, Some(binaries)) => Some(
                NatsServer::start(&binaries.nats_server, &nats_options(settings, &logs)?).await?,
            ),
            _ => None,
        })
    };
    let mongo = async {
        Ok(match (&settings.mongodb.uri, &binaries) {
            (None, Some(binaries)) => {
                Some(MongoServer::start(&binaries.mongod, &mongo_options(settings, &logs)).await?)
            }
            _ => None,
        })
    };
    // Waits for both results: if one server fails to start, the other one is stopped.
    let (nats, mongo): (anyhow::Result<_>, anyhow::Result<_>) = tokio::join!(nats, mongo);
    let (nats, mongo) = match (nats, mongo) {
        (Ok(nats), Ok(mongo)) => (nats, mongo),
        (Err(error), mongo) => {
            if let Ok(Some(mut mongo)) = mongo {
                mongo.stop().await;
            }
            return Err(error);
        }
        (Ok(nats), Err(error)) => {
            if let Some(mut nats) = nats {
                nats.stop().await;
            }
            return Err(error);
        }
    };
    let nats_url = nats
        .as_ref()
        .map(NatsServer::url)
        .or_else(|| settings.nats.url.clone())
        .unwrap_or_default();
    let mongodb_uri = mongo
        .as_ref()
        .map(MongoServer::uri)
        .or_else(|| settings.mongodb.uri.clone())
        .unwrap_or_default();
    Ok(Servers {
        addresses: Addresses {
            nats_url,
            mongodb_uri,
            has_own_nats: nats.is_some(),
            has_own_mongodb: mongo.is_some(),
        },
        nats,
        mongo,
        nats_server: binaries.map(|binaries| binaries.nats_server),
    })
}

/// Moves streams of releases without NATS accounts to the account that has them now.
fn adopt_streams(nats: &Path) -> anyhow::Result<()> {
    let streams = nats.join("jetstream");
    let (before, now) = (streams.join("$G"), streams.join(BUS));
    if before.exists() && !now.exists() {
        std::fs::rename(&before, &now)
            .with_context(|| format!("cannot rename {} to {}", before.display(), now.display()))?;
    }
    Ok(())
}

fn nats_options(settings: &Settings, logs: &Path) -> anyhow::Result<NatsOptions> {
    Ok(NatsOptions {
        data_dir: settings.app.data_dir.join("nats"),
        log_file: logs.join("nats-server.log"),
        port: settings.nats.port,
        sync_interval: settings.nats.sync_interval.clone(),
        max_storage_bytes: Some(stream_sizes::max_storage(&settings.log, &settings.app.data_dir)?),
        accounts: Some(access::accounts_file(&settings.app.keys_dir())),
        tls: None,
    })
}

fn mongo_options(settings: &Settings, logs: &Path) -> MongoOptions {
    MongoOptions {
        data_dir: settings.app.data_dir.join("mongo"),
        log_file: logs.join("mongod.log"),
        port: settings.mongodb.port,
        key_file: Some(keys::mongodb_server_key(&settings.app.keys_dir())),
        ..MongoOptions::new(&settings.app.data_dir)
    }
}

async fn find(settings: &Settings) -> anyhow::Result<Binaries> {
    let options = match &settings.app.cache_dir {
        Some(cache_dir) => {
            FindOptions { path: std::env::var_os("PATH"), cache_dir: cache_dir.clone() }
        }
        None => FindOptions::of_user()?,
    };
    let shown = Mutex::new(0);
    Ok(find_or_fetch(&options, &|progress| print_progress(&progress, &shown)).await?)
}

/// Bytes between two progress messages.
const PROGRESS_BYTES: u64 = 8 * 1024 * 1024;

fn print_progress(progress: &Progress, shown: &Mutex<u64>) {
    let mut shown = shown.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match progress {
        Progress::TooOld { path, found, needed } => output::print_progress(&format!(
            "{} is version {found}; version {needed} or newer is needed",
            path.display()
        )),
        Progress::Broken { path, output } => {
            output::print_progress(&format!("{} does not run: {output}", path.display()));
        }
        Progress::Fetching { package, version, bytes: 0 } => {
            *shown = 0;
            output::print_progress(&format!("downloading {package} {version} (once per user)"));
        }
        Progress::Fetching { package, version, bytes } if *bytes >= *shown + PROGRESS_BYTES => {
            *shown = *bytes;
            output::print_progress(&format!(
                "downloading {package} {version}: {} MB",
                bytes / 1024 / 1024
            ));
        }
        Progress::Fetching { .. } => {}
        Progress::Fetched { package, version, took } => output::print_progress(&format!(
            "downloaded {package} {version} in {:.0} s",
            took.as_secs_f64()
        )),
    }
}

async fn supervised<S: Server>(
    server: Option<&mut S>,
    report: &dyn Fn(Program, Event<'_>),
) -> anyhow::Error {
    match server {
        Some(server) => supervise(server, report).await,
        None => std::future::pending().await,
    }
}

impl Servers {
    /// Addresses of both servers.
    pub(crate) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Process id and path of the NATS server, if it was started here.
    pub(crate) fn nats_process(&self) -> Option<(u32, &Path)> {
        Some((self.nats.as_ref()?.pid(), self.nats_server.as_deref()?))
    }

    /// Process id of the MongoDB server, if it was started here.
    pub(crate) fn mongod_pid(&self) -> Option<u32> {
        self.mongo.as_ref().map(MongoServer::pid)
    }

    /// Kills the NATS server that was started here, and starts it again on the same port and data.
    pub(crate) async fn restart_nats(&mut self) -> anyhow::Result<()> {
        if let Some(nats) = &mut self.nats {
            nats.kill().await;
            nats.restart().await?;
        }
        Ok(())
    }

    /// Kills the MongoDB server that was started here, and starts it again on the same port and
    /// data.
    pub(crate) async fn restart_mongod(&mut self) -> anyhow::Result<()> {
        if let Some(mongo) = &mut self.mongo {
            mongo.kill().await;
            mongo.restart().await?;
        }
        Ok(())
    }

    /// Restarts servers that were started here when they exit. Returns the reason when a server
    /// keeps exiting.
    pub(crate) async fn supervised(
        &mut self,
        report: &dyn Fn(Program, Event<'_>),
    ) -> anyhow::Error {
        tokio::select! {
            error = supervised(self.nats.as_mut(), report) => error,
            error = supervised(self.mongo.as_mut(), report) => error,
        }
    }

    /// Stops the servers that were started here.
    pub(crate) async fn stop(self) {
        let stop_nats = async {
            if let Some(mut nats) = self.nats {
                nats.stop().await;
            }
        };
        let stop_mongo = async {
            if let Some(mut mongo) = self.mongo {
                mongo.stop().await;
            }
        };
        let within = tokio::time::timeout(Duration::from_secs(40), async {
            tokio::join!(stop_nats, stop_mongo)
        });
        if within.await.is_err() {
            tracing::warn!("the servers did not stop in time");
        }
    }
}
