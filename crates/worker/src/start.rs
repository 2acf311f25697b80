//! Environment for starting a worker and opening its state.

use std::path::PathBuf;
use std::time::Duration;

use concert_runtime::keys::{self, KeyError, Purpose};
use concert_runtime::mongodb::LiveDatabase;
use concert_runtime::process::Shutdown;
use concert_runtime::streams::LogLimits;
use concert_wire::keyring::LiveKeyring;
use concert_wire::name::ConceptName;
use concert_wire::seal::Sealer;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::define::Mismatch;
use crate::store::{OpenDocuments, Retention, StoreArgs, StoreError};
use crate::worker::{self, HostLimits};

/// Options of a worker, in addition to its connection to the bus.
#[derive(Debug, Clone)]
pub struct Options {
    /// The database; a worker without documents needs none.
    pub store: Option<StoreArgs>,
    /// The directory of the key files.
    pub keys_dir: PathBuf,
    /// The limits of the host.
    pub host: HostLimits,
    /// The limits of the log.
    pub log: LogLimits,
    /// The worker's own settings, as a JSON object; `null` is an empty one.
    pub settings: Value,
    /// Stops the worker.
    pub shutdown: Shutdown,
}

impl Options {
    /// Decrypts and encrypts secrets.
    pub(crate) fn sealer(&self) -> Result<Sealer, KeyError> {
        keys::watch(&self.keys_dir, Purpose::Seal, &self.shutdown).map(Sealer::new)
    }
}

/// Reason why a worker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The spec and the handlers differ.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// The settings are invalid.
    #[error("invalid settings: {0}")]
    Settings(String),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The worker stores documents and has no database.
    #[error("the worker stores documents, and no database is configured; set MONGODB_URI")]
    NoStore,
    /// A key file cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// A key that the definition does not name.
    #[error("the key `{0}` is not declared; add it with .keys(&[\"{0}\"])")]
    UnknownKey(String),
    /// A reason of the concept.
    #[error(transparent)]
    Concept(Box<dyn std::error::Error + Send + Sync>),
    /// The host does not start.
    #[error(transparent)]
    Host(#[from] worker::StartError),
}

impl StartError {
    /// Wraps a reason of the concept.
    pub fn concept(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Concept(why.into())
    }
}

/// Environment for opening a state.
pub struct Start<T> {
    /// The worker's settings.
    pub settings: T,
    pub(crate) environment: Environment,
}

impl<T> Start<T> {
    /// A collection of documents in the concept's own database; see [`OpenDocuments`].
    pub fn documents<D, I>(&self, collection: &str) -> OpenDocuments<'_, D, I> {
        OpenDocuments::new(&self.environment, collection)
    }

    /// Encrypts values of a flow, as in the log. Its keys are destroyed soon after the log has lost
    /// the flow.
    ///
    /// # Errors
    /// The key file cannot be read.
    pub fn sealer(&self) -> Result<Sealer, StartError> {
        let Environment { keys_dir, shutdown, .. } = &self.environment;
        Ok(keys::watch(keys_dir, Purpose::Seal, shutdown).map(Sealer::new)?)
    }

    /// The keys of this name. They are reloaded when their file changes.
    ///
    /// # Errors
    /// The definition does not name them, or the file cannot be read.
    pub fn keys(&self, name: &str) -> Result<LiveKeyring, StartError> {
        let environment = &self.environment;
        if !environment.keys.contains(&name) {
            return Err(StartError::UnknownKey(name.to_owned()));
        }
        let purpose = Purpose::Concept(name.to_owned());
        Ok(keys::watch(&environment.keys_dir, purpose, &environment.shutdown)?)
    }
}

/// Environment of a worker, independent of its types.
pub(crate) struct Environment {
    concept: ConceptName,
    keys: &'static [&'static str],
    keys_dir: PathBuf,
    shutdown: Shutdown,
    store: Option<StoreArgs>,
    database: OnceCell<LiveDatabase>,
    pub(crate) retention: Retention,
    pub(crate) forgets_stamps: bool,
}

impl Environment {
    pub(crate) fn new(
        concept: ConceptName,
        keys: &'static [&'static str],
        options: &Options,
    ) -> Self {
        Self {
            concept,
            keys,
            keys_dir: options.keys_dir.clone(),
            shutdown: options.shutdown.clone(),
            store: options.store.clone(),
            database: OnceCell::new(),
            retention: Retention::of_log(Duration::from_secs(options.log.log_max_age_hours * 3600)),
            forgets_stamps: false,
        }
    }

    #[cfg(feature = "test-support")]
    pub(crate) fn forgetting_stamps(mut self, forgets_stamps: bool) -> Self {
        self.forgets_stamps = forgets_stamps;
        self
    }

    /// The concept's database; connects on first use.
    pub(crate) async fn database(&self) -> Result<&LiveDatabase, StartError> {
        let store = self.store.as_ref().ok_or(StartError::NoStore)?;
        let connect = LiveDatabase::connect(store, self.concept.as_str(), &self.shutdown);
        Ok(self.database.get_or_try_init(|| connect).await?)
    }
}
