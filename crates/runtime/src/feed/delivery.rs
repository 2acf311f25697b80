//! What a consumer delivers: as it comes, or no more than there is room for.

use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::{self, MessagesErrorKind};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::watch;

use crate::bus::Bus;
use crate::streams;

/// How messages are asked for. The server counts the time that a message may take from when it
/// sends it, so whoever carries out actions must not let one wait behind others.
pub(super) enum Delivery {
    /// The client asks ahead.
    Ahead(Box<pull::Stream>),
    /// As many as there is room for, again and again.
    OnDemand(Box<OnDemand>),
}

pub(super) struct OnDemand {
    consumer: PullConsumer,
    /// What was asked for and is to come.
    asked: Option<pull::Batch>,
    /// Requests are lost with their connection.
    connections: watch::Receiver<u64>,
}

/// Why nothing is delivered.
pub(super) enum Interruption {
    /// The server gave no sign of life; it is asked again by itself.
    Silence,
    /// The consumer or the stream is gone, or the server refuses.
    Ended(async_nats::Error),
}

impl Delivery {
    pub(super) fn on_demand(bus: &Bus, consumer: PullConsumer) -> Self {
        Self::OnDemand(Box::new(OnDemand { consumer, asked: None, connections: bus.connections() }))
    }

    /// The next message, when there is room for so many that are not delivered yet. `None`: the
    /// source has ended. Nothing is lost when the call is dropped.
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

    /// What is delivered already, if anything is.
    pub(super) fn ready(&mut self) -> Option<Message> {
        match self {
            Self::Ahead(messages) => messages.next().now_or_never()??.ok(),
            Self::OnDemand(on_demand) => on_demand.asked.as_mut()?.next().now_or_never()??.ok(),
        }
    }
}

impl OnDemand {
    async fn next(&mut self, room: usize) -> Result<Message, Interruption> {
        loop {
            let Some(messages) = &mut self.asked else {
                self.connections.mark_unchanged();
                let asked = streams::worker_messages(&self.consumer, room).await;
                self.asked = Some(asked.map_err(|error| Interruption::Ended(Box::new(error)))?);
                continue;
            };
            let next = tokio::select! {
                // What is delivered is taken before the connection is looked at.
                biased;
                next = messages.next() => next,
                Ok(()) = self.connections.changed() => None,
            };
            match next {
                Some(Ok(message)) => return Ok(message),
                // All of it was delivered, or nothing came for a while.
                None => self.asked = None,
                Some(Err(error)) => {
                    self.asked = None;
                    return Err(Interruption::Ended(error));
                }
            }
        }
    }
}
