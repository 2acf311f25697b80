//! Time of the log's oldest message. An invocation of an older flow does not run, because it is
//! unknown whether it already completed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use concert_runtime::bus::Bus;
use concert_runtime::process::Shutdown;
use concert_runtime::streams;
use concert_wire::id::FlowId;

/// Interval between reads of the log's oldest message. Its time only increases, so an outdated
/// value admits more invocations, never fewer.
const POLL_INTERVAL: Duration = Duration::from_secs(30);
/// Maximum difference between the clock of a flow id and the server's clock.
pub(crate) const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// The time of the log's first message.
#[derive(Debug, Clone, Default)]
pub(crate) struct OldestMessageTime(Arc<AtomicU64>);

impl OldestMessageTime {
    /// Reads the time once, and then in the background until shutdown.
    pub(crate) async fn watch(bus: Bus, shutdown: Shutdown) -> Result<Self, streams::SetupError> {
        let start = Self::default();
        start.read(&bus).await?;
        let watched = start.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = shutdown.requested() => return,
                    () = tokio::time::sleep(POLL_INTERVAL) => {}
                }
                if let Err(error) = watched.read(&bus).await {
                    tracing::debug!(%error, "cannot read the time of the log's oldest message");
                }
            }
        });
        Ok(start)
    }

    async fn read(&self, bus: &Bus) -> Result<(), streams::SetupError> {
        let log = streams::existing_log(bus).await?;
        let info = log.cached_info();
        let first_ms = first_ms(
            info.state.messages,
            info.state.first_timestamp.unix_timestamp_nanos(),
            info.state.last_timestamp.unix_timestamp_nanos(),
            info.created.unix_timestamp_nanos(),
        );
        self.0.fetch_max(first_ms, Ordering::Relaxed);
        Ok(())
    }

    /// Returns whether the log begins after the flow was created.
    pub(crate) fn is_after(&self, flow: FlowId) -> bool {
        let skew_ms = u64::try_from(CLOCK_SKEW.as_millis()).unwrap_or(0);
        flow.created_before_ms()
            .is_some_and(|born_ms| born_ms + skew_ms < self.0.load(Ordering::Relaxed))
    }
}

/// Time at which a log begins, in milliseconds since 1970. The inputs are server times in
/// nanoseconds: of the first and last message, and of the stream's creation.
///
/// An empty log begins after its last message, or at its creation if it never had one. The local
/// clock is not used: if it ran ahead, every flow would be older than the log.
fn first_ms(messages: u64, first_ns: i128, last_ns: i128, created_ns: i128) -> u64 {
    let first_ns = if messages == 0 { last_ns.max(created_ns) } else { first_ns };
    u64::try_from(first_ns / 1_000_000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use concert_wire::id::ActionId;

    use super::*;

    #[test]
    fn empty_log_begins_after_its_last_message_or_at_creation() {
        const NEVER: i128 = -62_135_596_800_000_000_000;
        assert_eq!(first_ms(2, 5_000_000, 9_000_000, 3_000_000), 5);
        assert_eq!(first_ms(0, NEVER, 9_000_000, 3_000_000), 9);
        assert_eq!(first_ms(0, NEVER, NEVER, 3_000_000), 3);
    }

    #[test]
    fn flow_older_than_the_log_is_detected_with_tolerance() {
        let start = OldestMessageTime::default();
        start.0.store(1_700_000_100_000, Ordering::Relaxed);
        let born = |ms: u64| ActionId::injected("S", 1, ms * 1_000_000).as_root();
        assert!(start.is_after(born(1_700_000_000_000)));
        assert!(!start.is_after(born(1_700_000_050_000)));
        assert!(!start.is_after(born(1_700_000_200_000)));
        let random: FlowId = "6d1c6f9e-8a4b-4c8e-9d3f-0a1b2c3d4e5f".parse().unwrap();
        assert!(!start.is_after(random));
    }
}
