//! The clock, and new ids. The pure crates have neither; they receive times and ids as arguments.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use concert_wire::id::FlowId;
use uuid::Uuid;

/// Milliseconds since 1970 (UTC). Every wall-clock time comes from here, so that the chaos harness
/// can change it.
#[expect(clippy::disallowed_methods, reason = "the one place where the clock is read")]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let now_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    #[cfg(feature = "chaos")]
    let now_ms = now_ms.saturating_add_signed(crate::chaos::clock_offset_ms());
    now_ms
}

/// Id of a new flow: a UUIDv7, which contains the creation time.
pub fn new_flow() -> FlowId {
    let id = Uuid::now_v7();
    // The first 48 bits are the time.
    #[cfg(feature = "chaos")]
    let id = Uuid::from_u128(u128::from(now_ms()) << 80 | id.as_u128() & ((1 << 80) - 1));
    FlowId::new(id)
}
