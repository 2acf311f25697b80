//! The log's end: before the log is full, its oldest flows are let go, so that new requests are
//! taken.
//!
//! Only what the routers have acknowledged goes, and only what is old enough that its flow has
//! ended. When that is not enough the log becomes full and refuses: edges answer 503, and nothing
//! is lost in silence.

use std::time::Duration;

use concert_runtime::bus::Bus;
use concert_runtime::clock;
use concert_runtime::process::Shutdown;
use concert_runtime::streams::{
    LogLimits, LogState, SetupError, log_state, log_time_ms, purge_log,
};

/// How often the log is looked at.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// The soft mark, and how far the log is brought down from it, in hundredths of its bound.
const TRIM_THRESHOLD: u64 = 80;
const TRIM_TARGET: u64 = 60;

/// Looks after the log until shutdown.
pub(crate) async fn watch(bus: Bus, limits: LogLimits, shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = shutdown.requested() => return,
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
        if let Err(error) = trim(&bus, &limits).await {
            tracing::debug!(%error, "the log cannot be looked after now");
        }
    }
}

async fn trim(bus: &Bus, limits: &LogLimits) -> Result<(), SetupError> {
    let state = log_state(bus).await?;
    let Some(mut before) = first_to_keep(&state, limits) else {
        return Ok(());
    };
    let first = state.first_sequence;
    let newest_ms = clock::now_ms().saturating_sub(limits.log_keep_seconds * 1000);
    // Where the messages are too young, fewer go.
    while before > first {
        match log_time_ms(bus, before).await? {
            Some(time_ms) if time_ms > newest_ms => before = first + (before - first) / 2,
            _ => {
                purge_log(bus, before).await?;
                tracing::info!(
                    from = first,
                    to = before - 1,
                    "the log is nearly full; its oldest flows are let go"
                );
                return Ok(());
            }
        }
    }
    tracing::warn!(
        "the log is nearly full, and all of it is young; past its bound requests are answered with 503"
    );
    Ok(())
}

/// The first sequence that stays, if the log is past its soft mark, in number or in size.
fn first_to_keep(state: &LogState, limits: &LogLimits) -> Option<u64> {
    let excess = excess(state.messages, limits.log_max_messages)
        // As many as take the bytes that are too many, as if all were of one size; the next look
        // sees what is left.
        .max(
            excess(state.bytes, limits.log_max_bytes)
                .map(|bytes| bytes / (state.bytes / state.messages.max(1)).max(1)),
        )?;
    Some((state.first_sequence + excess).min(state.acknowledged + 1))
}

/// By how much something is above what it is brought down to, if it is past its soft mark; no bound
/// has none.
fn excess(there: u64, max: i64) -> Option<u64> {
    let max = u64::try_from(max).ok().filter(|max| *max > 0)?;
    let hundredths = |part: u64| max / 100 * part + max % 100 * part / 100;
    (there >= hundredths(TRIM_THRESHOLD)).then(|| there - hundredths(TRIM_TARGET))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(log_max_messages: i64, log_max_bytes: i64) -> LogLimits {
        LogLimits {
            log_max_age_hours: 24,
            log_max_messages,
            log_max_bytes,
            queue_max_messages: 1,
            queue_max_bytes: 0,
            log_keep_seconds: 0,
            stream_replicas: 1,
        }
    }

    #[test]
    fn only_a_log_past_its_soft_mark_lets_go_and_only_of_what_is_acknowledged() {
        let state = |messages, acknowledged| LogState {
            first_sequence: 1001,
            last_sequence: 9000,
            messages,
            bytes: messages * 50,
            acknowledged,
        };
        let number = limits(1000, 0);
        assert_eq!(first_to_keep(&state(799, 5000), &number), None);
        assert_eq!(first_to_keep(&state(800, 5000), &number), Some(1201));
        assert_eq!(first_to_keep(&state(1000, 5000), &number), Some(1401));
        assert_eq!(first_to_keep(&state(1000, 1100), &number), Some(1101));
        assert_eq!(first_to_keep(&state(1000, 5000), &limits(-1, 0)), None);
        // 1,000 of 50 bytes each.
        let size = limits(-1, 50_000);
        assert_eq!(first_to_keep(&state(799, 5000), &size), None);
        assert_eq!(first_to_keep(&state(800, 5000), &size), Some(1201));
        assert_eq!(first_to_keep(&state(900, 5000), &limits(1000, 100_000)), Some(1301));
        assert_eq!(first_to_keep(&state(0, 5000), &limits(1000, 1000)), None);
    }
}
