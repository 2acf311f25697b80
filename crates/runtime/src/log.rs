//! Publishing exactly once per subject, and reading the log.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::{HeaderMap, StatusCode};
use bytes::Bytes;
use concert_wire::envelope::Completion;
use concert_wire::id::FlowId;
use concert_wire::routes::ActiveSince;
use concert_wire::{header, subject};
use futures_util::StreamExt as _;
use tokio::time::Instant;

use crate::bus::Bus;
use crate::{raw, streams};

/// Maximum number of messages that one read of a flow returns (a limit of the server).
const READ_BATCH: usize = 1024;
/// Timeout of a read.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of messages that are read of a flow. Rules stop firing after 1,000 actions. Each
/// action may have a firing record, and actions invoked before the limit still complete.
const LONGEST_FLOW: usize = 4000;
/// Timeout of the read of a long flow.
const LONG_READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Time to wait for an existing stream: while the server reloads its configuration, no stream
/// responds.
const STREAM_TIMEOUT: Duration = Duration::from_secs(1);
/// Delay between attempts to publish.
const STREAM_RETRY: Duration = Duration::from_millis(50);

/// Result of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The message is stored.
    Stored,
    /// The subject already had a message.
    AlreadyThere,
}

/// Error of a publish. After `NotConfirmed` the message may be stored.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The stream is full, or the server lacks a resource; the message was not stored.
    #[error("the stream rejects the message: {0}")]
    Refused(String),
    /// No stream has this subject; the message was not stored.
    #[error(
        "no stream has the subject `{0}`: its worker has never run, or the server is reloading its \
         configuration; start the worker, or run `concert setup`"
    )]
    NoStream(String),
    /// The message exceeds the server's size limit.
    #[error("the message exceeds the server's size limit; increase max_payload of the NATS server")]
    TooLarge,
    /// The server did not confirm in time.
    #[error("no publish acknowledgement: {0}")]
    NotConfirmed(String),
}

impl PublishError {
    /// Returns whether the server stated that it did not store the message.
    pub const fn is_refusal(&self) -> bool {
        !matches!(self, Self::NotConfirmed(_))
    }
}

/// Publishes on an unused subject, and waits until the server has stored the message.
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
        headers.insert(header::EXPECTED_LAST_SUBJECT_SEQUENCE, "0");
    }
    publish(bus, subject, headers, body).await
}

/// Publishes on an unused subject that has no other publisher, and retries until the server
/// confirms the message. Retries immediately after a reconnection, because messages sent before may
/// be lost, and after a delay when the server did not respond. A message that the first attempt
/// stored is reported as [`Published::AlreadyThere`].
///
/// # Errors
/// See [`PublishError`]. [`PublishError::NoStream`] is returned only after `STREAM_TIMEOUT`.
pub async fn publish_until(
    bus: &Bus,
    subject: String,
    headers: HeaderMap,
    body: Bytes,
    deadline: Instant,
) -> Result<Published, PublishError> {
    let mut connections = bus.connections();
    let missing_after = Instant::now() + STREAM_TIMEOUT;
    let attempt = || publish_once(bus, subject.clone(), headers.clone(), body.clone());
    let again = async {
        loop {
            let published = tokio::select! {
                published = attempt() => published,
                Ok(()) = connections.changed() => continue,
            };
            match &published {
                Err(PublishError::NoStream(_)) if Instant::now() < missing_after => {}
                Err(PublishError::NotConfirmed(_)) => {}
                _ => return published,
            }
            tokio::time::sleep(STREAM_RETRY).await;
        }
    };
    let late = |_| PublishError::NotConfirmed("the deadline has passed".to_owned());
    tokio::time::timeout_at(deadline, again).await.map_err(late)?
}

/// Publishes and waits until the server has stored the message.
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
    /// Time of storage in microseconds since 1970, from the server's header.
    pub fn time_us(&self) -> u64 {
        let time = self.headers.get("Nats-Time-Stamp");
        let time = time.and_then(|time| humantime::parse_rfc3339(time.as_str()).ok());
        let since = time.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }
}

/// Error of a read of the log.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The read failed; a retry may succeed.
    #[error("cannot read the log: {0}")]
    Now(String),
    /// The flow has more messages than the limit, or it needs several reads and has no root.
    #[error("the flow has more messages than the limit of one flow")]
    TooLong,
}

fn unreadable(error: impl std::fmt::Display) -> ReadError {
    ReadError::Now(error.to_string())
}

/// Reads the message on one subject of the log.
///
/// # Errors
/// The server does not respond. A missing message is not an error.
pub async fn find(bus: &Bus, subject: &str) -> Result<Option<Stored>, ReadError> {
    find_in(bus, subject::LOG, subject).await.map_err(unreadable)?.map(stored).transpose()
}

/// Reads the message on one subject of a stream; the error says why it cannot be read.
pub(crate) async fn find_in(
    bus: &Bus,
    stream: &str,
    subject: &str,
) -> Result<Option<async_nats::Message>, String> {
    let api = bus.api(&format!("DIRECT.GET.{stream}.{subject}"));
    let message = bus.client.request(api, Bytes::new()).await.map_err(|error| error.to_string())?;
    match message.status {
        Some(StatusCode::NOT_FOUND) => Ok(None),
        Some(status) => Err(format!("status {status}")),
        None => Ok(Some(message)),
    }
}

/// Reads all messages of a flow. Returns the sequence up to which the read is complete, and the
/// messages.
///
/// # Errors
/// The server does not respond in time, or the flow has more messages than one read returns
/// (1,024).
pub async fn read_flow(bus: &Bus, flow: FlowId) -> Result<(u64, Vec<Stored>), ReadError> {
    read(bus, &[subject::flow(flow)]).await
}

/// Reads all messages on these subjects (`*` matches one token). Returns the sequence up to which
/// the read is complete, and the messages.
///
/// # Errors
/// As [`read_flow`].
pub async fn read(bus: &Bus, subjects: &[String]) -> Result<(u64, Vec<Stored>), ReadError> {
    tokio::time::timeout(READ_TIMEOUT, read_to_the_end(bus, subjects))
        .await
        .map_err(|_| unreadable("no response in time"))?
}

async fn read_to_the_end(bus: &Bus, subjects: &[String]) -> Result<(u64, Vec<Stored>), ReadError> {
    let inbox = bus.client.new_inbox();
    let mut responses = bus.client.subscribe(inbox.clone()).await.map_err(unreadable)?;
    let request = serde_json::json!({ "multi_last": subjects, "batch": READ_BATCH });
    let api = bus.api(&format!("DIRECT.GET.{}", subject::LOG));
    bus.client
        .publish_with_reply(api, inbox, request.to_string().into())
        .await
        .map_err(unreadable)?;
    let mut found = Vec::new();
    while let Some(message) = responses.next().await {
        match message.status {
            None => found.push(stored(message)?),
            Some(StatusCode::NOT_FOUND) => return Ok((0, found)),
            // End of the batch.
            Some(status) if status.as_u16() == 204 => {
                let through = number(message.headers.as_ref(), "Nats-UpTo-Sequence")
                    .ok_or_else(|| unreadable("the response has no `Nats-UpTo-Sequence`"))?;
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
    Err(unreadable("the connection closed"))
}

/// Like [`read_flow`], for a longer flow: reads message by message from the stream's leader.
///
/// # Errors
/// The server does not respond in time, the flow has more messages than rules can cause, or its
/// first message is not its root.
pub async fn read_long_flow(bus: &Bus, flow: FlowId) -> Result<Vec<Stored>, ReadError> {
    tokio::time::timeout(LONG_READ_TIMEOUT, read_one_by_one(bus, flow))
        .await
        .map_err(|_| unreadable("no response in time"))?
}

async fn read_one_by_one(bus: &Bus, flow: FlowId) -> Result<Vec<Stored>, ReadError> {
    let (of_flow, root) = (subject::flow(flow), format!(".{}", flow.root()));
    let mut found: Vec<Stored> = Vec::new();
    let mut next = 1;
    // Messages with headers that the client cannot parse are included.
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

/// Reads the activations of rule versions from the log, and the sequence up to which they are
/// complete. Activations that the log no longer has are in the bucket; read the bucket afterwards.
///
/// # Errors
/// The server does not respond.
pub async fn read_rule_history(bus: &Bus) -> Result<(u64, Vec<ActiveSince>), ReadError> {
    let last = streams::log_state(bus).await.map_err(unreadable)?.last_sequence;
    let (through, messages) = read_flow(bus, FlowId::of_rules()).await?;
    let since = messages.iter().filter_map(|message| {
        let seq = message.seq;
        activated_version(&message.body).map(|version| ActiveSince { seq, version })
    });
    Ok((through.max(last), since.collect()))
}

/// Rule version that a message activates.
pub fn activated_version(body: &[u8]) -> Option<Arc<str>> {
    let body = Completion::decode(body).ok()?;
    body.input.get("rules")?.as_str().map(Arc::from)
}

pub(crate) fn stored(message: async_nats::Message) -> Result<Stored, ReadError> {
    let headers = message.headers.unwrap_or_default();
    let seq = number(Some(&headers), "Nats-Sequence")
        .ok_or_else(|| unreadable("the response has no `Nats-Sequence`"))?;
    let subject = headers
        .get("Nats-Subject")
        .ok_or_else(|| unreadable("the response has no `Nats-Subject`"))?
        .to_string();
    Ok(Stored { seq, subject, headers, body: message.payload })
}

fn number(headers: Option<&HeaderMap>, name: &str) -> Option<u64> {
    headers?.get(name)?.as_str().parse().ok()
}
