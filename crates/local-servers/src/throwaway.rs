//! Both servers for a test: free ports, a directory that goes afterwards.

use std::path::Path;

use tempfile::TempDir;

use crate::binaries::{Binaries, FindError, FindOptions, find_or_fetch};
use crate::error::StartError;
use crate::mongo::{MongoOptions, MongoServer};
use crate::nats::{NatsOptions, NatsServer};

/// Both servers; they end when this is dropped.
#[derive(Debug)]
pub struct Throwaway {
    /// NATS.
    pub nats: NatsServer,
    /// MongoDB.
    pub mongo: MongoServer,
    dir: TempDir,
}

/// Why they are not there.
#[derive(Debug, thiserror::Error)]
pub enum ThrowawayError {
    /// A program is missing.
    #[error(transparent)]
    Find(#[from] FindError),
    /// A server does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// There is no directory for them.
    #[error("no temporary directory can be made: {0}")]
    Dir(std::io::Error),
}

impl Throwaway {
    /// Starts both.
    ///
    /// # Errors
    /// See [`ThrowawayError`]. A server that is missing is an error, never a reason to skip a test.
    pub async fn start(options: &FindOptions) -> Result<Self, ThrowawayError> {
        let dir = tempfile::tempdir().map_err(ThrowawayError::Dir)?;
        Self::start_in(options, dir, |_, _| {}).await
    }

    /// Starts both with their files in a directory, and with further options.
    ///
    /// # Errors
    /// See [`ThrowawayError`].
    pub async fn start_in(
        options: &FindOptions,
        dir: TempDir,
        change: impl FnOnce(&mut NatsOptions, &mut MongoOptions),
    ) -> Result<Self, ThrowawayError> {
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

    /// Where everything is kept.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}
