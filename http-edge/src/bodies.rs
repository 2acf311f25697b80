//! Reads request bodies: maximum size, minimum rate, and slots that clients share fairly (ADR 33).

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use concert_runtime::blobs::Blobs;
use concert_runtime::setting::{DAY_MS, MESSAGE_BYTES_MAX};
use concert_wire::envelope::Object;
use concert_wire::large::{self, INLINE_MAX_BYTES, Place, VALUE_MAX_BYTES};
use concert_wire::nested;
use concert_wire::routes::Route;
use concert_wire::value;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::body_slots::{BodySlot, BodySlots};
use crate::client::Holder;
use crate::error::{EdgeError, Misfit};
use crate::pace::Other;
use crate::quotas::Quotas;
use crate::scan::{NO_REFERENCE, accepts_large};
use crate::uploads::{Uploads, has_large};

/// Limits of request bodies: a part of the section `[http]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BodyLimits {
    /// Maximum request body size in bytes, without large values; larger bodies get 413. The limit is
    /// never higher than about three quarters of the message size of NATS (`max_payload`).
    #[schemars(range(min = 1, max = MESSAGE_BYTES_MAX))]
    pub body_limit_bytes: usize,
    /// Maximum characters of a string in a request body, for strings without a length in the
    /// concept specs; longer strings get 400. Large values (strings of more than 32 KiB, except
    /// secrets and IDs) are exempt. The default has the same number (32,768) as the size in bytes
    /// from which a string is a large value, so it rejects only long secrets and IDs. 0 disables
    /// the limit.
    pub string_limit_chars: u32,
    /// Maximum size of a large value, in bytes; a larger one gets 413. A large value is a string of
    /// more than 32 KiB in a request body; it is stored beside the log. A body as a whole, as it is
    /// sent, may have this size plus `http.body_limit_bytes`. With the default, a file that is sent
    /// in base64 may have 48 MiB. 0 turns large values off.
    #[schemars(range(min = 0, max = VALUE_MAX_BYTES))]
    pub large_value_limit_bytes: u64,
    /// Maximum size of the stored large values of one client address (per /64 for IPv6), in percent
    /// of `log.large_values_max_bytes`, for the requests of one edge; further requests with large
    /// values get 429 until the oldest values expire. 100 turns the limit off.
    #[schemars(range(min = 1, max = 100))]
    pub client_large_values_percent: u8,
    /// Maximum number of concurrent requests with large values; excess requests get 503.
    #[schemars(range(min = 1, max = 1024))]
    pub max_uploads: usize,
    /// Maximum number of concurrent responses with large values; excess responses wait, and get 503
    /// after `http.deadline_ms`.
    #[schemars(range(min = 1, max = 1024))]
    pub max_downloads: usize,
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
            large_value_limit_bytes: VALUE_MAX_BYTES,
            client_large_values_percent: 25,
            max_uploads: 16,
            max_downloads: 64,
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
    /// `None` if large values are turned off.
    uploads: Option<Uploads>,
}

/// A request body.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Received {
    /// The body, with references to its large values.
    pub(crate) object: Object,
    /// Size of the large values, in bytes.
    pub(crate) large_bytes: u64,
}

impl Bodies {
    /// Maximum characters of a string without a declared length.
    pub(crate) fn max_chars(&self) -> Option<u32> {
        Some(self.limits.string_limit_chars).filter(|max| *max > 0)
    }

    /// `slots`: maximum number of bodies that are read concurrently. `max_payload`: maximum message
    /// size of NATS, in bytes. `blobs`: stores large values, with the quota of each client.
    pub(crate) fn new(
        limits: &BodyLimits,
        slots: usize,
        max_payload: usize,
        blobs: Option<(Blobs, Quotas)>,
    ) -> Self {
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
        let uploads = blobs.and_then(|blobs| Uploads::new(&limits, blobs));
        Self { limits, slots: BodySlots::new(slots), uploads }
    }

    /// Starts a request. Uploads pause while it is in progress, if it has no large values.
    pub(crate) fn other(&self, large_bytes: u64) -> Option<Other> {
        self.uploads.as_ref().filter(|_| large_bytes == 0).map(Uploads::other)
    }

    /// True if a new client can send a body now.
    pub(crate) fn has_room(&self) -> bool {
        self.slots.has_room()
    }

    /// Reads and parses a body. Large values in keys of the route are stored at the place; with
    /// `None`, those in all keys.
    ///
    /// # Errors
    /// It is not JSON, too large or too slow, other clients need the slot, or a large value cannot
    /// be stored.
    pub(crate) async fn read(
        &self,
        client: Option<Holder>,
        headers: &HeaderMap,
        body: Body,
        deadline: Instant,
        (route, place): (Option<&Route>, Place),
    ) -> Result<Received, EdgeError> {
        // A body of no bytes has no type.
        if !is_json(headers) && !body.is_end_stream() {
            return Err(EdgeError::ContentType);
        }
        let slot = self.slots.take(client).ok_or(EdgeError::Overloaded)?;
        let may_be_large = |route: &Route| route.keys.values().any(|key| accepts_large(&key.kind));
        let uploads = self.uploads.as_ref().filter(|_| route.is_none_or(may_be_large));
        let limit = self.limits.body_limit_bytes;
        let total = limit + uploads.map_or(0, Uploads::limit);
        let announced = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > u64::try_from(total).unwrap_or(u64::MAX)) {
            return Err(EdgeError::TooLarge(total));
        }
        let mut incoming = Incoming::new(&self.limits, (body, total), slot);
        let mut bytes = BytesMut::new();
        let mut is_whole = false;
        while !is_whole && bytes.len() <= limit {
            match incoming.next(Some(deadline)).await? {
                Some(part) => bytes.extend_from_slice(&part),
                None => is_whole = true,
            }
        }
        if is_whole {
            let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
            let object =
                value::object(text).map_err(|error| EdgeError::BadRequest(error.to_string()))?;
            let is_small = bytes.len() as u64 <= INLINE_MAX_BYTES;
            if uploads.is_none() || is_small || !has_large(route, &object) {
                refuse_references(route, &object)?;
                return Ok(Received { object, large_bytes: 0 });
            }
        }
        // Without uploads, a body that exceeds the limit does not get here.
        let uploads = uploads.ok_or(EdgeError::TooLarge(limit))?;
        incoming.upload_slot = Some(uploads.take_slot(client)?);
        let body = (bytes.freeze(), incoming, is_whole);
        uploads.read(client, body, (route, place), limit).await
    }
}

/// Refuses a text in the form of a reference: it would read a value of another client.
fn refuse_references(route: Option<&Route>, body: &Object) -> Result<(), EdgeError> {
    let holds = |name: &&String| nested::get(body, name).is_some_and(large::holds_reference);
    let found = match route {
        None => body.keys().find(|name| body.get(*name).is_some_and(large::holds_reference)),
        Some(route) => {
            let plain = route.keys.iter().filter(|(_, key)| !key.secret);
            plain.map(|(name, _)| name).find(holds)
        }
    };
    found.map_or(Ok(()), |name| Err(Misfit::new(name, NO_REFERENCE).into()))
}

/// A body that is being received.
pub(crate) struct Incoming<'a> {
    body: Limited<Body>,
    limits: &'a BodyLimits,
    /// Maximum size, in bytes.
    total: usize,
    slot: BodySlot,
    upload_slot: Option<BodySlot>,
    began: Instant,
    received: usize,
}

impl<'a> Incoming<'a> {
    fn new(limits: &'a BodyLimits, (body, total): (Body, usize), slot: BodySlot) -> Self {
        let body = Limited::new(body, total);
        let began = Instant::now();
        Self { body, limits, total, slot, upload_slot: None, began, received: 0 }
    }

    /// Excludes a time in which the edge did not read from the minimum rate.
    pub(crate) fn exclude(&mut self, paused: Duration) {
        self.began += paused;
    }

    /// Receives the next part; `None` at the end. Only the minimum rate limits the time without a
    /// deadline.
    pub(crate) async fn next(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<Option<Bytes>, EdgeError> {
        loop {
            let late = self.began + self.allowed();
            let late = deadline.map_or(late, |deadline| deadline.min(late));
            let frame = tokio::select! {
                biased;
                frame = self.body.frame() => frame,
                () = lost(&mut self.slot, &mut self.upload_slot) => {
                    return Err(EdgeError::Overloaded);
                }
                () = tokio::time::sleep_until(late) => return Err(EdgeError::SlowBody),
            };
            match frame {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.received += data.len();
                        return Ok(Some(data));
                    }
                }
                Some(Err(error)) if error.is::<LengthLimitError>() => {
                    return Err(EdgeError::TooLarge(self.total));
                }
                Some(Err(_)) => return Err(EdgeError::BadRequest("cannot read the body".into())),
            }
        }
    }

    /// Time that the first bytes of a body may take, and the next byte may wait.
    fn allowed(&self) -> Duration {
        let rate = f64::from(self.limits.body_min_bytes_per_second);
        Duration::from_millis(self.limits.body_grace_ms)
            + Duration::from_secs_f64(self.received as f64 / rate)
    }
}

/// Completes when another client takes one of the slots over.
async fn lost(slot: &mut BodySlot, upload_slot: &mut Option<BodySlot>) {
    let upload_slot = async {
        match upload_slot {
            Some(slot) => drop((&mut slot.lost).await),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = &mut slot.lost => {}
        () = upload_slot => {}
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
    const PLACE: Place = Place::new([7; 16]);

    fn bodies(slots: usize) -> Bodies {
        Bodies::new(&BodyLimits::default(), slots, 2 << 20, None)
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
        let read =
            bodies.read(client, &headers, body, Instant::now() + DEADLINE, (None, PLACE)).await;
        read.map(|received| received.object)
    }

    #[tokio::test]
    async fn text_in_the_form_of_a_reference_is_rejected() {
        let look_alike = format!("large:{}:40000:{}", "A".repeat(22), "0".repeat(64));
        let body = format!(r#"{{"a":[{{"b":"{look_alike}"}}]}}"#);
        let refused = read(&bodies(8), 1, Body::from(body)).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "`a` must not have the form of a reference to a large value"
        );
        assert!(read(&bodies(8), 1, Body::from(r#"{"a":"large: yes"}"#)).await.is_ok());
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
        let bodies = Bodies::new(&limits, 8, 1 << 20, None);
        let effective = ((1 << 20) - 4096) / 4 * 3;
        let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(effective));
        let refused = read(&bodies, 1, Body::from(large)).await;
        assert_eq!(refused, Err(EdgeError::TooLarge(effective)));
    }
}
