//! Database operations of a handler. They are timed, and their errors become retries.

use mongodb::error::Error;

use crate::call::{Stop, retry};
use crate::part;

/// Names of the timed operations.
pub(super) const FIND: &str = "mongodb.find";
pub(super) const INSERT: &str = "mongodb.insert";
pub(super) const UPDATE: &str = "mongodb.update";
pub(super) const COUNT: &str = "mongodb.count";
pub(super) const DISTINCT: &str = "mongodb.distinct";

/// Runs an operation, and records its duration under this name.
pub(super) async fn run<T>(
    name: &'static str,
    doing: impl IntoFuture<Output = Result<T, Error>>,
) -> Result<T, Stop> {
    part(name, doing).await.map_err(unavailable)
}

/// Converts a database error. Every database error is retried: the input fits the spec, so the
/// database is assumed to be the cause.
pub(super) fn unavailable(error: Error) -> Stop {
    retry(because(error))
}

/// A document that does not fit its type.
pub(super) fn unfit(error: &dyn std::fmt::Display) -> Stop {
    retry(format!("cannot read or write a stored document: {error}"))
}

pub(super) fn because(error: impl std::fmt::Display) -> String {
    format!("MongoDB: {error}")
}
