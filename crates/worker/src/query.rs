//! Runs a query, from the bytes of its input to its rows.

use std::time::Duration;

use concert_lang::spec;
use concert_wire::id::FlowId;
use concert_wire::seal::{SealError, Sealer};
use concert_wire::value;

use crate::concept::{Concept, Failure, Query, Rows};
use crate::sealing;
use crate::stopwatch::Stopwatch;

/// Reason why a query has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueryError {
    /// The input is invalid; a retry does not help.
    #[error("{0}")]
    Invalid(String),
    /// The worker has a bug: its handler panics, or its result does not fit the spec. A retry does
    /// not help.
    #[error("{0}")]
    Broken(String),
    /// A secret of the input is sealed under a key that this process does not have yet.
    #[error("{}", SealError::UnknownKey)]
    Locked,
    /// A retry may help.
    #[error("{0}")]
    Unavailable(String),
}

/// Runs a query of a concept: decrypts the secrets that are sealed for this flow, checks input and
/// rows against the spec, and seals the secrets in the rows.
///
/// A secret in clear is passed to the handler unchanged. The handler runs on a separate task, which
/// contains its panics; its parts are recorded.
pub(crate) async fn ask(
    concept: &Concept,
    sealer: &Sealer,
    flow: FlowId,
    name: &str,
    input: &[u8],
    within: Duration,
    watch: &Stopwatch,
) -> Result<Rows, QueryError> {
    let (spec, handler) = concept
        .query(name)
        .ok_or_else(|| QueryError::Invalid(format!("{} has no query `{name}`", concept.name)))?;
    let input = value::object(input).map_err(|error| QueryError::Invalid(error.to_string()))?;
    let opened = sealing::open(sealer, flow, &spec.input, &input).map_err(|error| match error {
        SealError::UnknownKey => QueryError::Locked,
        SealError::Form | SealError::Broken => QueryError::Invalid(error.to_string()),
    })?;
    spec::check_input(&spec.input, &opened)
        .map_err(|mistakes| QueryError::Invalid(mistakes.to_string()))?;
    let mut optional = spec.input.params.iter().filter(|param| param.optional);
    let lacks_optional = optional.any(|param| !opened.contains_key(&*param.name));
    let running = tokio::spawn(watch.clone().over(handler(Query { input: opened })));
    let abort = running.abort_handle();
    let mut rows = match tokio::time::timeout(within, running).await {
        Ok(Ok(Ok(rows))) => rows,
        // A handler that requires an optional key finds no row for an input without it.
        Ok(Ok(Err(Failure::Unreadable(_)))) if lacks_optional && spec.rows != spec::Rows::One => {
            Vec::new()
        }
        Ok(Ok(Err(Failure::Mismatch(why) | Failure::Unreadable(why)))) => {
            return Err(QueryError::Broken(format!("cannot run {name}: {why}")));
        }
        Ok(Ok(Err(failure))) => return Err(QueryError::Unavailable(failure.to_string())),
        Ok(Err(panicked)) => {
            return Err(QueryError::Broken(format!("the handler of {name} panicked: {panicked}")));
        }
        Err(_) => {
            abort.abort();
            return Err(QueryError::Unavailable(format!("{name} has no result yet")));
        }
    };
    spec::check_rows(spec, &rows).map_err(QueryError::Broken)?;
    for row in &mut rows {
        sealing::seal(sealer, flow, &spec.output, row);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests;
