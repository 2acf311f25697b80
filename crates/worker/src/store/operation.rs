//! Operations of a handler on the database: timed, and their errors as a retry.

use mongodb::error::Error;

use crate::call::{Stop, retry};
use crate::part;

/// The names under which operations are timed.
pub(super) const FIND: &str = "mongodb.find";
pub(super) const INSERT: &str = "mongodb.insert";
pub(super) const UPDATE: &str = "mongodb.update";

/// Runs an operation, and notes its time under this name.
pub(super) async fn run<T>(
    name: &'static str,
    doing: impl IntoFuture<Output = Result<T, Error>>,
) -> Result<T, Stop> {
    part(name, doing).await.map_err(unavailable)
}

/// A database error. A retry helps with each of them: the input was checked before.
pub(super) fn unavailable(error: Error) -> Stop {
    retry(because(error))
}

/// A document that does not fit its type.
pub(super) fn unfit(error: &dyn std::fmt::Display) -> Stop {
    retry(format!("a stored document cannot be read or written: {error}"))
}

pub(super) fn because(error: impl std::fmt::Display) -> String {
    format!("MongoDB: {error}")
}
