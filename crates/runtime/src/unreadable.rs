//! Messages that the NATS client cannot read.
//!
//! The server takes any bytes as headers. The client reads them strictly: a block that it does not understand ends its connection, a bare carriage return in a value ends the client
//! (nats.rs, pull request 1612), and a status in the first line is taken for the server's own word. Such a message would come again after each reconnection, for ever, and with it nothing else.
//! So whoever takes messages looks, whenever a connection began, for what was delivered and not acknowledged, in a form whose headers the client does not touch, and puts aside what it could not read.

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::{HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::bus::Bus;

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

/// When it is worth a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    Always,
    /// If something that was delivered again waits still, as what nobody reads does.
    IfRedelivered,
}

#[derive(Serialize)]
struct Get {
    seq: u64,
    /// The first message from `seq` on that has any subject.
    next_by_subj: &'static str,
}

#[derive(Deserialize)]
struct Got {
    message: Option<Raw>,
}

#[derive(Deserialize)]
struct Raw {
    seq: u64,
    subject: String,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

/// What a consumer has delivered, nobody has acknowledged, and nobody ever will.
///
/// # Errors
/// The server does not answer.
pub(crate) async fn find(
    bus: &Bus,
    consumer: &mut PullConsumer,
    look: Look,
) -> Result<Vec<Unreadable>, async_nats::Error> {
    let info = consumer.info().await?.clone();
    let stream = &info.stream_name;
    let last = info.delivered.stream_sequence;
    let mut seq = info.ack_floor.stream_sequence + 1;
    let mut found = Vec::new();
    let idle = info.num_ack_pending == 0;
    if idle || (look == Look::IfRedelivered && info.num_redelivered == 0) {
        return Ok(found);
    }
    while seq <= last {
        let next = Get { seq, next_by_subj: ">" };
        let got: Got = bus.jetstream.request(format!("STREAM.MSG.GET.{stream}"), &next).await?;
        // Without a message it is an error: there is none from here on.
        let Some(raw) = got.message.filter(|raw| raw.seq <= last) else {
            break;
        };
        seq = raw.seq + 1;
        if let Err(why) = check(&STANDARD.decode(raw.hdrs)?) {
            found.push(Unreadable {
                seq: raw.seq,
                subject: raw.subject,
                body: STANDARD.decode(raw.data)?,
                why,
            });
        }
    }
    Ok(found)
}

/// Whether the client reads a block of headers, and finds nothing but headers in it. It follows what the client does, and must not be stricter: what was read by one must not be put aside by another.
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
        name.parse::<HeaderName>()
            .map_err(|_| "the name of a header is malformed")?;
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
    use super::check;

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
