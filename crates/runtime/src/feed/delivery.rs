//! Delivery of a consumer's messages: prefetched, or limited to the free capacity of the receiver.

use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::{self, MessagesErrorKind};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::watch;

use crate::bus::Bus;
use crate::streams;

/// Mode of fetching messages. The ack deadline starts when the server sends a message, so a worker
/// host must not queue messages behind others.
pub(super) enum Delivery {
    /// The client prefetches.
    Ahead(Box<pull::Stream>),
    /// Fetches as many messages as the receiver has room for, repeatedly.
    OnDemand(Box<OnDemand>),
}

pub(super) struct OnDemand {
    consumer: PullConsumer,
    /// The open request, whose messages are not all delivered yet.
    batch: Option<pull::Batch>,
    /// Notifies about new connections: a request is lost with its connection.
    connections: watch::Receiver<u64>,
}

/// Reason why no message is delivered.
pub(super) enum Interruption {
    /// The heartbeat is missing; the client requests messages again automatically.
    Silence,
    /// The consumer or the stream was deleted, or the server rejects the request.
    Ended(async_nats::Error),
}

impl Delivery {
    pub(super) fn on_demand(bus: &Bus, consumer: PullConsumer) -> Self {
        Self::OnDemand(Box::new(OnDemand { consumer, batch: None, connections: bus.connections() }))
    }

    /// Waits for the next message of a receiver with room for `room` more. `None`: the source has
    /// closed. Cancellation loses no message.
    pub(super) async fn next(&mut self, room: usize) -> Option<Result<Message, Interruption>> {
        match self {
            Self::Ahead(messages) => match messages.next().await? {
                Ok(message) => Some(Ok(message)),
                Err(error) if error.kind() == MessagesErrorKind::MissingHeartbeat => {
                    Some(Err(Interruption::Silence))
                }
                Err(error) => Some(Err(Interruption::Ended(Box::new(error)))),
            },
            Self::OnDemand(on_demand) => Some(on_demand.next(room).await),
        }
    }

    /// A message that is already delivered, if there is one.
    pub(super) fn ready(&mut self) -> Option<Message> {
        match self {
            Self::Ahead(messages) => messages.next().now_or_never()??.ok(),
            Self::OnDemand(on_demand) => on_demand.batch.as_mut()?.next().now_or_never()??.ok(),
        }
    }
}

impl OnDemand {
    async fn next(&mut self, room: usize) -> Result<Message, Interruption> {
        loop {
            let Some(messages) = &mut self.batch else {
                self.connections.mark_unchanged();
                let batch = streams::worker_messages(&self.consumer, room).await;
                self.batch = Some(batch.map_err(|error| Interruption::Ended(Box::new(error)))?);
                continue;
            };
            let next = tokio::select! {
                // Take delivered messages before checking the connection.
                biased;
                next = messages.next() => next,
                Ok(()) = self.connections.changed() => None,
            };
            match next {
                Some(Ok(message)) => return Ok(message),
                // The request is fulfilled or has expired.
                None => self.batch = None,
                Some(Err(error)) => {
                    self.batch = None;
                    return Err(Interruption::Ended(error));
                }
            }
        }
    }
}
