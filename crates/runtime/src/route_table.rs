//! The route table, watched: without a consumer of the bucket, since whoever may make consumers may
//! have them write anywhere (ADR 12).

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::kv;
use bytes::Bytes;
use concert_wire::routes::ROUTES_KEY;
use concert_wire::subject;
use futures_util::StreamExt as _;
use tokio::sync::{OnceCell, watch};
use tokio::time::MissedTickBehavior;

use crate::bus::Bus;

/// How often the table is read in any case: what is heard of a change may be lost with a
/// connection.
const READ_EVERY: Duration = Duration::from_secs(2);

/// The table as it stands in the bucket, again and again: at the start, at each change, after each
/// connection, and every two seconds.
pub struct Watched {
    bucket: Bucket,
    changes: async_nats::Subscriber,
    connections: watch::Receiver<u64>,
    again: tokio::time::Interval,
}

/// The table cannot be read now.
#[derive(Debug, thiserror::Error)]
#[error("the route table cannot be read: {0}")]
pub struct TableError(String);

fn unreadable(error: impl std::fmt::Display) -> TableError {
    TableError(error.to_string())
}

/// Begins to watch.
///
/// # Errors
/// The changes cannot be listened for.
pub async fn watch(bus: &Bus) -> Result<Watched, TableError> {
    let mut again = tokio::time::interval(READ_EVERY);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Ok(Watched {
        changes: bus.client.subscribe(subject::ROUTES_NOTICE).await.map_err(unreadable)?,
        connections: bus.connections(),
        bucket: Bucket::of(bus),
        again,
    })
}

impl Watched {
    /// The table, when it may have changed; `None` while no router has published one.
    ///
    /// # Errors
    /// The bucket is not there, or does not answer.
    pub async fn next(&mut self) -> Result<Option<Bytes>, TableError> {
        tokio::select! {
            _ = self.again.tick() => {}
            Ok(()) = self.connections.changed() => {}
            Some(_) = self.changes.next() => {}
        }
        self.bucket.get(ROUTES_KEY).await
    }
}

/// What the routers keep for the edges, by key.
#[derive(Clone)]
pub struct Bucket {
    bus: Bus,
    /// Looked up once it is there.
    store: Arc<OnceCell<kv::Store>>,
}

impl Bucket {
    /// The bucket, which need not be there yet.
    pub fn of(bus: &Bus) -> Self {
        Self { bus: bus.clone(), store: Arc::default() }
    }

    /// What stands at a key; `None` while nothing does.
    ///
    /// # Errors
    /// The bucket is not there, or does not answer.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, TableError> {
        let look_up = || self.bus.jetstream.get_key_value(subject::BUCKET);
        let store = self.store.get_or_try_init(look_up).await.map_err(unreadable)?;
        store.get(key).await.map_err(unreadable)
    }
}
