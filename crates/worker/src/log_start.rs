//! Where the log begins: an invocation whose flow is older than that is not carried out, since
//! nobody can tell any more whether it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use concert_runtime::bus::Bus;
use concert_runtime::process::Shutdown;
use concert_runtime::streams;
use concert_wire::id::FlowId;

/// How often the log's beginning is looked at. It only moves forward, so an old view lets more
/// through, never less.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// By how much the clock that a flow id was made with may be behind the server's.
pub(crate) const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// The time of the log's first message.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogStart(Arc<AtomicU64>);

impl LogStart {
    /// Looks once, and from then on in the background until shutdown.
    pub(crate) async fn watch(bus: Bus, shutdown: Shutdown) -> Result<Self, streams::SetupError> {
        let start = Self::default();
        start.look(&bus).await?;
        let watched = start.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = shutdown.requested() => return,
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
                if let Err(error) = watched.look(&bus).await {
                    tracing::debug!(%error, "the log's beginning cannot be looked at now");
                }
            }
        });
        Ok(start)
    }

    async fn look(&self, bus: &Bus) -> Result<(), streams::SetupError> {
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

    /// Whether the flow was certainly born before the log's first message.
    pub(crate) fn is_after(&self, flow: FlowId) -> bool {
        let skew_ms = u64::try_from(CLOCK_SKEW.as_millis()).unwrap_or(0);
        flow.created_before_ms()
            .is_some_and(|born_ms| born_ms + skew_ms < self.0.load(Ordering::Relaxed))
    }
}

/// Time at which a log begins, in milliseconds since 1970, from the server's times in nanoseconds:
/// of the first and the last message, and of the creation of the stream.
///
/// An empty log begins after its last message, or with its creation if it never had one. Both are
/// the server's times: by a clock of ours that runs ahead, every flow would be older than the log.
fn first_ms(messages: u64, first_ns: i128, last_ns: i128, created_ns: i128) -> u64 {
    let first_ns = if messages == 0 { last_ns.max(created_ns) } else { first_ns };
    u64::try_from(first_ns / 1_000_000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use concert_wire::id::ActionId;

    use super::*;

    #[test]
    fn an_empty_log_begins_after_its_last_message_or_its_creation() {
        const NEVER: i128 = -62_135_596_800_000_000_000;
        assert_eq!(first_ms(2, 5_000_000, 9_000_000, 3_000_000), 5);
        assert_eq!(first_ms(0, NEVER, 9_000_000, 3_000_000), 9);
        assert_eq!(first_ms(0, NEVER, NEVER, 3_000_000), 3);
    }

    #[test]
    fn a_flow_older_than_the_log_is_known_as_such_with_some_tolerance() {
        let start = LogStart::default();
        start.0.store(1_700_000_100_000, Ordering::Relaxed);
        let born = |ms: u64| ActionId::injected("S", 1, ms * 1_000_000).as_root();
        assert!(start.is_after(born(1_700_000_000_000)));
        assert!(!start.is_after(born(1_700_000_050_000)));
        assert!(!start.is_after(born(1_700_000_200_000)));
        let random: FlowId = "6d1c6f9e-8a4b-4c8e-9d3f-0a1b2c3d4e5f".parse().unwrap();
        assert!(!start.is_after(random));
    }
}
