//! Stored dead letters: reading, retrying and deleting them.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use async_nats::{HeaderMap, Subject};
use bytes::Bytes;
use concert_wire::envelope::Completion;
use concert_wire::id::{ActionId, FlowId};
use concert_wire::subject::{self, InvocationSubject};
use concert_wire::{header, value};
use futures_util::StreamExt as _;

use crate::bus::Bus;
use crate::log::{self, PublishError, ReadError};
use crate::streams;

/// A dead letter with its stream sequence.
#[derive(Debug, Clone)]
pub struct StoredDeadLetter {
    /// Its number, which is its sequence in the stream `DEAD`.
    pub seq: u64,
    /// Time of storage, in milliseconds since 1970.
    pub stored_at_ms: u64,
    /// `dead.<Concept>.<action>`.
    pub subject: String,
    /// Known properties of the message; see `concert_wire::header`.
    pub headers: HeaderMap,
    /// Body with encrypted (sealed) secrets; empty if the secrets could not be encrypted.
    pub body: Bytes,
}

/// Error for a failed read of the dead-letter stream.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the dead letters: {0}; check that NATS runs, or run `concert setup`")]
pub struct DeadLetterReadError(String);

fn unreadable(error: impl std::fmt::Display) -> DeadLetterReadError {
    DeadLetterReadError(error.to_string())
}

impl StoredDeadLetter {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.as_str())
    }

    /// Concept and action; `_` stands for an unknown part.
    pub fn name(&self) -> &str {
        self.subject.strip_prefix("dead.").unwrap_or(&self.subject)
    }

    /// Reason why it was dead-lettered.
    pub fn reason(&self) -> &str {
        self.header(header::REASON).unwrap_or("unknown reason")
    }

    /// Subject of the original message.
    pub fn original(&self) -> &str {
        self.header(header::SUBJECT).unwrap_or_default()
    }

    /// Id of the action, if it is known.
    pub fn action_id(&self) -> Option<ActionId> {
        self.header(header::ACTION)?.parse().ok()
    }

    /// Flow, if it is known.
    pub fn flow(&self) -> Option<FlowId> {
        self.header(header::FLOW)?.parse().ok()
    }
}

async fn stream(bus: &Bus) -> Result<Stream, DeadLetterReadError> {
    bus.jetstream.get_stream(subject::DEAD).await.map_err(unreadable)
}

/// Calls `take` with each dead letter on a subject, oldest first, up to the last one stored at the
/// time of the call.
///
/// # Errors
/// The server does not respond, or the stream of dead letters does not exist.
pub async fn each(
    bus: &Bus,
    filter: String,
    mut take: impl FnMut(StoredDeadLetter),
) -> Result<(), DeadLetterReadError> {
    let stream = stream(bus).await?;
    let config = pull::Config {
        filter_subject: filter,
        ack_policy: AckPolicy::None,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await.map_err(unreadable)?;
    let pending = consumer.cached_info().num_pending;
    let mut messages = consumer.messages().await.map_err(unreadable)?;
    for _ in 0..pending {
        let next = tokio::time::timeout(READ_TIMEOUT, messages.next());
        let Some(message) = next.await.map_err(|_| unreadable("no response in time"))? else {
            break;
        };
        let message = message.map_err(unreadable)?;
        let info = message.info().map_err(unreadable)?;
        take(StoredDeadLetter {
            seq: info.stream_sequence,
            stored_at_ms: u64::try_from(info.published.unix_timestamp_nanos() / 1_000_000)
                .unwrap_or(0),
            subject: message.subject.to_string(),
            headers: message.headers.clone().unwrap_or_default(),
            body: message.payload.clone(),
        });
    }
    drop(messages);
    let name = &consumer.cached_info().name;
    stream.delete_consumer(name).await.map(drop).map_err(unreadable)
}

/// Reads one dead letter by its number.
///
/// # Errors
/// The server does not respond. A missing dead letter is not an error.
pub async fn find(bus: &Bus, seq: u64) -> Result<Option<StoredDeadLetter>, DeadLetterReadError> {
    match stream(bus).await?.get_raw_message(seq).await {
        Ok(message) => Ok(Some(StoredDeadLetter {
            seq: message.sequence,
            stored_at_ms: u64::try_from(message.time.unix_timestamp_nanos() / 1_000_000)
                .unwrap_or(0),
            subject: message.subject.to_string(),
            headers: message.headers,
            body: message.payload,
        })),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(unreadable(error)),
    }
}

/// Deletes a dead letter.
///
/// # Errors
/// The server rejects the request, or the dead letter no longer exists.
pub async fn remove(bus: &Bus, seq: u64) -> Result<(), DeadLetterReadError> {
    streams::delete(bus, subject::DEAD, seq).await.map_err(unreadable)
}

/// Timeout of a read of one dead letter.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval between polls for a completion.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Error of a retry of a dead letter.
#[derive(Debug, thiserror::Error)]
pub enum RetryError {
    /// The dead letter is not an invocation.
    #[error(
        "only invocations can be retried, and this dead letter is `{0}`; drop it with `concert \
         dead drop`"
    )]
    NoInvocation(String),
    /// The dead letter lacks a property.
    #[error("its {0} is unknown; request the action again and drop this dead letter")]
    Unknown(&'static str),
    /// The action is already completed.
    #[error(
        "the action has been completed in the meantime; drop the dead letter with `concert dead \
         drop`"
    )]
    Completed,
    /// The flow's root is no longer in the log.
    #[error(
        "its flow has left the log, so it is unknown whether the action was executed, and no rule \
         would fire on it; drop the dead letter with `concert dead drop`"
    )]
    FlowGone,
    /// The log is unreadable.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// The dead-letter stream is unreadable.
    #[error(transparent)]
    Letters(#[from] DeadLetterReadError),
    /// The action's queue rejects the invocation.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The subscription for the outcome failed.
    #[error("cannot subscribe to the outcome of the action: {0}")]
    Subscribe(#[from] async_nats::SubscribeError),
}

/// Outcome of a retried action.
#[derive(Debug, Clone, PartialEq)]
pub enum Retried {
    /// The action is completed.
    Completed(Completion),
    /// The action is dead-lettered again, for this reason.
    DeadAgain(String),
    /// The action is queued or in progress.
    InProgress,
}

/// Publishes the action of a dead letter again under its own id, so that it takes effect once even
/// if it was executed before. Then waits for the outcome.
///
/// The dead letter is deleted as soon as the action's queue has the invocation. If the action fails
/// again, it is dead-lettered again. The deadline header is left out, because no client waits for
/// the outcome.
///
/// # Errors
/// See [`RetryError`]. After any of these errors the dead letter is still stored, and another retry
/// is safe.
pub async fn retry(
    bus: &Bus,
    kept: &StoredDeadLetter,
    wait: Duration,
) -> Result<Retried, RetryError> {
    let invoked = InvocationSubject::parse(kept.original());
    let invoked = invoked.map_err(|_| RetryError::NoInvocation(kept.original().to_owned()))?;
    let id = kept.action_id().ok_or(RetryError::Unknown("id"))?;
    let flow = kept.flow().ok_or(RetryError::Unknown("flow"))?;
    if value::object(&kept.body).is_err() {
        return Err(RetryError::Unknown("input"));
    }
    let (concept, action) = (invoked.concept.as_str(), invoked.action.as_str());
    let completion = subject::completion(flow, concept, action, id);
    if log::find(bus, &completion).await?.is_some() {
        return Err(RetryError::Completed);
    }
    if flow.root() != id {
        let (_, root) = log::read(bus, &[subject::root(flow)]).await?;
        if root.is_empty() {
            return Err(RetryError::FlowGone);
        }
    }
    let mut dead = bus.client.subscribe(Subject::from(kept.subject.as_str())).await?;
    let mut headers = HeaderMap::new();
    for name in header::OF_CALL.into_iter().chain([header::ATTEMPTS]) {
        if let Some(value) = kept.headers.get(name) {
            headers.insert(name, value.clone());
        }
    }
    let invocation = subject::invocation(concept, action, id);
    log::publish_once(bus, invocation, headers, kept.body.clone()).await?;
    remove(bus, kept.seq).await?;
    let dead_again = async {
        while let Some(message) = dead.next().await {
            let header = |name| Some(message.headers.as_ref()?.get(name)?.as_str().to_owned());
            if header(header::ACTION) == Some(id.to_string()) {
                return header(header::REASON).unwrap_or_default();
            }
        }
        std::future::pending().await
    };
    let completed = async {
        loop {
            let found = log::find(bus, &completion).await;
            let body = found.ok().flatten().map(|stored| stored.body);
            if let Some(completion) = body.and_then(|body| Completion::decode(&body).ok()) {
                return completion;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    Ok(tokio::select! {
        completion = completed => Retried::Completed(completion),
        reason = dead_again => Retried::DeadAgain(reason),
        () = tokio::time::sleep(wait) => Retried::InProgress,
    })
}
