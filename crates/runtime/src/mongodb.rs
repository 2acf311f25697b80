//! The connection to MongoDB that the archive and each concept have, each to its own database.
//!
//! Every write waits for a majority and the journal.

use std::time::Duration;

use mongodb::bson::{DateTime, doc};
use mongodb::error::{Error, ErrorKind, WriteFailure};
use mongodb::options::{Acknowledgment, ClientOptions, IndexOptions, ReadConcern, WriteConcern};
use mongodb::{Client, Collection, Database, IndexModel};

use crate::clock;

/// Where the state is.
#[derive(Debug, Clone)]
pub struct StoreArgs {
    /// The MongoDB replica set (one member is enough).
    pub mongodb_uri: String,
    /// The prefix of each concept's database; `_` and the concept's name in lower case follow.
    pub database_prefix: String,
    /// Maximum number of connections of each worker.
    pub database_connections: u32,
}

/// The database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URI cannot be read. It is not repeated, since it may hold a password.
    #[error("MONGODB_URI cannot be read: {0}")]
    Uri(Error),
    /// The server does not answer.
    #[error("MongoDB cannot be reached: {0}")]
    Unreachable(Error),
    /// An index cannot be made.
    #[error("the index {name} cannot be made: {source}")]
    Index {
        /// The index.
        name: String,
        /// Why not.
        source: Error,
    },
}

/// How long an operation looks for a server.
const SERVER_SELECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the first connection is tried, since servers and processes start together.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);
/// Connects to the database of a concept and waits until its server answers.
///
/// # Errors
/// See [`StoreError`].
pub async fn connect(args: &StoreArgs, concept: &str) -> Result<Database, StoreError> {
    let mut options = ClientOptions::parse(&args.mongodb_uri).await.map_err(StoreError::Uri)?;
    options.app_name = Some(format!("concert-{}", concept.to_lowercase()));
    options.server_selection_timeout = Some(SERVER_SELECTION_TIMEOUT);
    options.max_pool_size = Some(args.database_connections);
    options.read_concern = Some(ReadConcern::majority());
    options.write_concern =
        Some(WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build());
    // Every write here is made to be repeated, by the message that asked for it; the driver's own
    // retries would cost the server a record of each.
    options.retry_writes = Some(false);
    let client = Client::with_options(options).map_err(StoreError::Uri)?;
    let database = client.database(&format!("{}_{}", args.database_prefix, concept.to_lowercase()));
    let started = tokio::time::Instant::now();
    while let Err(error) = database.run_command(doc! { "ping": 1 }).await {
        if started.elapsed() > CONNECT_PATIENCE {
            return Err(StoreError::Unreachable(error));
        }
        tracing::debug!(%error, "MongoDB is not there yet");
    }
    Ok(database)
}

/// The time, as it stands in documents.
pub fn now() -> DateTime {
    DateTime::from_millis(i64::try_from(clock::now_ms()).unwrap_or(i64::MAX))
}

/// What an index is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Index {
    /// At most one document has a value; documents without the field do not count.
    Unique,
    /// Documents are looked for by a value.
    Lookup,
    /// Documents go when the date in the field has passed.
    Expiry,
}

/// Makes an index on one field where it is missing.
///
/// # Errors
/// The server refuses.
pub async fn index<T: Send + Sync>(
    collection: &Collection<T>,
    field: &str,
    index: Index,
) -> Result<(), StoreError> {
    let options = match index {
        Index::Unique => IndexOptions::builder().unique(true).sparse(true).build(),
        Index::Lookup => IndexOptions::default(),
        Index::Expiry => IndexOptions::builder().expire_after(Duration::ZERO).build(),
    };
    let model = IndexModel::builder().keys(doc! { field: 1 }).options(options).build();
    collection.create_index(model).await.map(|_| ()).map_err(|source| StoreError::Index {
        name: format!("{}.{field}", collection.name()),
        source,
    })
}

/// Whether a write was refused because a unique value is taken.
pub fn is_duplicate(error: &Error) -> bool {
    const DUPLICATE_KEY: i32 = 11000;
    matches!(&*error.kind, ErrorKind::Write(WriteFailure::WriteError(write)) if write.code == DUPLICATE_KEY)
}
