//! Publishing once, and reading the log.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::{HeaderMap, StatusCode};
use bytes::Bytes;
use concert_wire::envelope::Completion;
use concert_wire::id::FlowId;
use concert_wire::routes::InForceSince;
use concert_wire::subject;
use futures_util::StreamExt as _;
use tokio::time::Instant;

use crate::bus::Bus;
use crate::{raw, streams};

/// The header that makes the server refuse a second message on a subject: every subject of Concert
/// is used once.
const EXPECTED_LAST_SUBJECT_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
/// Completions that one read of a flow answers with at most (a limit of the server).
const READ_BATCH: usize = 1024;
/// How long a read may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Messages of a flow that are read at most. A flow has 1,000 actions, after which nothing fires;
/// each may have a record, and what had been asked for by then is completed all the same.
const LONGEST_FLOW: usize = 4000;
/// How long the read of a long flow may take.
const LONG_READ_TIMEOUT: Duration = Duration::from_secs(30);

/// For how long a stream that was there may be away: it is nobody's for a moment while the server
/// reads its configuration again.
const STREAM_PATIENCE: Duration = Duration::from_secs(1);
/// After which time a publish is tried again.
const STREAM_RETRY: Duration = Duration::from_millis(50);

/// What became of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It is stored now.
    Stored,
    /// A message stood on this subject before.
    AlreadyThere,
}

/// Why a publish was not stored. Whether it was is not always known: `NotConfirmed` may have been.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The stream is at its bound, or the server is short of something; the message was not stored.
    #[error("the stream refuses: {0}")]
    Refused(String),
    /// No stream takes this subject; the message was not stored.
    #[error(
        "no stream takes `{0}`: either its worker has never run, or the server is reading its configuration again"
    )]
    NoStream(String),
    /// The message is larger than the server takes.
    #[error("the message is larger than the server takes")]
    TooLarge,
    /// No answer came.
    #[error("no confirmation: {0}")]
    NotConfirmed(String),
}

impl PublishError {
    /// Whether the server said that it did not store the message.
    pub const fn is_refusal(&self) -> bool {
        !matches!(self, Self::NotConfirmed(_))
    }
}

/// Publishes on a subject that must be free, and waits until the server has stored it.
///
/// # Errors
/// See [`PublishError`].
pub async fn publish_once(
    bus: &Bus,
    subject: String,
    mut headers: HeaderMap,
    body: Bytes,
) -> Result<Published, PublishError> {
    if !crate::guard_disabled!("expected-sequence") {
        headers.insert(EXPECTED_LAST_SUBJECT_SEQUENCE, "0");
    }
    publish(bus, subject, headers, body).await
}

/// Publishes on a subject that must be free and that nobody else publishes on, again and again
/// until the server has said that it stored the message: at once when the connection was made anew,
/// since what was sent on the one before may be lost with it, and after a while when the server
/// said nothing. A message that was stored the first time is told as [`Published::AlreadyThere`].
///
/// # Errors
/// See [`PublishError`]. [`PublishError::NoStream`] is told only of a stream that is away for
/// longer than a moment.
pub async fn publish_until(
    bus: &Bus,
    subject: String,
    headers: HeaderMap,
    body: Bytes,
    deadline: Instant,
) -> Result<Published, PublishError> {
    let mut connections = bus.connections();
    let away_after = Instant::now() + STREAM_PATIENCE;
    let again = async {
        loop {
            let published = tokio::select! {
                published = publish_once(bus, subject.clone(), headers.clone(), body.clone()) => published,
                Ok(()) = connections.changed() => continue,
            };
            match &published {
                Err(PublishError::NoStream(_)) if Instant::now() < away_after => {}
                Err(PublishError::NotConfirmed(_)) => {}
                _ => return published,
            }
            tokio::time::sleep(STREAM_RETRY).await;
        }
    };
    let late = |_| PublishError::NotConfirmed("the deadline has passed".to_owned());
    tokio::time::timeout_at(deadline, again).await.map_err(late)?
}

/// Publishes and waits until the server has stored it.
///
/// # Errors
/// See [`PublishError`].
pub async fn publish(
    bus: &Bus,
    subject: String,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Published, PublishError> {
    let sent = bus.jetstream.publish_with_headers(subject.clone(), headers, body).await;
    let stored = match sent {
        Ok(ack) => {
            crate::chaos_point!("published");
            ack.await
        }
        Err(error) => Err(error),
    };
    let Err(error) = stored else {
        return Ok(Published::Stored);
    };
    match error.kind() {
        PublishErrorKind::WrongLastSequence => Ok(Published::AlreadyThere),
        PublishErrorKind::StreamNotFound => Err(PublishError::NoStream(subject)),
        PublishErrorKind::MaxPayloadExceeded => Err(PublishError::TooLarge),
        PublishErrorKind::Other if has_api_error(&error) => {
            Err(PublishError::Refused(error.to_string()))
        }
        _ => Err(PublishError::NotConfirmed(error.to_string())),
    }
}

fn has_api_error(error: &(dyn std::error::Error + 'static)) -> bool {
    error
        .source()
        .is_some_and(|source| source.is::<async_nats::jetstream::Error>() || has_api_error(source))
}

/// A message of the log.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its sequence.
    pub seq: u64,
    /// Its subject.
    pub subject: String,
    /// Its headers, and those that the server added.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Stored {
    /// When the server stored it, in microseconds since 1970, as it says in its own header.
    pub fn time_us(&self) -> u64 {
        let time = self.headers.get("Nats-Time-Stamp");
        let time = time.and_then(|time| humantime::parse_rfc3339(time.as_str()).ok());
        let since = time.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }
}

/// Why the log is not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be now.
    #[error("the log cannot be read: {0}")]
    Now(String),
    /// A flow has more messages than are read of one, or is so long that one read does not tell it,
    /// and has no root.
    #[error("the flow has more messages than can be read")]
    TooLong,
}

fn unreadable(error: impl std::fmt::Display) -> ReadError {
    ReadError::Now(error.to_string())
}

/// The message on one subject of the log.
///
/// # Errors
/// The server does not answer; that a message is not there is no error.
pub async fn find(bus: &Bus, subject: &str) -> Result<Option<Stored>, ReadError> {
    let api = bus.api(&format!("DIRECT.GET.{}.{subject}", subject::LOG));
    let message = bus.client.request(api, Bytes::new()).await.map_err(unreadable)?;
    match message.status {
        Some(StatusCode::NOT_FOUND) => Ok(None),
        Some(status) => Err(unreadable(format!("status {status}"))),
        None => stored(message).map(Some),
    }
}

/// Everything that the log has of a flow, and the sequence up to which it was read.
///
/// # Errors
/// The server does not answer in time, or the flow has more messages than one read answers with
/// (1,024).
pub async fn read_flow(bus: &Bus, flow: FlowId) -> Result<(u64, Vec<Stored>), ReadError> {
    read(bus, &subject::flow(flow)).await
}

/// Everything that the log has on these subjects (a `*` stands for any one part), and the sequence
/// up to which it was read.
///
/// # Errors
/// As [`read_flow`].
pub async fn read(bus: &Bus, subjects: &str) -> Result<(u64, Vec<Stored>), ReadError> {
    tokio::time::timeout(READ_TIMEOUT, read_to_the_end(bus, subjects))
        .await
        .map_err(|_| unreadable("no answer in time"))?
}

async fn read_to_the_end(bus: &Bus, subjects: &str) -> Result<(u64, Vec<Stored>), ReadError> {
    let inbox = bus.client.new_inbox();
    let mut answers = bus.client.subscribe(inbox.clone()).await.map_err(unreadable)?;
    let request = serde_json::json!({ "multi_last": [subjects], "batch": READ_BATCH });
    let api = bus.api(&format!("DIRECT.GET.{}", subject::LOG));
    bus.client
        .publish_with_reply(api, inbox, request.to_string().into())
        .await
        .map_err(unreadable)?;
    let mut found = Vec::new();
    while let Some(message) = answers.next().await {
        match message.status {
            None => found.push(stored(message)?),
            Some(StatusCode::NOT_FOUND) => return Ok((0, found)),
            // The end of the batch.
            Some(status) if status.as_u16() == 204 => {
                let through = number(message.headers.as_ref(), "Nats-UpTo-Sequence")
                    .ok_or_else(|| unreadable("no end of the read"))?;
                return Ok((through, found));
            }
            // Too many results.
            Some(status) if status.as_u16() == 413 => return Err(ReadError::TooLong),
            Some(status) => {
                return Err(unreadable(format!(
                    "status {status} {}",
                    message.description.unwrap_or_default()
                )));
            }
        }
    }
    Err(unreadable("the connection ended"))
}

/// As [`read_flow`], of a flow that is too long for it: message by message, from the stream's
/// leader.
///
/// # Errors
/// The server does not answer in time, or the flow has more messages than rules can have made, or
/// does not begin with its root, so that nothing can come of it.
pub async fn read_long_flow(bus: &Bus, flow: FlowId) -> Result<Vec<Stored>, ReadError> {
    tokio::time::timeout(LONG_READ_TIMEOUT, read_one_by_one(bus, flow))
        .await
        .map_err(|_| unreadable("no answer in time"))?
}

async fn read_one_by_one(bus: &Bus, flow: FlowId) -> Result<Vec<Stored>, ReadError> {
    let (of_flow, root) = (subject::flow(flow), format!(".{}", flow.root()));
    let mut found: Vec<Stored> = Vec::new();
    let mut next = 1;
    // What the client cannot read as it is stored may be among them, and counts all the same.
    while let Some(message) =
        raw::next(bus, subject::LOG, next, &of_flow).await.map_err(unreadable)?
    {
        next = message.seq + 1;
        let is_rootless = found.is_empty() && !message.subject.ends_with(&root);
        if is_rootless || found.len() == LONGEST_FLOW {
            return Err(ReadError::TooLong);
        }
        found.push(Stored {
            seq: message.seq,
            headers: message.headers(),
            body: message.body().map_err(unreadable)?.into(),
            subject: message.subject,
        });
    }
    Ok(found)
}

/// Which rules came into force where, as the log says, and the sequence up to which that is all of
/// it. What had gone from the log by then stands in the bucket, which is to be read afterwards.
///
/// # Errors
/// The server does not answer.
pub async fn read_rule_history(bus: &Bus) -> Result<(u64, Vec<InForceSince>), ReadError> {
    let last = streams::log_state(bus).await.map_err(unreadable)?.last_sequence;
    let (through, messages) = read_flow(bus, FlowId::of_rules()).await?;
    let since = messages.iter().filter_map(|message| {
        let seq = message.seq;
        activated_version(&message.body).map(|version| InForceSince { seq, version })
    });
    Ok((through.max(last), since.collect()))
}

/// The version that a message puts in force.
pub fn activated_version(body: &[u8]) -> Option<Arc<str>> {
    let body = Completion::decode(body).ok()?;
    body.input.get("rules")?.as_str().map(Arc::from)
}

fn stored(message: async_nats::Message) -> Result<Stored, ReadError> {
    let headers = message.headers.unwrap_or_default();
    let seq = number(Some(&headers), "Nats-Sequence").ok_or_else(|| unreadable("no sequence"))?;
    let subject = headers.get("Nats-Subject").ok_or_else(|| unreadable("no subject"))?.to_string();
    Ok(Stored { seq, subject, headers, body: message.payload })
}

fn number(headers: Option<&HeaderMap>, name: &str) -> Option<u64> {
    headers?.get(name)?.as_str().parse().ok()
}
