//! Connection to MongoDB. The archive and each concept have their own connection and database.
//!
//! Every write waits for a majority of the members and for the journal.

mod live;
mod users;

use std::path::PathBuf;
use std::sync::Once;
use std::time::Duration;

use concert_wire::keyring::Key;
use futures_util::future::BoxFuture;
use mongodb::bson::{DateTime, Document, doc};
use mongodb::error::{Error, ErrorKind, WriteFailure};
use mongodb::options::{
    Acknowledgment, ClientOptions, IndexOptions, ReadConcern, ReadPreference, WriteConcern,
};
use mongodb::{Client, Collection, Database, IndexModel};

pub use self::live::LiveDatabase;
pub use self::users::{UsersError, apply as apply_users};
use crate::clock;
use crate::keys::{self, KeyError};

/// Address of the MongoDB replica set, and settings of the connection.
#[derive(Debug, Clone)]
pub struct StoreArgs {
    /// URI of the MongoDB replica set (which may have only one member).
    pub mongodb_uri: String,
    /// Prefix of each concept's database; `_` and the concept's name in lower case follow.
    pub database_prefix: String,
    /// Maximum number of connections of each worker.
    pub database_connections: u32,
    /// Directory of the keys, if the server has a user for each concept; otherwise the credentials
    /// of the URI are used.
    pub keys_dir: Option<PathBuf>,
}

/// Error of the connection or of an index.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URI is invalid. The message does not contain it, because it may contain a password.
    #[error("the MongoDB URI (mongodb.uri, MONGODB_URI) is invalid: {0}")]
    Uri(Error),
    /// The server does not respond.
    #[error("cannot connect to MongoDB: {0}; {remedy}", remedy = remedy(&.0.to_string()))]
    Unreachable(Error),
    /// The keys of the user cannot be read.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The server has no user for any of the keys.
    #[error(
        "MongoDB rejects all keys of the user `{user}`; run `concert setup` to create the users"
    )]
    Rejected {
        /// Owner of the keys.
        user: String,
        /// Last response of the server.
        source: Option<Error>,
    },
    /// An index cannot be created.
    #[error("cannot create the index {name}: {source}")]
    Index {
        /// The index.
        name: String,
        /// Cause.
        source: Error,
    },
}

/// Timeout of the server selection of an operation.
const SERVER_SELECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of the first connection. Servers and processes start at the same time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Connects to the database of a concept, and waits until the server responds.
///
/// # Errors
/// See [`StoreError`].
pub fn connect<'a>(
    args: &'a StoreArgs,
    concept: &'a str,
) -> BoxFuture<'a, Result<Database, StoreError>> {
    Box::pin(async move { open(args, concept).await.map(|(database, _)| database) })
}

/// Connects, and returns the id of the key that the server accepted, if it has users.
async fn open(args: &StoreArgs, concept: &str) -> Result<(Database, Option<String>), StoreError> {
    let owner = concept.to_lowercase();
    let Some(keys_dir) = &args.keys_dir else {
        let name = database_name(args, &owner);
        return Ok((reach(options(args, concept).await?, &name).await?, None));
    };
    // During a rotation, the server may not have the user of every key.
    let keys = keys::load_database(keys_dir, &owner)?;
    let mut rejected = None;
    for key in keys.keys() {
        match open_with(args, concept, key).await {
            Err(StoreError::Unreachable(error)) if users::is_rejected(&error) => {
                rejected = Some(error);
            }
            connected => return Ok((connected?, Some(key.id().to_owned()))),
        }
    }
    Err(StoreError::Rejected { user: owner, source: rejected })
}

/// Connects as the user of this key.
async fn open_with(args: &StoreArgs, concept: &str, key: &Key) -> Result<Database, StoreError> {
    let mut options = options(args, concept).await?;
    let owner = concept.to_lowercase();
    let name = database_name(args, &owner);
    options.credential = Some(users::credential(&name, &owner, key));
    reach(options, &name).await
}

fn database_name(args: &StoreArgs, owner: &str) -> String {
    format!("{}_{owner}", args.database_prefix)
}

async fn options(args: &StoreArgs, concept: &str) -> Result<ClientOptions, StoreError> {
    let mut options = ClientOptions::parse(&args.mongodb_uri).await.map_err(StoreError::Uri)?;
    // Decisions depend on reads, and a secondary may lag behind, so the URI must not choose one.
    options.selection_criteria = Some(ReadPreference::Primary.into());
    options.app_name = Some(format!("concert-{}", concept.to_lowercase()));
    options.server_selection_timeout = Some(SERVER_SELECTION_TIMEOUT);
    options.max_pool_size = Some(args.database_connections);
    options.read_concern = Some(ReadConcern::majority());
    options.write_concern =
        Some(WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build());
    // The redelivered message repeats a failed write; the driver's own retries would cost the
    // server a record of each write.
    options.retry_writes = Some(false);
    Ok(options)
}

async fn reach(options: ClientOptions, name: &str) -> Result<Database, StoreError> {
    let client = Client::with_options(options).map_err(StoreError::Uri)?;
    let database = client.database(name);
    let started = tokio::time::Instant::now();
    while let Err(error) = database.run_command(doc! { "ping": 1 }).await {
        if started.elapsed() > CONNECT_TIMEOUT || users::is_rejected(&error) {
            return Err(StoreError::Unreachable(error));
        }
        // All workers of a process wait for the same server.
        static WAITING: Once = Once::new();
        WAITING.call_once(|| {
            let seconds = CONNECT_TIMEOUT.as_secs();
            tracing::warn!(%error, "MongoDB is not available yet; waiting up to {seconds} s");
        });
    }
    Ok(database)
}

/// What to do about this error of a connection.
fn remedy(error: &str) -> &'static str {
    // The driver's name for a server that is started with `--replSet`, but not initiated.
    if error.contains("RsGhost") {
        "initiate its replica set: run `rs.initiate()` in mongosh"
    } else {
        "check that MongoDB runs and that the URI is right"
    }
}

/// Current time, as a BSON date.
pub fn now() -> DateTime {
    DateTime::from_millis(i64::try_from(clock::now_ms()).unwrap_or(i64::MAX))
}

/// Kind of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Index {
    /// Each value occurs in at most one document; documents without the field do not count.
    Unique,
    /// Finds documents by a value.
    Lookup,
    /// Deletes documents after the date in the field.
    Expiry,
}

/// Creates an index on several fields, if it is missing. Each has its direction, 1 or -1.
///
/// # Errors
/// The server rejects the request.
pub async fn compound_index<T: Send + Sync>(
    collection: &Collection<T>,
    keys: Document,
) -> Result<(), StoreError> {
    let name =
        format!("{}.{}", collection.name(), keys.keys().cloned().collect::<Vec<_>>().join("_"));
    let model = IndexModel::builder().keys(keys).build();
    create(collection.clone_with_type(), name, model).await
}

fn create(
    collection: Collection<Document>,
    name: String,
    model: IndexModel,
) -> BoxFuture<'static, Result<(), StoreError>> {
    Box::pin(async move {
        let created = collection.create_index(model).await;
        created.map(drop).map_err(|source| StoreError::Index { name, source })
    })
}

/// Creates an index on one field if it is missing.
///
/// # Errors
/// The server rejects the request.
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
    create(collection.clone_with_type(), format!("{}.{field}", collection.name()), model).await
}

/// Error code of a write whose unique value already exists.
pub const DUPLICATE_KEY: i32 = 11000;

/// Returns whether a write was rejected because a unique value already exists.
pub fn is_duplicate(error: &Error) -> bool {
    match &*error.kind {
        ErrorKind::Write(WriteFailure::WriteError(write)) => write.code == DUPLICATE_KEY,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reads_use_the_primary_regardless_of_the_uri() {
        for query in ["readPreference=secondaryPreferred", "readPreference=nearest", ""] {
            let args = StoreArgs {
                mongodb_uri: format!("mongodb://127.0.0.1:1/?{query}"),
                database_prefix: "test".to_owned(),
                database_connections: 1,
                keys_dir: None,
            };
            let criteria = options(&args, "Profile").await.unwrap().selection_criteria;
            assert_eq!(criteria, Some(ReadPreference::Primary.into()), "{query}");
        }
    }

    /// A name of the top-level domain `invalid` has no records, with any resolver.
    #[tokio::test]
    async fn hosts_of_a_srv_uri_are_looked_up() {
        let args = StoreArgs {
            mongodb_uri: "mongodb+srv://cluster.concert.invalid/?tls=false".to_owned(),
            database_prefix: "test".to_owned(),
            database_connections: 1,
            keys_dir: None,
        };
        let error = options(&args, "Profile").await.unwrap_err();
        let StoreError::Uri(source) = &error else { panic!("{error}") };
        assert!(matches!(&*source.kind, ErrorKind::DnsResolve { .. }), "{error}");
    }
}
