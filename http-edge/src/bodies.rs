//! Reads request bodies: maximum size, minimum rate, and slots that clients share fairly (ADR 33).

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use concert_runtime::setting::{DAY_MS, MESSAGE_BYTES_MAX};
use concert_wire::envelope::Object;
use concert_wire::value;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::body_slots::{BodySlot, BodySlots};
use crate::client::Holder;
use crate::error::EdgeError;

/// Limits of request bodies: a part of the section `[http]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BodyLimits {
    /// Maximum request body size in bytes; larger bodies get 413. The message size of NATS
    /// (`max_payload`) is a limit as well.
    #[schemars(range(min = 1, max = MESSAGE_BYTES_MAX))]
    pub body_limit_bytes: usize,
    /// Maximum characters of a string in a request body, for strings without a length in the
    /// concept specs; longer strings get 400. 0 disables the limit.
    pub string_limit_chars: u32,
    /// Time in which a request body may arrive at any rate, in milliseconds. After that, bodies
    /// slower than `http.body_min_bytes_per_second` get 408.
    #[schemars(range(min = 1, max = DAY_MS))]
    pub body_grace_ms: u64,
    /// Minimum average rate of a request body, in bytes per second, after `http.body_grace_ms`.
    #[schemars(range(min = 1, max = u32::MAX))]
    pub body_min_bytes_per_second: u32,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self {
            body_limit_bytes: 256 * 1024,
            string_limit_chars: 32 * 1024,
            body_grace_ms: 5000,
            body_min_bytes_per_second: 4096,
        }
    }
}

/// Reserved in a message for headers and the envelope.
const ENVELOPE_BYTES: usize = 4096;

/// Reads the bodies of requests.
pub(crate) struct Bodies {
    limits: BodyLimits,
    slots: Arc<BodySlots>,
}

impl Bodies {
    /// Maximum characters of a string without a declared length.
    pub(crate) fn max_chars(&self) -> Option<u32> {
        Some(self.limits.string_limit_chars).filter(|max| *max > 0)
    }

    /// `slots`: maximum number of bodies that are read concurrently. `max_payload`: maximum message
    /// size of NATS, in bytes.
    pub(crate) fn new(limits: &BodyLimits, slots: usize, max_payload: usize) -> Self {
        let mut limits = limits.clone();
        let fitting = fitting(max_payload);
        if limits.body_limit_bytes > fitting {
            tracing::warn!(
                configured = limits.body_limit_bytes,
                effective = fitting,
                max_payload,
                "http.body_limit_bytes exceeds the message size of NATS; increase max_payload"
            );
            limits.body_limit_bytes = fitting;
        }
        Self { limits, slots: BodySlots::new(slots) }
    }

    /// True if a new client can send a body now.
    pub(crate) fn has_room(&self) -> bool {
        self.slots.has_room()
    }

    /// Reads and parses a body.
    ///
    /// # Errors
    /// It is not JSON, too large or too slow, or other clients need the slot.
    pub(crate) async fn read(
        &self,
        client: Option<Holder>,
        headers: &HeaderMap,
        body: Body,
        deadline: Instant,
    ) -> Result<Object, EdgeError> {
        if !is_json(headers) {
            return Err(EdgeError::ContentType);
        }
        let slot = self.slots.take(client).ok_or(EdgeError::Overloaded)?;
        let limit = self.limits.body_limit_bytes;
        let announced = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > u64::try_from(limit).unwrap_or(u64::MAX)) {
            return Err(EdgeError::TooLarge(limit));
        }
        let bytes = self.bytes(slot, body, deadline).await?;
        value::object(&bytes).map_err(|error| EdgeError::BadRequest(error.to_string()))
    }

    async fn bytes(
        &self,
        mut slot: BodySlot,
        body: Body,
        deadline: Instant,
    ) -> Result<Bytes, EdgeError> {
        let limit = self.limits.body_limit_bytes;
        let mut body = Limited::new(body, limit);
        let mut bytes = BytesMut::new();
        let began = Instant::now();
        loop {
            let late = deadline.min(began + self.allowed(bytes.len()));
            let frame = tokio::select! {
                biased;
                frame = body.frame() => frame,
                _ = &mut slot.lost => return Err(EdgeError::Overloaded),
                () = tokio::time::sleep_until(late) => return Err(EdgeError::SlowBody),
            };
            match frame {
                None => return Ok(bytes.freeze()),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        bytes.extend_from_slice(data);
                    }
                }
                Some(Err(error)) if error.is::<LengthLimitError>() => {
                    return Err(EdgeError::TooLarge(limit));
                }
                Some(Err(_)) => return Err(EdgeError::BadRequest("cannot read the body".into())),
            }
        }
    }

    /// Time that the first bytes of a body may take, and the next byte may wait.
    fn allowed(&self, received: usize) -> Duration {
        let rate = f64::from(self.limits.body_min_bytes_per_second);
        Duration::from_millis(self.limits.body_grace_ms)
            + Duration::from_secs_f64(received as f64 / rate)
    }
}

/// Size of the largest body that fits into a message. Encryption makes secrets a third larger.
fn fitting(max_payload: usize) -> usize {
    max_payload.saturating_sub(ENVELOPE_BYTES) / 4 * 3
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(content_type) =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok())
    else {
        return false;
    };
    content_type
        .split(';')
        .next()
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::http::HeaderValue;
    use futures_util::stream;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(60);

    fn bodies(slots: usize) -> Bodies {
        Bodies::new(&BodyLimits::default(), slots, 2 << 20)
    }

    /// A body that arrives in chunks, one in each interval.
    fn trickle(bytes: usize, chunk: usize, interval: Duration) -> Body {
        let rest = Bytes::from(format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes)));
        Body::from_stream(stream::unfold(rest, move |mut rest| async move {
            if rest.is_empty() {
                return None;
            }
            tokio::time::sleep(interval).await;
            let chunk = rest.split_to(chunk.min(rest.len()));
            Some((Ok::<_, Infallible>(chunk), rest))
        }))
    }

    async fn read(bodies: &Bodies, client: u8, body: Body) -> Result<Object, EdgeError> {
        let json = HeaderValue::from_static("application/json");
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, json)]);
        let client = Some(Holder::V4([192, 0, 2, client]));
        bodies.read(client, &headers, body, Instant::now() + DEADLINE).await
    }

    #[tokio::test(start_paused = true)]
    async fn body_below_the_minimum_rate_is_rejected_after_the_grace_time() {
        let began = Instant::now();
        let slow = read(&bodies(8), 1, trickle(100, 1, Duration::from_millis(200))).await;
        assert_eq!(slow, Err(EdgeError::SlowBody));
        assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
        let quick = read(&bodies(8), 1, trickle(100_000, 1000, Duration::from_millis(100))).await;
        assert!(quick.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn slow_bodies_of_two_clients_do_not_block_a_third() {
        let bodies = Arc::new(bodies(64));
        let mut slow = tokio::task::JoinSet::new();
        for number in 0..200_u8 {
            let bodies = bodies.clone();
            slow.spawn(async move {
                read(&bodies, 1 + number % 2, trickle(100, 1, Duration::from_secs(1))).await
            });
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(bodies.has_room());
        assert!(read(&bodies, 3, Body::from(r#"{"a":1}"#)).await.is_ok());
        let rejected = slow.join_all().await;
        assert!(rejected.contains(&Err(EdgeError::Overloaded)));
        assert!(rejected.contains(&Err(EdgeError::SlowBody)));
    }

    #[tokio::test]
    async fn limit_that_exceeds_the_message_size_is_lowered_and_named() {
        let limits = BodyLimits { body_limit_bytes: 8_000_000, ..BodyLimits::default() };
        let bodies = Bodies::new(&limits, 8, 1 << 20);
        let effective = ((1 << 20) - 4096) / 4 * 3;
        let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(effective));
        let refused = read(&bodies, 1, Body::from(large)).await;
        assert_eq!(refused, Err(EdgeError::TooLarge(effective)));
    }
}
