//! Temporary servers for tests, with free ports and a temporary directory.

use std::path::Path;

use tempfile::TempDir;

use crate::binaries::{Binaries, FindError, FindOptions, find_or_fetch};
use crate::error::StartError;
use crate::mongo::{MongoOptions, MongoServer};
use crate::nats::{NatsOptions, NatsServer};

/// Temporary NATS and MongoDB servers. They stop when this is dropped.
#[derive(Debug)]
pub struct TestServers {
    /// The NATS server.
    pub nats: NatsServer,
    /// The MongoDB server.
    pub mongo: MongoServer,
    dir: TempDir,
}

/// Errors of starting test servers.
#[derive(Debug, thiserror::Error)]
pub enum TestServersError {
    /// A binary is missing.
    #[error(transparent)]
    Find(#[from] FindError),
    /// A server does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The temporary directory cannot be created.
    #[error("cannot create a temporary directory: {0}")]
    Dir(std::io::Error),
}

impl TestServers {
    /// Starts both servers.
    ///
    /// # Errors
    /// See [`TestServersError`]. A missing server is an error, never a reason to skip a test.
    pub async fn start(options: &FindOptions) -> Result<Self, TestServersError> {
        let dir = tempfile::tempdir().map_err(TestServersError::Dir)?;
        Self::start_in(options, dir, |_, _| {}).await
    }

    /// Starts both servers with their files in a directory, and with changed options.
    ///
    /// # Errors
    /// See [`TestServersError`].
    pub async fn start_in(
        options: &FindOptions,
        dir: TempDir,
        change: impl FnOnce(&mut NatsOptions, &mut MongoOptions),
    ) -> Result<Self, TestServersError> {
        let Binaries { nats_server, mongod } = find_or_fetch(options, &|_| {}).await?;
        let (mut nats_options, mut mongo_options) =
            (NatsOptions::new(dir.path()), MongoOptions::new(dir.path()));
        change(&mut nats_options, &mut mongo_options);
        let (nats, mongo) = tokio::try_join!(
            NatsServer::start(&nats_server, &nats_options),
            MongoServer::start(&mongod, &mongo_options)
        )?;
        Ok(Self { nats, mongo, dir })
    }

    /// Directory of all files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}
