//! The active process of a consumer that several processes share.

use async_nats::jetstream::AckKind;
use async_nats::jetstream::consumer::Info;
use concert_wire::subject::{LOG, ROUTERS};

use super::{MAX_ACK_PENDING, SetupError, existing_log, failed};
use crate::bus::Bus;

/// Lets a standby process take over a consumer of the log immediately instead of after
/// [`super::PIN_TIMEOUT`].
///
/// # Errors
/// The server rejects the request.
pub async fn unpin(bus: &Bus, name: &str) -> Result<(), SetupError> {
    existing_log(bus)
        .await?
        .unpin_consumer(name, name)
        .await
        .map_err(failed(format!("the consumer {name}")))
}

/// The active router, and the messages of the log that are delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// The id under which the server delivers to the active router.
    pub id: String,
    acknowledged: u64,
    delivered: u64,
    /// The number of deliveries so far.
    deliveries: u64,
}

impl Pinned {
    /// Reads it; `None` if no router is active.
    ///
    /// # Errors
    /// The server does not respond.
    pub async fn router(bus: &Bus) -> Result<Option<Self>, SetupError> {
        let what = || format!("the consumer {ROUTERS}");
        let log = bus.jetstream.get_stream_no_info(LOG).await.map_err(failed(what()))?;
        let info = log.consumer_info(ROUTERS).await.map_err(failed(what()))?;
        Ok(Self::of(info))
    }

    fn of(info: Info) -> Option<Self> {
        let group = info.priority_groups.into_iter().find(|group| group.group == ROUTERS)?;
        Some(Self {
            id: group.pinned_client_id.filter(|id| !id.is_empty())?,
            acknowledged: info.ack_floor.stream_sequence,
            delivered: info.delivered.stream_sequence,
            deliveries: info.delivered.consumer_sequence,
        })
    }

    /// Has the server redeliver all unacknowledged messages now. The server ignores the others.
    ///
    /// # Errors
    /// The connection is closed.
    pub async fn release(&self, bus: &Bus) -> Result<(), async_nats::Error> {
        for seq in self.unacknowledged() {
            let subject = format!("$JS.ACK.{LOG}.{ROUTERS}.1.{seq}.{}.0.0", self.deliveries);
            bus.client.publish(subject, AckKind::Nak(None).into()).await?;
        }
        Ok(())
    }

    /// The sequences that may be unacknowledged. The consumer has a limit of them, so if there are
    /// more sequences, the oldest wait for their ack deadline.
    fn unacknowledged(&self) -> std::ops::RangeInclusive<u64> {
        let most = MAX_ACK_PENDING.unsigned_abs();
        self.acknowledged.max(self.delivered.saturating_sub(most)) + 1..=self.delivered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pinned(acknowledged: u64, delivered: u64) -> Pinned {
        Pinned { id: "a".to_owned(), acknowledged, delivered, deliveries: delivered }
    }

    #[test]
    fn unacknowledged_messages_follow_the_ack_floor() {
        assert!(pinned(7, 7).unacknowledged().is_empty());
        assert_eq!(pinned(5, 7).unacknowledged(), 6..=7);
        assert_eq!(pinned(5, 50_000).unacknowledged(), 30_001..=50_000);
    }
}
