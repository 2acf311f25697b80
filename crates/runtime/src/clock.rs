//! The clock and fresh ids. The pure crates have neither: what they need of them comes from here as
//! a value.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use concert_wire::id::FlowId;
use uuid::Uuid;

/// Milliseconds since 1970 (UTC). Every wall clock is read here, so that the chaos harness can set
/// it.
#[expect(clippy::disallowed_methods, reason = "the one place where the clock is read")]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let now_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    #[cfg(feature = "chaos")]
    let now_ms = now_ms.saturating_add_signed(crate::chaos::clock_offset_ms());
    now_ms
}

/// The id of a new flow: a UUIDv7, so that it tells when the flow was born.
pub fn new_flow() -> FlowId {
    let id = Uuid::now_v7();
    // Its first 48 bits are the time.
    #[cfg(feature = "chaos")]
    let id = Uuid::from_u128(u128::from(now_ms()) << 80 | id.as_u128() & ((1 << 80) - 1));
    FlowId::new(id)
}
