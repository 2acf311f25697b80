//! Runs a query, from its input to its rows.

use std::time::Duration;

use concert_lang::spec;
use concert_wire::envelope::Object;
use concert_wire::id::FlowId;
use concert_wire::large;
use concert_wire::seal::{SealError, Sealer};
use tokio_util::task::AbortOnDropHandle;

use crate::concept::{Concept, Failure, Query, Rows};
use crate::large::{LargeError, LargeRows, LargeValues, Resolved};
use crate::outcome::FORGED_REFERENCE;
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
    /// A large value of the input is no longer stored.
    #[error("{}", LargeError::Expired)]
    Expired,
    /// A retry may help.
    #[error("{0}")]
    Unavailable(String),
}

impl From<LargeError> for QueryError {
    fn from(error: LargeError) -> Self {
        match error {
            LargeError::Expired => Self::Expired,
            LargeError::OverBudget { .. } => Self::Invalid(error.to_string()),
            LargeError::Broken(_) => Self::Broken(error.to_string()),
            LargeError::Unavailable(_) => Self::Unavailable(error.to_string()),
        }
    }
}

/// The concept of a query, and its flow.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) concept: &'a Concept,
    pub(crate) sealer: &'a Sealer,
    /// `None` for a manual request, whose values are not stored beside the log.
    pub(crate) large: Option<&'a LargeValues>,
    pub(crate) flow: FlowId,
}

/// Runs a query of a concept: decrypts the secrets that are sealed for this flow, checks input and
/// rows against the spec, and seals the secrets in the rows.
///
/// A secret in clear is passed to the handler unchanged. Large values are read before it and stored
/// after it. The handler runs on a separate task, which contains its panics; its parts are
/// recorded.
pub(crate) async fn ask(
    context: Context<'_>,
    name: &str,
    input: Object,
    within: Duration,
    watch: &Stopwatch,
) -> Result<Rows, QueryError> {
    let late = |_| QueryError::Unavailable(format!("{name} has no result yet"));
    tokio::time::timeout(within, run(context, name, input, watch)).await.map_err(late)?
}

async fn run(
    Context { concept, sealer, large, flow }: Context<'_>,
    name: &str,
    input: Object,
    watch: &Stopwatch,
) -> Result<Rows, QueryError> {
    let (spec, handler) = concept
        .query(name)
        .ok_or_else(|| QueryError::Invalid(format!("{} has no query `{name}`", concept.name)))?;
    let opened = sealing::open(sealer, flow, &spec.input, &input).map_err(|error| match error {
        SealError::UnknownKey => QueryError::Locked,
        SealError::Form | SealError::Broken => QueryError::Invalid(error.to_string()),
    })?;
    spec::check_input(&spec.input, &opened)
        .map_err(|mistakes| QueryError::Invalid(mistakes.to_string()))?;
    let mut optional = spec.input.params.iter().filter(|param| param.optional);
    let lacks_optional = optional.any(|param| !opened.contains_key(&*param.name));
    let Resolved { input: opened, budget } = match large {
        Some(large) => large.resolve(opened).await?,
        None if large::is_in(&opened) => {
            return Err(QueryError::Invalid(large::NOT_ACCEPTED.to_owned()));
        }
        None => Resolved { input: opened, budget: None },
    };
    if budget.is_some() {
        spec::check_input(&spec.input, &opened)
            .map_err(|mistakes| QueryError::Invalid(mistakes.to_string()))?;
    }
    let given = LargeRows::new(large);
    let query = Query { input: opened, large: given.clone() };
    let running = watch.clone().over(handler(query));
    let mut rows = match AbortOnDropHandle::new(tokio::spawn(running)).await {
        Ok(Ok(rows)) => rows,
        // A handler that requires an optional key finds no row for an input without it.
        Ok(Err(Failure::Unreadable(_))) if lacks_optional && spec.rows != spec::Rows::One => {
            Vec::new()
        }
        Ok(Err(Failure::Mismatch(why) | Failure::Unreadable(why))) => {
            return Err(QueryError::Broken(format!("cannot run {name}: {why}")));
        }
        Ok(Err(failure)) => return Err(QueryError::Unavailable(failure.to_string())),
        Err(panicked) => {
            return Err(QueryError::Broken(format!("the handler of {name} panicked: {panicked}")));
        }
    };
    drop(budget);
    if rows.iter().any(|row| given.holds_forged(row)) {
        return Err(QueryError::Broken(FORGED_REFERENCE.to_owned()));
    }
    spec::check_rows(spec, &rows).map_err(QueryError::Broken)?;
    for row in &mut rows {
        sealing::seal(sealer, flow, &spec.output, row);
        if let Some(large) = large {
            large.store(row).await?;
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests;
