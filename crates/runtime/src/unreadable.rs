//! Messages that the NATS client cannot read.
//!
//! The server takes any bytes as headers. The client reads them strictly: a block that it does not
//! understand ends its connection, a bare carriage return in a value ends the client (nats.rs, pull
//! request 1612), and a status in the first line is taken for the server's own word. Such a message
//! would come again after each reconnection, for ever, and with it nothing else. So whoever takes
//! messages looks, whenever a connection began, for what was delivered and not acknowledged, in a
//! form whose headers the client does not touch, and puts aside what it could not read. Where one
//! is, others are often behind it, each of which would end the connection once more; so the look
//! goes on into what is not delivered yet, as long as it finds any.
//!
//! What counts is the block as it is delivered. Into what a pinned consumer delivers the server
//! puts a header of its own, in the place of the last two bytes, whatever those are: a block that
//! lacks its last line end is readable where it is stored, and not where it arrives.
//!
//! It must come to its end while the connection that it uses is ended again and again: it asks anew
//! whenever that happened, and puts each message aside as soon as it is found.

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

/// A message whose headers cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Where it stands in its stream.
    pub seq: u64,
    /// Its subject.
    pub subject: String,
    /// Its body.
    pub body: Vec<u8>,
    /// What is wrong with its headers.
    pub why: &'static str,
}

/// Makes a dead letter of a message that cannot be read; `None` where it has no name for it.
pub(crate) type Letter = Arc<dyn Fn(&Unreadable) -> Option<DeadLetter> + Send + Sync>;

/// When it is worth a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    /// If something that was delivered again waits still, as what nobody reads does.
    IfRedelivered,
}

/// Messages that are looked at side by side.
const LANES: u64 = 16;
/// How far it is looked ahead at once into what is not delivered yet.
const AHEAD: u64 = 4096;
/// How often a question is asked anew because the connection that it was asked on has ended.
const CONNECTIONS: u32 = 20;
/// The header by which the server takes a message once, within a time that is long enough for two
/// processes that find the same.
const MESSAGE_ID: &str = "Nats-Msg-Id";

/// Looks for unreadable messages of one consumer.
#[derive(Clone)]
pub(crate) struct Lookout {
    bus: Bus,
    consumer: PullConsumer,
    letter: Letter,
    /// Everything up to here was looked at and is readable, or gone.
    seen: u64,
}

impl Lookout {
    pub(crate) const fn new(bus: Bus, consumer: PullConsumer, letter: Letter) -> Self {
        Self { bus, consumer, letter, seen: 0 }
    }

    /// Puts aside what the consumer has delivered, nobody has acknowledged, and nobody ever will;
    /// and, where there was any, what is about to be delivered. How many there were.
    ///
    /// # Errors
    /// The server does not answer, or a dead letter cannot be stored.
    pub(crate) async fn put_aside(&mut self, when: When) -> Result<usize, async_nats::Error> {
        let info = self
            .ask(|| async { self.consumer.get_info().await.map_err(async_nats::Error::from) })
            .await?;
        let idle = info.num_ack_pending == 0;
        if idle || (when == When::IfRedelivered && info.num_redelivered == 0) {
            return Ok(0);
        }
        let (first, last) =
            (info.ack_floor.stream_sequence.max(self.seen) + 1, info.delivered.stream_sequence);
        let mut found = self.walk(first, last).await?;
        self.seen = self.seen.max(last);
        let (mut next, mut more) = (last + 1, found > 0);
        while more {
            let ahead = self.walk(next, next + AHEAD - 1).await?;
            (found, next, more) = (found + ahead, next + AHEAD, ahead > 0);
        }
        if found > 0 {
            tracing::warn!(found, stream = %info.stream_name, "messages that cannot be read were put aside");
        }
        Ok(found)
    }

    /// Looks at every message from `first` to `last`.
    async fn walk(&self, first: u64, last: u64) -> Result<usize, async_nats::Error> {
        let found = AtomicUsize::new(0);
        let width = (last + 1).saturating_sub(first).div_ceil(LANES).max(1);
        let mut lanes: FuturesUnordered<_> = (first..=last)
            .step_by(usize::try_from(width)?)
            .map(|from| self.lane(from, last.min(from + width - 1), &found))
            .collect();
        while let Some(walked) = lanes.next().await {
            walked?;
        }
        drop(lanes);
        Ok(found.into_inner())
    }

    /// Looks at every message from `seq` to `last`, one after the other.
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
                self.bury(raw, why).await?;
                found.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// A block of headers as the consumer delivers it.
    fn delivered(&self, block: Vec<u8>) -> Vec<u8> {
        match self.consumer.cached_info().config.priority_policy {
            PriorityPolicy::PinnedClient => with_pin(block),
            _ => block,
        }
    }

    /// The first message from a sequence on.
    async fn from(&self, seq: u64) -> Result<Option<Raw>, async_nats::Error> {
        let (bus, stream) = (&self.bus, &self.consumer.cached_info().stream_name);
        self.ask(|| async move {
            raw::next(bus, stream, seq, ">").await.map_err(async_nats::Error::from)
        })
        .await
    }

    /// Makes a dead letter of a message, and takes it out of its stream.
    async fn bury(&self, raw: Raw, why: &'static str) -> Result<(), async_nats::Error> {
        let stream = &self.consumer.cached_info().stream_name;
        // Whoever finds the same message makes the same of it, and so does this process when it
        // missed the server's word.
        let id = format!("{stream}.{}.{}", raw.seq, raw.time);
        let body = raw.body()?;
        let message = Unreadable { seq: raw.seq, subject: raw.subject, body, why };
        let Some(mut letter) = (self.letter)(&message) else {
            tracing::error!(subject = %message.subject, "a dead letter has no name");
            return Ok(());
        };
        letter.headers.insert(MESSAGE_ID, id);
        let (bus, letter, seq) = (&self.bus, &letter, message.seq);
        self.ask(
            || async move { letter.clone().publish(bus).await.map_err(async_nats::Error::from) },
        )
        .await?;
        // Another process may have been faster.
        let deleted = self
            .ask(|| async move {
                let deleted = streams::delete(bus, stream, seq).await;
                deleted.map_err(async_nats::Error::from)
            })
            .await;
        if let Err(error) = deleted {
            tracing::debug!(subject = %message.subject, %error, "a message that cannot be read was not taken out");
        }
        Ok(())
    }

    /// Asks; and asks anew when the connection has ended meanwhile, since the answer went with it.
    async fn ask<T, F>(&self, question: impl Fn() -> F) -> Result<T, async_nats::Error>
    where
        F: Future<Output = Result<T, async_nats::Error>>,
    {
        let mut connections = self.bus.connections();
        for _ in 0..CONNECTIONS {
            tokio::select! {
                biased;
                answer = question() => return answer,
                Ok(()) = connections.changed() => {}
            }
        }
        question().await
    }
}

/// A block of headers with that of the server, which overwrites the last two bytes and writes a
/// block anew that has no more than those.
fn with_pin(mut block: Vec<u8>) -> Vec<u8> {
    match block.len() {
        0..=2 => block = b"NATS/1.0\r\n".to_vec(),
        length => block.truncate(length - 2),
    }
    block.extend_from_slice(b"Nats-Pin-Id: x\r\n\r\n");
    block
}

/// Whether the client reads a block of headers, and finds nothing but headers in it. It follows
/// what the client does, and must not be stricter: what was read by one must not be put aside by
/// another.
fn check(block: &[u8]) -> Result<(), &'static str> {
    if block.is_empty() {
        return Ok(());
    }
    let text = std::str::from_utf8(block).map_err(|_| "they are not UTF-8")?;
    let mut lines = text.lines().peekable();
    let version = lines.next().and_then(|line| line.strip_prefix("NATS/1.0"));
    match version.map(str::trim) {
        Some("") => {}
        Some(_) => return Err("they claim to be a status of the server"),
        None => return Err("they do not begin with NATS/1.0"),
    }
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let (name, value) = line.split_once(':').ok_or("a line is no header")?;
        name.parse::<HeaderName>().map_err(|_| "the name of a header is malformed")?;
        let mut value = value.trim_start().to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with(char::is_whitespace)) {
            value.push_str(more);
        }
        let value = value.trim_end().parse::<HeaderValue>();
        value.map_err(|_| "the value of a header holds a carriage return")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{check, with_pin};

    #[test]
    fn a_block_counts_as_it_is_delivered_with_a_header_of_the_server() {
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
    fn headers_are_told_from_what_the_client_cannot_read() {
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
