//! Limits of the streams and buckets.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Maximum number of messages in the log of a server whose memory is unknown.
const DEFAULT_MAX_MESSAGES: i64 = 4_000_000;
/// Size of the large values on a server whose disk is unknown, in bytes.
const DEFAULT_LARGE_VALUES_BYTES: i64 = 4 << 30;
/// Ten years.
const HOURS_MAX: u64 = 10 * 366 * 24;

/// The section `[log]`: limits of the log and of the queues.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogLimits {
    /// Hours that a completion stays in the log. After that, its flow cannot continue.
    #[serde(rename = "max_age_hours")]
    #[schemars(range(min = 1, max = HOURS_MAX))]
    pub log_max_age_hours: u64,
    /// Maximum number of completions in the log. At 90% of it, new requests get 503. The NATS
    /// server needs about 0.75 KB of memory for each. 0 stands for as many messages as a
    /// quarter of the machine's memory holds with the NATS server of `concert up`, and for
    /// 4,000,000 with other servers.
    #[serde(rename = "max_messages")]
    #[schemars(range(min = 0, max = i64::MAX))]
    pub log_max_messages: i64,
    /// Maximum size of the log, in bytes. At 90% of it, new requests get 503, so that the flows
    /// that have begun can finish. With 0, the log on the NATS server of `concert up` gets half of
    /// the free disk space; on other servers, their storage is the limit.
    #[serde(rename = "max_bytes")]
    #[schemars(range(min = 0, max = i64::MAX))]
    pub log_max_bytes: i64,
    /// Maximum number of invocations in the queue of one concept; the router publishes further ones
    /// later.
    #[schemars(range(min = 1, max = i64::MAX))]
    pub queue_max_messages: i64,
    /// Maximum size of the queue of one concept, in bytes; 0 leaves the limit to the server's
    /// storage.
    #[schemars(range(min = 0, max = i64::MAX))]
    pub queue_max_bytes: i64,
    /// Maximum size of the stored dead letters, in bytes; 0 leaves the limit to the server's
    /// storage. If the JetStream account requires a limit for each stream, set this and the other
    /// sizes of this section.
    #[schemars(range(min = 0, max = i64::MAX))]
    pub dead_max_bytes: i64,
    /// Maximum size of each KV bucket, in bytes; 0 leaves the limit to the server's storage.
    #[schemars(range(min = 0, max = i64::MAX))]
    pub bucket_max_bytes: i64,
    /// Maximum size of the stored large values, in bytes; at the limit, requests with large values
    /// get 503. The server reserves that much. With 0, the limit is a quarter of the free disk
    /// space on the NATS server of `concert up`. On other servers it is 4 GiB, or less if they have
    /// less.
    #[schemars(range(min = 0, max = i64::MAX))]
    pub large_values_max_bytes: i64,
    /// Seconds that a completion stays in the log even if the log is nearly full.
    #[serde(rename = "keep_seconds")]
    #[schemars(range(min = 0, max = HOURS_MAX * 3600))]
    pub log_keep_seconds: u64,
    /// Replicas of each stream in a NATS cluster (`nats.replicas`).
    #[serde(skip)]
    pub stream_replicas: usize,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            log_max_age_hours: 24,
            log_max_messages: 0,
            log_max_bytes: 0,
            queue_max_messages: 1_000_000,
            queue_max_bytes: 0,
            dead_max_bytes: 0,
            bucket_max_bytes: 0,
            large_values_max_bytes: 0,
            log_keep_seconds: 600,
            stream_replicas: 1,
        }
    }
}

impl LogLimits {
    /// Maximum number of messages in the log.
    pub fn max_messages(&self) -> i64 {
        if self.log_max_messages == 0 { DEFAULT_MAX_MESSAGES } else { self.log_max_messages }
    }

    /// Maximum size of the large values, in bytes. A server with little storage may have less.
    pub fn large_values_max_bytes(&self) -> i64 {
        if self.large_values_max_bytes == 0 {
            DEFAULT_LARGE_VALUES_BYTES
        } else {
            self.large_values_max_bytes
        }
    }

    /// Time that large values stay stored. A repeated request of the same day may refer to the
    /// parts of the first one, and its flow stays in the log for the log's age.
    pub fn large_values_max_age(&self) -> Duration {
        let log = self.log_max_age_hours;
        Duration::from_secs((log + log.max(24) + 1) * 3600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_values_outlive_a_repetition_of_their_request() {
        for (log_hours, expected_hours) in [(1, 26), (24, 49), (100, 201)] {
            let limits = LogLimits { log_max_age_hours: log_hours, ..LogLimits::default() };
            assert_eq!(limits.large_values_max_age().as_secs(), expected_hours * 3600);
        }
    }
}
