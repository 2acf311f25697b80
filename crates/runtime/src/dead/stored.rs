//! Dead letters as they are kept: read, tried again, dropped.

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

/// A dead letter, and where it is kept.
#[derive(Debug, Clone)]
pub struct StoredDeadLetter {
    /// Its number: the sequence in the stream `DEAD`.
    pub seq: u64,
    /// When it was stored, in milliseconds since 1970.
    pub stored_at_ms: u64,
    /// `dead.<Concept>.<action>`.
    pub subject: String,
    /// What is known of the message; see `concert_wire::header`.
    pub headers: HeaderMap,
    /// The body, with its secrets sealed; empty where that could not be done.
    pub body: Bytes,
}

/// The dead letters cannot be read now.
#[derive(Debug, thiserror::Error)]
#[error("the dead letters cannot be read: {0}")]
pub struct DeadLetterReadError(String);

fn unreadable(error: impl std::fmt::Display) -> DeadLetterReadError {
    DeadLetterReadError(error.to_string())
}

impl StoredDeadLetter {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.as_str())
    }

    /// Concept and action; `_` for what is not known.
    pub fn name(&self) -> &str {
        self.subject.strip_prefix("dead.").unwrap_or(&self.subject)
    }

    /// Why it is one.
    pub fn reason(&self) -> &str {
        self.header(header::REASON).unwrap_or("no reason is told")
    }

    /// The subject that the message came on.
    pub fn original(&self) -> &str {
        self.header(header::SUBJECT).unwrap_or_default()
    }

    /// The action, where its id is known.
    pub fn action_id(&self) -> Option<ActionId> {
        self.header(header::ACTION)?.parse().ok()
    }

    /// The flow, where it is known.
    pub fn flow(&self) -> Option<FlowId> {
        self.header(header::FLOW)?.parse().ok()
    }
}

async fn stream(bus: &Bus) -> Result<Stream, DeadLetterReadError> {
    bus.jetstream.get_stream(subject::DEAD).await.map_err(unreadable)
}

/// Takes each dead letter on a subject, oldest first, up to the last one that is there now.
///
/// # Errors
/// The server does not answer, or there is no stream of dead letters.
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
        let next = tokio::time::timeout(PATIENCE, messages.next());
        let Some(message) = next.await.map_err(|_| unreadable("no answer in time"))? else {
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

/// One dead letter by its number.
///
/// # Errors
/// The server does not answer; that there is none is no error.
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

/// Lets go of a dead letter.
///
/// # Errors
/// The server refuses, or it is gone already.
pub async fn remove(bus: &Bus, seq: u64) -> Result<(), DeadLetterReadError> {
    streams::delete(bus, subject::DEAD, seq).await.map_err(unreadable)
}

/// How long the server may take for a letter.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked for a completion.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Why a dead letter is not tried again.
#[derive(Debug, thiserror::Error)]
pub enum RetryError {
    /// It is no invocation.
    #[error(
        "it is no action that was asked for, but `{0}`; what happened cannot be made to happen again"
    )]
    NoInvocation(String),
    /// The message did not say enough.
    #[error("its {0} is not known; ask for the action anew")]
    Unknown(&'static str),
    /// Nothing is left to do.
    #[error("the action has been completed meanwhile; the letter can be dropped")]
    Completed,
    /// The rules could not go on from it.
    #[error(
        "its flow has left the log, so nobody can tell whether the action was done, and nothing would follow from it"
    )]
    FlowGone,
    /// The log does not answer.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// The letters do not answer.
    #[error(transparent)]
    Letters(#[from] DeadLetterReadError),
    /// The action's queue does not take it.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// NATS does not listen.
    #[error("what comes of it cannot be heard: {0}")]
    Subscribe(#[from] async_nats::SubscribeError),
}

/// What came of an action that was tried again.
#[derive(Debug, Clone, PartialEq)]
pub enum Retried {
    /// It has been completed.
    Completed(Completion),
    /// It is a dead letter again, for this reason.
    DeadAgain(String),
    /// It waits, or is under way.
    UnderWay,
}

/// Asks for the action of a dead letter again, under its own id, so that it is done once whatever
/// became of it; then waits for what comes of it.
///
/// The letter is let go of as soon as the action's queue has it: it is a dead letter again if the
/// action fails again. Nobody waits for the outcome any more, so the deadline is left out.
///
/// # Errors
/// See [`RetryError`]. After any of them the letter is kept, and trying it once more is safe.
pub async fn retry(
    bus: &Bus,
    kept: &StoredDeadLetter,
    wait: Duration,
) -> Result<Retried, RetryError> {
    let asked = InvocationSubject::parse(kept.original());
    let asked = asked.map_err(|_| RetryError::NoInvocation(kept.original().to_owned()))?;
    let id = kept.action_id().ok_or(RetryError::Unknown("id"))?;
    let flow = kept.flow().ok_or(RetryError::Unknown("flow"))?;
    if value::object(&kept.body).is_err() {
        return Err(RetryError::Unknown("input"));
    }
    let (concept, action) = (asked.concept.as_str(), asked.action.as_str());
    let completion = subject::completion(flow, concept, action, id);
    if log::find(bus, &completion).await?.is_some() {
        return Err(RetryError::Completed);
    }
    if flow.root() != id {
        let (_, root) = log::read(bus, &subject::root(flow)).await?;
        if root.is_empty() {
            return Err(RetryError::FlowGone);
        }
    }
    let mut dead = bus.client.subscribe(Subject::from(kept.subject.as_str())).await?;
    let mut headers = HeaderMap::new();
    for name in [
        header::FLOW,
        header::CAUSE,
        header::SYNC,
        header::RULES,
        header::CLIENT,
        header::TRACEPARENT,
    ] {
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
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    Ok(tokio::select! {
        completion = completed => Retried::Completed(completion),
        reason = dead_again => Retried::DeadAgain(reason),
        () = tokio::time::sleep(wait) => Retried::UnderWay,
    })
}
