//! Trims the log: deletes its oldest flows before it is full, so that it accepts new requests.
//!
//! It deletes only acknowledged messages that are old enough for their flows to have finished. If
//! that is not enough, edges respond with 503 from 90 % on, and the rest is for flows that have
//! begun. A full log rejects messages; it never drops one silently.
//!
//! A full log can also block its own flows. The oldest message is acknowledged only after the log
//! has stored the messages that it causes, and only acknowledged messages can be deleted. So that
//! message becomes a dead letter, which makes room for the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use concert_runtime::bus::Bus;
use concert_runtime::clock;
use concert_runtime::nats::kv;
use concert_runtime::process::Shutdown;
use concert_runtime::streams::{
    LogLimits, LogState, SetupError, log_state, log_time_ms, purge_log,
};
use concert_wire::routes::LOG_FULL_KEY;
use tokio::sync::Notify;

/// Interval between checks of the log.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Trimming starts at the threshold and continues down to the target, both in percent of the log's
/// limit.
const TRIM_THRESHOLD: u64 = 80;
const TRIM_TARGET: u64 = 60;

/// Share of the log's limit, in percent, from which edges accept no new requests. The rest is for
/// the flows that have begun.
const FULL_THRESHOLD: u64 = 90;

/// State that the router and the trimmer share.
#[derive(Debug, Default)]
pub(crate) struct Growth {
    /// From this sequence on, the log may exceed a threshold.
    check_at: AtomicU64,
    grown: Notify,
    /// The message that blocks a full log, or 0.
    blocking: AtomicU64,
}

impl Growth {
    /// Starts a check if the log may have exceeded a threshold with this message.
    pub(crate) fn received(&self, seq: u64) {
        if seq >= self.check_at.load(Ordering::Relaxed) {
            self.check_at.store(u64::MAX, Ordering::Relaxed);
            self.grown.notify_one();
        }
    }

    /// Returns whether this message blocks the full log, and must become a dead letter.
    pub(crate) fn is_blocked_by(&self, seq: u64) -> bool {
        self.blocking.load(Ordering::Relaxed) == seq
    }
}

/// Trims the log until shutdown, and stores in the bucket whether it is nearly full.
pub(crate) async fn watch(
    bus: Bus,
    bucket: kv::Store,
    limits: LogLimits,
    growth: Arc<Growth>,
    shutdown: Shutdown,
) {
    let mut stored = None;
    loop {
        tokio::select! {
            () = shutdown.requested() => return,
            () = growth.grown.notified() => {}
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
        let (state, blocking) = match checked(&bus, &limits).await {
            Ok(state) => state,
            Err(error) => {
                tracing::debug!(%error, "cannot check the size of the log; retrying");
                continue;
            }
        };
        growth.blocking.store(blocking, Ordering::Relaxed);
        growth.check_at.store(next_check(&state, &limits), Ordering::Relaxed);
        let is_full = is_nearly_full(&state, &limits);
        if stored != Some(is_full) {
            match bucket.put(LOG_FULL_KEY, is_full.to_string().into()).await {
                Ok(_) => stored = Some(is_full),
                Err(error) => tracing::warn!(%error, "cannot store whether the log is nearly full"),
            }
        }
    }
}

/// The sequence with which the log may exceed its next threshold, if messages have the average size
/// of the stored ones.
fn next_check(state: &LogState, limits: &LogLimits) -> u64 {
    let room = measures(state, limits).filter_map(|measure| {
        let thresholds = [TRIM_THRESHOLD, FULL_THRESHOLD].map(|part| percent(measure.max, part));
        let next = thresholds.into_iter().find(|next| *next > measure.value)?;
        Some((next - measure.value) / measure.per_message)
    });
    room.min().map_or(u64::MAX, |room| state.last_sequence.saturating_add(room.max(1)))
}

fn is_nearly_full(state: &LogState, limits: &LogLimits) -> bool {
    measures(state, limits).any(|measure| measure.value >= percent(measure.max, FULL_THRESHOLD))
}

/// Fill level of the log, by one of its limits.
struct Measure {
    value: u64,
    max: u64,
    /// Amount that a message of average size adds, at least 1.
    per_message: u64,
}

/// The number of messages and their size, each if it is limited.
fn measures(state: &LogState, limits: &LogLimits) -> impl Iterator<Item = Measure> {
    let size = (state.bytes / state.messages.max(1)).max(1);
    [(state.messages, limits.max_messages(), 1), (state.bytes, limits.log_max_bytes, size)]
        .into_iter()
        .filter_map(|(value, max, per_message)| {
            let max = u64::try_from(max).ok().filter(|max| *max > 0)?;
            Some(Measure { value, max, per_message })
        })
}

/// Trims the log if necessary. Returns its state after that, and the message that blocks it, or 0.
async fn checked(bus: &Bus, limits: &LogLimits) -> Result<(LogState, u64), SetupError> {
    let state = log_state(bus).await?;
    let Some(before) = first_to_keep(&state, limits) else { return Ok((state, 0)) };
    match trim(bus, limits, &state, before).await {
        Ok(true) => return Ok((state, state.first_sequence)),
        Ok(false) => {}
        Err(error) => tracing::debug!(%error, "cannot trim the log; retrying"),
    }
    Ok((log_state(bus).await?, 0))
}

/// Deletes the messages before a sequence, or fewer if some are too recent. Returns whether the
/// oldest message blocks the full log: it is old enough and not acknowledged.
async fn trim(
    bus: &Bus,
    limits: &LogLimits,
    state: &LogState,
    mut before: u64,
) -> Result<bool, SetupError> {
    let first = state.first_sequence;
    let newest_ms = clock::now_ms().saturating_sub(limits.log_keep_seconds * 1000);
    if before <= first && is_full(state, limits) {
        let oldest_ms = log_time_ms(bus, first).await?;
        if oldest_ms.is_some_and(|time_ms| time_ms <= newest_ms) {
            tracing::warn!(
                message = first,
                "the log is full, and its oldest message waits for room; it becomes a dead \
                 letter; raise log.max_messages or log.max_bytes"
            );
            return Ok(true);
        }
    }
    // If a message is too recent, delete fewer.
    while before > first {
        match log_time_ms(bus, before).await? {
            Some(time_ms) if time_ms > newest_ms => before = first + (before - first) / 2,
            _ => {
                purge_log(bus, before).await?;
                tracing::info!(
                    from = first,
                    to = before - 1,
                    "the log is nearly full; deleted its oldest flows"
                );
                return Ok(false);
            }
        }
    }
    tracing::warn!(
        "the log is nearly full, and all its messages are recent; from 90 % on, requests get \
         503; raise log.max_messages or log.max_bytes, or lower log.keep_seconds"
    );
    Ok(false)
}

/// Returns whether the log may reject a message.
fn is_full(state: &LogState, limits: &LogLimits) -> bool {
    measures(state, limits).any(|measure| measure.value + measure.per_message > measure.max)
}

/// First sequence to keep, if the log exceeds its threshold in number or in size.
fn first_to_keep(state: &LogState, limits: &LogLimits) -> Option<u64> {
    let excess = measures(state, limits)
        .filter(|measure| measure.value >= percent(measure.max, TRIM_THRESHOLD))
        // In messages of average size; the next check corrects the estimate.
        .map(|measure| (measure.value - percent(measure.max, TRIM_TARGET)) / measure.per_message)
        .max()?;
    Some((state.first_sequence + excess).min(state.acknowledged + 1))
}

const fn percent(max: u64, part: u64) -> u64 {
    max / 100 * part + max % 100 * part / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(log_max_messages: i64, log_max_bytes: i64) -> LogLimits {
        LogLimits { log_max_messages, log_max_bytes, log_keep_seconds: 0, ..LogLimits::default() }
    }

    #[test]
    fn log_above_its_threshold_drops_only_acknowledged_messages() {
        let state = |messages, acknowledged| LogState {
            first_ms: None,
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
        // 1,000 messages of 50 bytes each.
        let size = limits(-1, 50_000);
        assert_eq!(first_to_keep(&state(799, 5000), &size), None);
        assert_eq!(first_to_keep(&state(800, 5000), &size), Some(1201));
        assert_eq!(first_to_keep(&state(900, 5000), &limits(1000, 100_000)), Some(1301));
        assert_eq!(first_to_keep(&state(0, 5000), &limits(1000, 1000)), None);
    }

    #[test]
    fn log_is_nearly_full_at_ninety_percent_of_either_limit() {
        let state = |messages, bytes| LogState {
            first_sequence: 1,
            first_ms: None,
            last_sequence: messages,
            messages,
            bytes,
            acknowledged: 0,
        };
        for (messages, bytes, expected) in
            [(899, 899, false), (900, 0, true), (0, 900, true), (1000, 1000, true)]
        {
            let is_full = is_nearly_full(&state(messages, bytes), &limits(1000, 1000));
            assert_eq!(is_full, expected, "{messages} {bytes}");
        }
        assert!(!is_nearly_full(&state(u64::MAX, u64::MAX), &limits(-1, 0)));
    }

    #[test]
    fn next_check_is_at_the_next_threshold() {
        let state = |messages, bytes| LogState {
            first_sequence: 1,
            first_ms: None,
            last_sequence: 5000,
            messages,
            bytes,
            acknowledged: 0,
        };
        for (messages, bytes, max_bytes, expected) in [
            (0, 0, 0, 5800),
            (700, 0, 0, 5100),
            (800, 0, 0, 5100),
            (900, 0, 0, u64::MAX),
            // 200 messages of 100 bytes are 80 percent.
            (100, 10_000, 25_000, 5100),
            (100, 24_000, 25_000, 5700),
        ] {
            let next = next_check(&state(messages, bytes), &limits(1000, max_bytes));
            assert_eq!(next, expected, "{messages} {bytes}");
        }
        assert_eq!(next_check(&state(0, 0), &limits(-1, 0)), u64::MAX);
    }
}
