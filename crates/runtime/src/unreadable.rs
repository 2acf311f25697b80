//! Messages that the NATS client cannot parse.
//!
//! The server accepts any bytes as headers. The client parses them strictly. A block that it cannot
//! parse closes the connection, and a bare carriage return in a value stops the client (nats.rs,
//! pull request 1612). The client takes a status in the first line for a message of the server.
//! Such a message would be redelivered after each reconnection, forever, and block all others.
//!
//! A feed therefore scans after each connection for delivered, unacknowledged messages, through an
//! API whose responses contain the headers as data. It dead-letters the unreadable ones. They often
//! come in runs, so a scan that finds one continues into messages that are not delivered yet.
//!
//! The check uses the header block as delivered. When a pinned consumer delivers a message, the
//! server writes its own header over the last two bytes, no matter what they are. A block without
//! its last line end is therefore valid in the stream and invalid on delivery.
//!
//! The scan must finish although its connection keeps closing. It repeats a request after each
//! reconnection, and dead-letters each message as soon as it finds it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_nats::jetstream::consumer::{PriorityPolicy, PullConsumer};
use async_nats::{HeaderName, HeaderValue};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use crate::bus::Bus;
use crate::dead::DeadLetter;
use crate::raw::{self, Raw};
use crate::streams;

/// A message with invalid headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Sequence in its stream.
    pub seq: u64,
    /// Subject.
    pub subject: String,
    /// Body.
    pub body: Vec<u8>,
    /// Error in its headers.
    pub why: &'static str,
}

impl Unreadable {
    /// Reason of its dead letter.
    pub fn reason(&self) -> String {
        format!("cannot read its headers: {}", self.why)
    }
}

/// Builds the dead letter of an unreadable message; `None` if its subject cannot be derived.
pub(crate) type Letter = Arc<dyn Fn(&Unreadable) -> Option<DeadLetter> + Send + Sync>;

/// When to scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    /// Only if a redelivered message is unacknowledged, as an unreadable one is.
    IfRedelivered,
}

/// Number of parallel scans.
const LANES: u64 = 16;
/// Size of one scan of undelivered messages.
const SCAN_AHEAD: u64 = 4096;
/// Maximum number of repetitions of a request whose connection closed.
const MAX_REPEATS: u32 = 20;
/// Header by which the server deduplicates messages. Its window is long enough for two processes
/// that find the same message.
const MESSAGE_ID: &str = "Nats-Msg-Id";

/// Scans a consumer for messages that the client cannot parse.
#[derive(Clone)]
pub(crate) struct UnreadableScanner {
    bus: Bus,
    consumer: PullConsumer,
    letter: Letter,
    /// All messages up to this sequence are readable or deleted.
    seen: u64,
}

impl UnreadableScanner {
    pub(crate) const fn new(bus: Bus, consumer: PullConsumer, letter: Letter) -> Self {
        Self { bus, consumer, letter, seen: 0 }
    }

    /// Dead-letters all unreadable messages that the consumer has delivered without an
    /// acknowledgement. If there are any, continues with undelivered messages. Returns the number
    /// of dead letters.
    ///
    /// # Errors
    /// The server does not respond, or a dead letter cannot be stored.
    pub(crate) async fn quarantine(&mut self, when: When) -> Result<usize, async_nats::Error> {
        let info = self
            .request(|| async { self.consumer.get_info().await.map_err(async_nats::Error::from) })
            .await?;
        let idle = info.num_ack_pending == 0;
        if idle || (when == When::IfRedelivered && info.num_redelivered == 0) {
            return Ok(0);
        }
        let (first, last) =
            (info.ack_floor.stream_sequence.max(self.seen) + 1, info.delivered.stream_sequence);
        let mut found = self.scan(first, last).await?;
        self.seen = self.seen.max(last);
        let (mut next, mut more) = (last + 1, found > 0);
        while more {
            let ahead = self.scan(next, next + SCAN_AHEAD - 1).await?;
            (found, next, more) = (found + ahead, next + SCAN_AHEAD, ahead > 0);
        }
        if found > 0 {
            tracing::warn!(
                found,
                stream = %info.stream_name,
                "unreadable messages were dead-lettered"
            );
        }
        Ok(found)
    }

    /// Checks all messages from `first` to `last`.
    async fn scan(&self, first: u64, last: u64) -> Result<usize, async_nats::Error> {
        let found = AtomicUsize::new(0);
        let width = (last + 1).saturating_sub(first).div_ceil(LANES).max(1);
        let mut lanes: FuturesUnordered<_> = (first..=last)
            .step_by(usize::try_from(width)?)
            .map(|from| self.lane(from, last.min(from + width - 1), &found))
            .collect();
        while let Some(scanned) = lanes.next().await {
            scanned?;
        }
        drop(lanes);
        Ok(found.into_inner())
    }

    /// Checks all messages from `seq` to `last`, one after the other.
    async fn lane(
        &self,
        mut seq: u64,
        last: u64,
        found: &AtomicUsize,
    ) -> Result<(), async_nats::Error> {
        while seq <= last {
            let Some(raw) = self.from(seq).await? else {
                break;
            };
            if raw.seq > last {
                break;
            }
            seq = raw.seq + 1;
            if let Err(why) = check(&self.delivered(raw.header_block()?)) {
                self.dead_letter(raw, why).await?;
                found.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Header block as the consumer delivers it.
    fn delivered(&self, block: Vec<u8>) -> Vec<u8> {
        match self.consumer.cached_info().config.priority_policy {
            PriorityPolicy::PinnedClient => with_pin(block),
            _ => block,
        }
    }

    /// Reads the first message from a sequence on.
    async fn from(&self, seq: u64) -> Result<Option<Raw>, async_nats::Error> {
        let (bus, stream) = (&self.bus, &self.consumer.cached_info().stream_name);
        self.request(|| async move {
            raw::next(bus, stream, seq, ">").await.map_err(async_nats::Error::from)
        })
        .await
    }

    /// Publishes the dead letter of a message, and deletes the message from its stream.
    async fn dead_letter(&self, raw: Raw, why: &'static str) -> Result<(), async_nats::Error> {
        let stream = &self.consumer.cached_info().stream_name;
        // The id is the same in every process that finds the message, and after a lost
        // confirmation.
        let id = format!("{stream}.{}.{}", raw.seq, raw.time);
        let body = raw.body()?;
        let message = Unreadable { seq: raw.seq, subject: raw.subject, body, why };
        let Some(mut letter) = (self.letter)(&message) else {
            tracing::error!(
                subject = %message.subject,
                "cannot derive a dead-letter subject; the message stays in its stream"
            );
            return Ok(());
        };
        letter.headers.insert(MESSAGE_ID, id);
        let (bus, letter, seq) = (&self.bus, &letter, message.seq);
        self.request(|| async move {
            letter.clone().publish(bus).await.map_err(async_nats::Error::from)
        })
        .await?;
        // Another process may have deleted it first.
        let deleted = self
            .request(|| async move {
                let deleted = streams::delete(bus, stream, seq).await;
                deleted.map_err(async_nats::Error::from)
            })
            .await;
        if let Err(error) = deleted {
            tracing::debug!(
                subject = %message.subject,
                %error,
                "cannot delete an unreadable message"
            );
        }
        Ok(())
    }

    /// Sends a request; repeats it after a reconnection, because the response was lost.
    async fn request<T, F>(&self, send: impl Fn() -> F) -> Result<T, async_nats::Error>
    where
        F: Future<Output = Result<T, async_nats::Error>>,
    {
        let mut connections = self.bus.connections();
        for _ in 0..MAX_REPEATS {
            tokio::select! {
                biased;
                response = send() => return response,
                Ok(()) = connections.changed() => {}
            }
        }
        send().await
    }
}

/// Header block with the server's own header. It overwrites the last two bytes; the server rebuilds
/// a block that has no more than two.
fn with_pin(mut block: Vec<u8>) -> Vec<u8> {
    match block.len() {
        0..=2 => block = b"NATS/1.0\r\n".to_vec(),
        length => block.truncate(length - 2),
    }
    block.extend_from_slice(b"Nats-Pin-Id: x\r\n\r\n");
    block
}

/// Checks that the client can parse a header block, and that the block contains only headers. It
/// must not be stricter than the client: a message that one process can read must not be
/// dead-lettered by another.
fn check(block: &[u8]) -> Result<(), &'static str> {
    if block.is_empty() {
        return Ok(());
    }
    let text = std::str::from_utf8(block).map_err(|_| "the header block is not UTF-8")?;
    let mut lines = text.lines().peekable();
    let version = lines.next().and_then(|line| line.strip_prefix("NATS/1.0"));
    match version.map(str::trim) {
        Some("") => {}
        Some(_) => return Err("the header block has a status, which only the server may send"),
        None => return Err("the header block does not begin with NATS/1.0"),
    }
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let (name, value) = line.split_once(':').ok_or("a line is not a header")?;
        name.parse::<HeaderName>().map_err(|_| "a header name is malformed")?;
        let mut value = value.trim_start().to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with(char::is_whitespace)) {
            value.push_str(more);
        }
        let value = value.trim_end().parse::<HeaderValue>();
        value.map_err(|_| "a header value has a carriage return")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{check, with_pin};

    #[test]
    fn block_is_checked_with_the_servers_own_header() {
        for good in [
            &b""[..],
            b"N",
            b"\r\n",
            b"NATS/1.0\r\n\r\n",
            b"NATS/1.0\r\nA: b\r\n\r\n",
            b"NATS/1.0\r\nA: b\r\n\r\nzz",
        ] {
            assert_eq!(check(&with_pin(good.to_vec())), Ok(()), "{}", good.escape_ascii());
        }
        for bad in [&b"NATS/1.0"[..], b"NATS/1.0\r\n", b"NATS/1.0\r\nA b\r\n\r\n", b"NAT"] {
            assert!(check(&with_pin(bad.to_vec())).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn check_accepts_what_the_client_parses_and_rejects_the_rest() {
        for good in [
            "",
            "NATS/1.0\r\n\r\n",
            "NATS/1.0\r\nA: b\r\n\r\n",
            "NATS/1.0\nA:b\n c\n\n",
            "NATS/1.0\r\nA:\r\nA: é\r\n\r\n",
        ] {
            assert_eq!(check(good.as_bytes()), Ok(()), "{good:?}");
        }
        for bad in [
            &b"NATS/1.0\r\nA: \xff\r\n\r\n"[..],
            b"NATS/2.0\r\n\r\n",
            b"NATS/1.0 503\r\n\r\n",
            b"NATS/1.0 409 Consumer Deleted\r\n\r\n",
            b"NATS/1.0\r\nA\r\n\r\n",
            b"NATS/1.0\r\nA b: c\r\n\r\n",
            b"NATS/1.0\r\nA: b\rc\r\n\r\n",
        ] {
            assert!(check(bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}
