//! Repeats the router's work for one completion, after its dead letter. An operator may not write
//! to the log, so a router does it on request.

use std::sync::Arc;
use std::time::Duration;

use concert_engine::{Effect, Engine, Event, Limits, Logged};
use concert_runtime::bus::Bus;
use concert_runtime::clock;
use concert_runtime::log;
use concert_runtime::nats::Request;
use concert_runtime::process::Shutdown;
use concert_wire::subject::{CompletionSubject, ROUTER_RETRY, ROUTERS};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use crate::effects::{self, Performer};

/// Timeout of a request to retry a completion, including the queries of its rules.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Error of a retry of a completion.
#[derive(Debug, thiserror::Error)]
pub enum RetryError {
    /// No router responds.
    #[error("no router responds; start one and try again")]
    NoRouter,
    /// The router cannot fire the rules.
    #[error("{0}")]
    Refused(String),
}

/// Asks a router to fire the rules on the completion with this subject. The ids of all messages are
/// derived from the log, so effects that exist already are not repeated.
///
/// # Errors
/// See [`RetryError`]. Another retry is safe.
pub async fn retry(bus: &Bus, subject: &str) -> Result<(), RetryError> {
    // The NATS client's own timeout is too short, so it is disabled; `TIMEOUT` applies below.
    let request = Request::new().payload(subject.to_owned().into()).timeout(None);
    let request = bus.client.send_request(ROUTER_RETRY, request);
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(Ok(response)) if response.payload.is_empty() => Ok(()),
        Ok(Ok(response)) => {
            Err(RetryError::Refused(String::from_utf8_lossy(&response.payload).into_owned()))
        }
        Ok(Err(_)) | Err(_) => Err(RetryError::NoRouter),
    }
}

/// Serves these requests until shutdown.
pub(crate) async fn serve(performer: Arc<Performer>, limits: Limits, shutdown: Shutdown) {
    let client = performer.bus.client.clone();
    let mut requests = match client.queue_subscribe(ROUTER_RETRY, ROUTERS.to_owned()).await {
        Ok(requests) => requests,
        Err(error) => {
            return tracing::warn!(%error, "cannot receive requests for retries");
        }
    };
    loop {
        let request = tokio::select! {
            () = shutdown.requested() => return,
            request = requests.next() => request,
        };
        let Some(request) = request else { return };
        let Some(reply) = request.reply else { continue };
        let subject = String::from_utf8_lossy(&request.payload).into_owned();
        let why = match find(&performer, &subject).await {
            Ok(logged) => {
                let seq = logged.seq;
                let fired = fire(&performer, limits, logged).await;
                performer.queries.timings().forget(seq);
                fired.err().unwrap_or_default()
            }
            Err(why) => why,
        };
        if let Err(error) = client.publish(reply, why.into()).await {
            tracing::debug!(%error, "cannot respond to a request for a retry");
        }
    }
}

async fn find(performer: &Arc<Performer>, subject: &str) -> Result<Logged, String> {
    // A subject with wildcards would match other messages.
    CompletionSubject::parse(subject).map_err(|error| error.to_string())?;
    let read = log::read(&performer.bus, &[subject.to_owned()])
        .await
        .map_err(|error| error.to_string())?;
    let stored = read.1.into_iter().next().ok_or("the completion is no longer in the log")?;
    effects::logged(stored.seq, subject, Some(&stored.headers), &stored.body)
}

/// Fires the rules on a completion. The error is the reason why they cannot fire.
async fn fire(performer: &Arc<Performer>, limits: Limits, logged: Logged) -> Result<(), String> {
    const NOT_NOW: &str = "the rules cannot fire now; try again later";
    let mut engine = Engine::without_rules(limits);
    let mut started = FuturesUnordered::new();
    let mut event = Event::Delivered(logged);
    loop {
        for effect in engine.step(event) {
            match performer.start(effect, clock::now_ms()) {
                Ok(effect) => started.push(effect),
                Err(Effect::Ack { .. }) => return Ok(()),
                Err(Effect::DeadLetter { reason, .. }) => return Err(reason),
                Err(_) => return Err(NOT_NOW.to_owned()),
            }
        }
        event = started.next().await.ok_or(NOT_NOW)?;
    }
}
