//! The form of times in responses.

use concert_worker::store::DateTime;

/// A time with milliseconds, as `2026-01-02T03:04:05.678Z`.
pub(crate) fn rfc3339(time: DateTime) -> String {
    humantime::format_rfc3339_millis(time.to_system_time()).to_string()
}
