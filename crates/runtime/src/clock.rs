//! The clock and fresh ids. The pure crates have neither: what they need of them comes from here as a value.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use concert_wire::id::FlowId;
use uuid::Uuid;

/// Milliseconds since 1970 (UTC).
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The id of a new flow: a UUIDv7, so that it tells when the flow was born.
pub fn new_flow() -> FlowId {
    FlowId::new(Uuid::now_v7())
}
