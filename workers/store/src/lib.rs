//! A concept's state in MongoDB: the connection, and what every concept does alike with it.
//!
//! Every write of a concept is one atomic operation on one document, majority and journaled, stamped with the action's id. A stamp is never overwritten by a later action,
//! and it outlives the log, so that a redelivery finds what the first delivery did (`docs/delivery.md`).

mod lookups;

use std::time::Duration;

use clap::Args;
use concert_host::setting::within;
use concert_host::{Failure, part};
use concert_wire::id::ActionId;
use mongodb::bson::{Bson, DateTime, Document, doc};
use mongodb::error::{Error, ErrorKind, WriteFailure};
use mongodb::options::{Acknowledgment, ClientOptions, IndexOptions, ReadConcern, WriteConcern};
use mongodb::{Client, Collection, Database, IndexModel};

pub use self::lookups::Lookups;

/// Where the state is.
#[derive(Debug, Clone, Args)]
pub struct StoreArgs {
    /// The MongoDB replica set (one member is enough).
    #[arg(
        long,
        env = "MONGODB_URI",
        default_value = "mongodb://127.0.0.1:27017/?directConnection=true",
        value_name = "URI",
        hide_env_values = true
    )]
    pub mongodb_uri: String,
    /// Each concept has a database of its own: this, `_`, and its name in lower case.
    #[arg(
        long,
        env = "CONCERT_DATABASE_PREFIX",
        default_value = "concert",
        value_name = "NAME"
    )]
    pub database_prefix: String,
    /// Connections to the database at most, for each worker.
    #[arg(long, env = "CONCERT_DATABASE_CONNECTIONS", default_value_t = 32, value_name = "N", value_parser = within(1..=10_000_u32))]
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
/// What a stamp outlives the log by: a flow of a repeatable request is told to be older than the log up to a day late, and an hour covers clocks.
const STAMP_MARGIN: Duration = Duration::from_secs(25 * 3600);

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
    options.write_concern = Some(
        WriteConcern::builder()
            .w(Acknowledgment::Majority)
            .journal(true)
            .build(),
    );
    // Every write here is made to be repeated, by the message that asked for it; the driver's own retries would cost the server a record of each.
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
    DateTime::from_millis(i64::try_from(concert_host::now_ms()).unwrap_or(i64::MAX))
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
pub async fn index<T: Send + Sync>(collection: &Collection<T>, field: &str, index: Index) -> Result<(), StoreError> {
    let options = match index {
        Index::Unique => IndexOptions::builder().unique(true).sparse(true).build(),
        Index::Lookup => IndexOptions::default(),
        Index::Expiry => IndexOptions::builder().expire_after(Duration::ZERO).build(),
    };
    let model = IndexModel::builder().keys(doc! { field: 1 }).options(options).build();
    collection
        .create_index(model)
        .await
        .map(|_| ())
        .map_err(|source| StoreError::Index {
            name: format!("{}.{field}", collection.name()),
            source,
        })
}

/// What the operations of a handler are told as.
pub mod operation {
    /// Documents were looked for.
    pub const FIND: &str = "mongodb.find";
    /// A document was inserted.
    pub const INSERT: &str = "mongodb.insert";
    /// Documents were changed.
    pub const UPDATE: &str = "mongodb.update";
}

/// Carries out an operation of a handler, whose time is noted under this name (see [`operation`]).
///
/// # Errors
/// See [`unavailable`].
pub async fn run<T>(name: &'static str, doing: impl IntoFuture<Output = Result<T, Error>>) -> Result<T, Failure> {
    part(name, doing).await.map_err(unavailable)
}

/// A database error within a handler. Every one of them is worth another attempt: what was asked for was checked before.
pub fn unavailable(error: Error) -> Failure {
    Failure::retry(because(error))
}

/// What is said of MongoDB.
fn because(error: impl std::fmt::Display) -> String {
    format!("MongoDB: {error}")
}

/// Whether a write was refused because a unique value is taken.
pub fn is_duplicate(error: &Error) -> bool {
    const DUPLICATE_KEY: i32 = 11000;
    matches!(&*error.kind, ErrorKind::Write(WriteFailure::WriteError(write)) if write.code == DUPLICATE_KEY)
}

/// For how long stamps and tombstones are kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention(Duration);

impl Retention {
    /// What follows from the age that a completion reaches in the log at most.
    pub fn of_log(max_age: Duration) -> Self {
        Self(max_age + STAMP_MARGIN)
    }

    /// When something that ends at `from` may be forgotten.
    pub fn until(self, from: DateTime) -> DateTime {
        from.saturating_add_duration(self.0)
    }

    /// The `$set` stage that adds the stamp of a change to the document's list `changes` and drops those that are too old; earlier stamps stay.
    pub fn stamp(self, action: ActionId, at: DateTime) -> Document {
        let oldest = DateTime::from_millis(
            at.timestamp_millis()
                .saturating_sub(i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)),
        );
        let kept =
            doc! { "$filter": { "input": { "$ifNull": ["$changes", []] }, "cond": { "$gte": ["$$this.at", oldest] } } };
        doc! { "changes": { "$concatArrays": [kept, [{ "action": stamp(action), "at": at }]] } }
    }
}

/// An action's id as it stands in a document.
pub fn stamp(action: ActionId) -> Bson {
    Bson::String(action.to_string())
}
