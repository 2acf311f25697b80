//! A database whose connection follows the keys of its user.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use mongodb::{Collection, Database};

use super::{StoreArgs, StoreError, open, open_with};
use crate::keys::{self, KeyError};
use crate::process::Shutdown;

/// Interval between reads of the key file.
const READ_INTERVAL: Duration = Duration::from_secs(1);

/// The database of a concept. When another key of its user becomes the current one, it connects
/// again, so a rotation needs no restart.
#[derive(Debug, Clone)]
pub struct LiveDatabase(Arc<RwLock<Database>>);

impl From<Database> for LiveDatabase {
    fn from(database: Database) -> Self {
        Self(Arc::new(RwLock::new(database)))
    }
}

impl LiveDatabase {
    /// Connects to the database of a concept, waits until the server responds, and follows the keys
    /// until shutdown.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn connect<'a>(
        args: &'a StoreArgs,
        concept: &'a str,
        shutdown: &'a Shutdown,
    ) -> BoxFuture<'a, Result<Self, StoreError>> {
        Box::pin(async move {
            let (database, key) = open(args, concept).await?;
            let live = Self::from(database);
            if let Some(key) = key {
                let follower = Follower { args: args.clone(), concept: concept.to_owned(), key };
                let (followed, ended) = (live.clone(), shutdown.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = follower.run(&followed) => {}
                        () = ended.requested() => {}
                    }
                });
            }
            Ok(live)
        })
    }

    /// The database on the current connection.
    pub fn now(&self) -> Database {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A collection on the current connection. Do not keep it: a later connection may replace this
    /// one.
    pub fn collection<T: Send + Sync>(&self, name: &str) -> Collection<T> {
        self.now().collection(name)
    }
}

struct Follower {
    args: StoreArgs,
    concept: String,
    /// Id of the key of the current connection.
    key: String,
}

impl Follower {
    /// Connects again whenever another key is the current one. Keeps the connection as long as the
    /// server has no user for that key.
    async fn run(mut self, live: &LiveDatabase) {
        let mut logged = None;
        loop {
            tokio::time::sleep(READ_INTERVAL).await;
            let problem = match self.current() {
                Ok(None) => None,
                Ok(Some(key)) => match open_with(&self.args, &self.concept, &key).await {
                    Ok(database) => {
                        *live.0.write().unwrap_or_else(PoisonError::into_inner) = database;
                        key.id().clone_into(&mut self.key);
                        let (concept, key) = (&self.concept, &self.key);
                        tracing::info!(concept, key, "connected to MongoDB with the current key");
                        None
                    }
                    Err(error) => Some(error.to_string()),
                },
                Err(error) => Some(error.to_string()),
            };
            if problem.is_some() && problem != logged {
                tracing::warn!(
                    concept = self.concept,
                    error = problem,
                    "cannot use the current key of the MongoDB user; the previous one stays in use"
                );
            }
            logged = problem;
        }
    }

    /// The current key of the file, if it is not that of the connection.
    fn current(&self) -> Result<Option<concert_wire::keyring::Key>, KeyError> {
        let Some(keys_dir) = &self.args.keys_dir else { return Ok(None) };
        let keys = keys::load_database(keys_dir, &self.concept.to_lowercase())?;
        Ok(Some(keys.current().clone()).filter(|key| key.id() != self.key))
    }
}
