//! A concept's state in MongoDB: what every concept does alike with it.
//!
//! Every write of a concept is one atomic operation on one document, majority and journaled, stamped with the action's id. A stamp is never overwritten by a later action,
//! and it outlives the log, so that a redelivery finds what the first delivery did (`docs/delivery.md`).

mod lookups;

use std::time::Duration;

pub use concert_runtime::mongodb::{Index, StoreArgs, StoreError, connect, index, is_duplicate, now};
use concert_wire::id::ActionId;
use mongodb::bson::{Bson, DateTime, Document, doc};
use mongodb::error::Error;

pub use self::lookups::Lookups;
use crate::{Failure, part};

/// What a stamp outlives the log by: a flow of a repeatable request is told to be older than the log up to a day late, and an hour covers clocks.
const STAMP_MARGIN: Duration = Duration::from_secs(25 * 3600);

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
