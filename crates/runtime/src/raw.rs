//! Stored messages in a form whose headers the NATS client does not parse. The stream's leader
//! returns them.

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::bus::Bus;

/// Error code for a missing message.
const NOT_FOUND: u64 = 10037;

#[derive(Serialize)]
struct Get<'a> {
    seq: u64,
    next_by_subj: &'a str,
}

#[derive(Deserialize)]
struct Got {
    message: Option<Raw>,
    error: Option<ApiError>,
}

/// Error that the server returns instead of a message.
#[derive(Debug, Deserialize, thiserror::Error)]
#[error("{description} ({err_code})")]
pub(crate) struct ApiError {
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// A stored message.
#[derive(Debug, Deserialize)]
pub(crate) struct Raw {
    /// Sequence in its stream.
    pub(crate) seq: u64,
    /// Its subject.
    pub(crate) subject: String,
    /// Header block, in base64.
    #[serde(default)]
    pub(crate) hdrs: String,
    /// Body, in base64.
    #[serde(default)]
    pub(crate) data: String,
    /// Time of storage, in the server's format.
    #[serde(default)]
    pub(crate) time: String,
}

/// Error of a read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RawError {
    #[error(transparent)]
    Request(#[from] async_nats::jetstream::context::RequestError),
    #[error(transparent)]
    Refused(#[from] ApiError),
}

/// Reads the first message of a stream from a sequence on, on a subject that may have wildcards;
/// `None` if there is no such message.
pub(crate) async fn next(
    bus: &Bus,
    stream: &str,
    seq: u64,
    subject: &str,
) -> Result<Option<Raw>, RawError> {
    let request = Get { seq, next_by_subj: subject };
    let got: Got = bus.jetstream.request(format!("STREAM.MSG.GET.{stream}"), &request).await?;
    match got.error {
        Some(error) if error.err_code != NOT_FOUND => Err(error.into()),
        _ => Ok(got.message),
    }
}

impl Raw {
    /// The body.
    pub(crate) fn body(&self) -> Result<Vec<u8>, base64::DecodeError> {
        STANDARD.decode(&self.data)
    }

    /// Header block, unparsed.
    pub(crate) fn header_block(&self) -> Result<Vec<u8>, base64::DecodeError> {
        STANDARD.decode(&self.hdrs)
    }

    /// The valid headers; there may be none.
    pub(crate) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let block = self.header_block().unwrap_or_default();
        for line in String::from_utf8_lossy(&block).lines().skip(1) {
            let header = line.split_once(':').and_then(|(name, value)| {
                let value = value.trim().parse::<HeaderValue>().ok()?;
                Some((name.parse::<HeaderName>().ok()?, value))
            });
            if let Some((name, value)) = header {
                headers.append(name, value);
            }
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_returns_the_valid_headers_of_any_block() {
        let parse = |block: &[u8]| {
            let raw = Raw {
                seq: 1,
                subject: "s".to_owned(),
                hdrs: STANDARD.encode(block),
                data: String::new(),
                time: String::new(),
            };
            let headers = raw.headers();
            let deadline = headers.get("Concert-Deadline").map(ToString::to_string);
            (headers.len(), deadline)
        };
        let good = b"NATS/1.0\r\nConcert-Deadline: 17\r\nA:b\r\n\r\n";
        assert_eq!(parse(good), (2, Some("17".to_owned())));
        assert_eq!(
            parse(b"XX\r\nConcert-Deadline: 17\r\nno header\r\nA b: c\r\n"),
            (1, Some("17".to_owned()))
        );
        for none in [&b""[..], b"N", b"NATS/1.0\r\n\r\n", b"\xff\xff"] {
            assert_eq!(parse(none), (0, None));
        }
    }
}
