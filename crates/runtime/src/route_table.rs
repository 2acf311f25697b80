//! Watches the route table without a consumer of the bucket: a user that may create consumers could
//! direct their messages to any subject (ADR 12).

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::kv;
use bytes::Bytes;
use concert_wire::routes::{LOG_FULL_KEY, ROUTES_KEY, TYPED_ROUTES_KEY};
use concert_wire::subject;
use futures_util::StreamExt as _;
use tokio::sync::{OnceCell, watch};
use tokio::time::MissedTickBehavior;

use crate::bus::Bus;

/// Interval of regular reads: a change notice may be lost with a connection.
const READ_INTERVAL: Duration = Duration::from_secs(2);

/// Yields the table of the bucket: at the start, at each change, after each connection, and every
/// two seconds.
pub struct Watched {
    bucket: Bucket,
    changes: async_nats::Subscriber,
    connections: watch::Receiver<u64>,
    again: tokio::time::Interval,
}

/// Error of a read of the bucket.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the bucket of the route table: {0}")]
pub struct TableError(String);

fn unreadable(error: impl std::fmt::Display) -> TableError {
    TableError(error.to_string())
}

/// Starts watching.
///
/// # Errors
/// The subscription to changes fails.
pub async fn watch(bus: &Bus) -> Result<Watched, TableError> {
    let mut again = tokio::time::interval(READ_INTERVAL);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Ok(Watched {
        changes: bus.client.subscribe(subject::ROUTES_NOTICE).await.map_err(unreadable)?,
        connections: bus.connections(),
        bucket: Bucket::of(bus),
        again,
    })
}

impl Watched {
    /// Waits until the table may have changed, and reads it; `None` if no router has published one.
    ///
    /// # Errors
    /// The bucket does not exist, or the server does not respond.
    pub async fn next(&mut self) -> Result<Option<Bytes>, TableError> {
        tokio::select! {
            _ = self.again.tick() => {}
            Ok(()) = self.connections.changed() => {}
            Some(_) = self.changes.next() => {}
        }
        let Some(table) = self.bucket.get(ROUTES_KEY).await? else { return Ok(None) };
        let typed = self.bucket.get(TYPED_ROUTES_KEY).await.unwrap_or_else(|error| {
            // The server may still have the permissions of release 0.1.0.
            tracing::debug!(%error, "using the route table without new types");
            None
        });
        Ok(Some(newest(table, typed)))
    }

    /// Reads whether the log is nearly full, so that no new request may enter it.
    ///
    /// # Errors
    /// The bucket does not exist, or the server does not respond.
    pub async fn is_log_full(&self) -> Result<bool, TableError> {
        Ok(self.bucket.get(LOG_FULL_KEY).await?.is_some_and(|value| *value == *b"true"))
    }
}

/// The table with all types, if it is as new as the one that every router writes.
pub fn newest(table: Bytes, typed: Option<Bytes>) -> Bytes {
    let is_newest = |typed: &Bytes| version(typed).is_some_and(|of| version(&table) == Some(of));
    typed.filter(is_newest).unwrap_or(table)
}

fn version(table: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: String,
    }
    serde_json::from_slice(table).map(|Versioned { version }| version).ok()
}

/// KV bucket in which the routers store data for the edges and the archive.
#[derive(Clone)]
pub struct Bucket {
    bus: Bus,
    /// Looked up on the first use.
    store: Arc<OnceCell<kv::Store>>,
}

impl Bucket {
    /// Creates a handle; the bucket may be missing.
    pub fn of(bus: &Bus) -> Self {
        Self { bus: bus.clone(), store: Arc::default() }
    }

    /// Reads the value of a key; `None` if the key is missing.
    ///
    /// # Errors
    /// The bucket does not exist, or the server does not respond.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, TableError> {
        let look_up = || self.bus.jetstream.get_key_value(subject::BUCKET);
        let store = self.store.get_or_try_init(look_up).await.map_err(unreadable)?;
        store.get(key).await.map_err(unreadable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_table_is_used_only_with_the_same_version() {
        let table = |text: &'static str| Bytes::from_static(text.as_bytes());
        let released = table(r#"{"version": "b", "routes": {}}"#);
        for (typed, is_used) in [
            (r#"{"version": "b", "routes": {"/x": {"keys": {}}}}"#, true),
            (r#"{"version": "a", "routes": {}}"#, false),
            ("no table", false),
        ] {
            let found = newest(released.clone(), Some(table(typed)));
            assert_eq!(found == table(typed), is_used, "{typed}");
        }
        assert_eq!(newest(released.clone(), None), released);
        let broken = table("no table");
        assert_eq!(newest(broken.clone(), Some(broken.clone())), broken);
    }
}
