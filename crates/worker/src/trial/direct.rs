//! Opens a state and builds calls without a host, for tests of single methods.

use std::path::PathBuf;

use concert_local_servers::{FindOptions, TestServers};
use concert_runtime::process::Shutdown;
use concert_runtime::streams::LogLimits;
use concert_wire::client::ClientTag;
use concert_wire::id::FlowId;
use concert_wire::name::ConceptName;
use mongodb::Collection;
use mongodb::bson::Document;
use serde_json::Value;
use uuid::Uuid;

use super::{Trial, TrialError, bus, store_args};
use crate::large::LargeRows;
use crate::start::{Environment, Options, Start};
use crate::store::{Import, ImportReport, StoreArgs};
use crate::{Call, HostLimits, Query, store};

/// Temporary servers without a host. Dropping this stops them.
pub struct Bench {
    concept: ConceptName,
    store: StoreArgs,
    servers: TestServers,
}

impl Bench {
    /// Starts servers for a concept.
    ///
    /// # Errors
    /// A server does not start.
    pub async fn of(concept: &str) -> Result<Self, TrialError> {
        let servers = TestServers::start(&FindOptions::of_user()?).await?;
        Ok(Self { concept: concept.parse().map_err(bus)?, store: store_args(&servers), servers })
    }

    /// The environment for opening a state.
    pub fn start<T>(&self, settings: T) -> Start<T> {
        let keys_dir = self.servers.dir().to_owned();
        let options = options(keys_dir, Some(self.store.clone()), Value::Null);
        Start { settings, environment: Environment::new(self.concept.clone(), &[], &options) }
    }

    /// A collection of the concept in MongoDB.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn collection(&self, name: &str) -> Result<Collection<Document>, TrialError> {
        let database = store::connect(&self.store, self.concept.as_str()).await?;
        Ok(database.collection(name))
    }
}

impl Trial {
    /// Imports documents of another system while the worker runs.
    ///
    /// # Errors
    /// The state cannot be opened, or a database fails.
    pub async fn import(&self, import: Import) -> Result<ImportReport, TrialError> {
        Ok(self.worker.import(self.options.clone(), import).await?)
    }
}

impl<I> Call<I> {
    /// A call without a log; all of its permits are granted.
    pub fn direct(client: Option<ClientTag>, input: I) -> Self {
        Self::without_log(FlowId::new(Uuid::now_v7()), client, input)
    }
}

impl<I> Query<I> {
    /// A manual request.
    pub fn direct(input: I) -> Self {
        Self { input, large: LargeRows::default() }
    }
}

/// The program's default options.
pub(super) fn options(keys_dir: PathBuf, store: Option<StoreArgs>, settings: Value) -> Options {
    Options {
        store,
        keys_dir,
        host: HostLimits::default(),
        log: LogLimits::default(),
        settings,
        shutdown: Shutdown::new(),
    }
}
