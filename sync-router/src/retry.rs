//! Repeats the router's work for one completion, after its dead letter.

use std::time::Duration;

use concert_engine::{Effect, Engine, Event};
use concert_runtime::bus::Bus;
use concert_runtime::clock;
use concert_runtime::log::{self, ReadError};
use concert_runtime::streams::{self, LogLimits, SetupError};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use crate::active_rules::{ActiveRules, ActiveRulesError};
use crate::effects::{self, Performer};
use crate::queries::Queries;
use crate::run::RouterLimits;

/// Error of a retry of a completion.
#[derive(Debug, thiserror::Error)]
pub enum RetryError {
    /// The completion is no longer in the log.
    #[error("the completion is no longer in the log, so no rule can fire on it")]
    Missing,
    /// The completion cannot be decoded.
    #[error("the completion is invalid: {0}")]
    Invalid(String),
    /// The completion would be dead-lettered again.
    #[error("{0}")]
    DeadAgain(String),
    /// An effect of the completion failed.
    #[error("the rules cannot fire now; try again later")]
    Unavailable,
    /// The log is unreadable.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// A stream or bucket is missing.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The flow limits are unreadable.
    #[error(transparent)]
    Rules(#[from] ActiveRulesError),
}

/// Fires the rules on the completion with this subject, as the active router does. The ids of all
/// messages are derived from the log, so effects that exist already are not repeated.
///
/// # Errors
/// See [`RetryError`]. Another retry is safe.
pub async fn retry(bus: &Bus, subject: &str) -> Result<(), RetryError> {
    let stored = log::find(bus, subject).await?.ok_or(RetryError::Missing)?;
    let logged = effects::logged(stored.seq, subject, Some(&stored.headers), &stored.body)
        .map_err(RetryError::Invalid)?;
    let router = RouterLimits::default();
    let bucket = streams::bucket(bus, &LogLimits::default()).await?;
    let timeout = Duration::from_millis(router.query_timeout_ms);
    let active_rules = ActiveRules::new(bus.clone(), bucket, None);
    let mut engine = Engine::without_rules(active_rules.limits().await?);
    let performer = Performer {
        bus: bus.clone(),
        active_rules,
        queries: Queries::new(bus.clone(), router.queries, timeout),
    };
    let mut started = FuturesUnordered::new();
    let mut event = Event::Delivered(logged);
    loop {
        for effect in engine.step(event) {
            match performer.start(effect, clock::now_ms()) {
                Ok(effect) => started.push(effect),
                Err(Effect::Ack { .. }) => return Ok(()),
                Err(Effect::DeadLetter { reason, .. }) => {
                    return Err(RetryError::DeadAgain(reason));
                }
                Err(_) => return Err(RetryError::Unavailable),
            }
        }
        event = started.next().await.ok_or(RetryError::Unavailable)?;
    }
}
