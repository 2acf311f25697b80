//! A query, from the bytes of its input to its rows.

use std::time::Duration;

use concert_lang::spec;
use concert_wire::id::FlowId;
use concert_wire::seal::{SealError, Sealer};
use concert_wire::value;

use crate::concept::{Concept, Failure, Query, Rows};
use crate::sealing;
use crate::stopwatch::Stopwatch;

/// Why a query has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// The same input will never have one.
    #[error("{0}")]
    Invalid(String),
    /// The worker is at fault, and asking again is of no use: its handler panics, or answers
    /// against the spec.
    #[error("{0}")]
    Broken(String),
    /// A secret of the input is sealed under a key that this process does not have, or not yet.
    #[error("{}", SealError::UnknownKey)]
    Locked,
    /// It may have one later.
    #[error("{0}")]
    Unavailable(String),
}

/// Asks a query of a concept: opens the secrets that were sealed for this flow, holds input and
/// rows to the spec, and seals the secrets in the rows.
///
/// A secret in clear is taken as it is, whatever it is: that nobody has such a session is for the
/// handler to find out. The handler runs on a task of its own, so that its panic ends nothing else;
/// what it waits for is noted.
pub(crate) async fn ask(
    concept: &Concept,
    sealer: &Sealer,
    flow: FlowId,
    name: &str,
    input: &[u8],
    within: Duration,
    watch: &Stopwatch,
) -> Result<Rows, NoAnswer> {
    let (spec, handler) = concept
        .query(name)
        .ok_or_else(|| NoAnswer::Invalid(format!("{} has no query `{name}`", concept.name)))?;
    let input = value::object(input).map_err(|error| NoAnswer::Invalid(error.to_string()))?;
    let opened = sealing::open(sealer, flow, &spec.input, &input).map_err(|error| match error {
        SealError::UnknownKey => NoAnswer::Locked,
        SealError::Form | SealError::Broken => NoAnswer::Invalid(error.to_string()),
    })?;
    spec::check_input(&spec.input, &opened)
        .map_err(|mistakes| NoAnswer::Invalid(mistakes.to_string()))?;
    let running = tokio::spawn(watch.clone().over(handler(Query { input: opened })));
    let abort = running.abort_handle();
    let mut rows = match tokio::time::timeout(within, running).await {
        Ok(Ok(Ok(rows))) => rows,
        Ok(Ok(Err(Failure::Mismatch(why)))) => {
            return Err(NoAnswer::Broken(format!("{name} cannot be asked: {why}")));
        }
        Ok(Ok(Err(failure))) => return Err(NoAnswer::Unavailable(failure.to_string())),
        Ok(Err(panicked)) => {
            return Err(NoAnswer::Broken(format!(
                "the handler of {name} ended in disorder: {panicked}"
            )));
        }
        Err(_) => {
            abort.abort();
            return Err(NoAnswer::Unavailable(format!("{name} has no answer yet")));
        }
    };
    spec::check_rows(spec, &rows).map_err(NoAnswer::Broken)?;
    for row in &mut rows {
        sealing::seal(sealer, flow, &spec.output, row);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests;
