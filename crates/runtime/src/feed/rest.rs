//! The last messages of a feed that has stopped fetching.
//!
//! The server delivers until the open requests expire. If the subscription has closed by then,
//! these messages are redelivered only after their ack deadline, a delay of seconds for callers.
//! The client's message stream either fetches more or closes immediately, so a subscription to all
//! inboxes of the connection replaces it.

use std::collections::{HashSet, VecDeque};

use async_nats::jetstream::Message;
use async_nats::{Message as CoreMessage, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::delivery::Delivery;
use crate::bus::Bus;
use crate::streams::PULL_EXPIRES;

/// Prefix of the reply subjects on which consumer messages are acknowledged.
const ACK_SUBJECTS: &str = "$JS.ACK.";

/// Waits until the server has processed the subscription, by sending itself a message. Returns the
/// messages that arrived before that one.
async fn echo(bus: &Bus, inboxes: &mut Subscriber) -> VecDeque<CoreMessage> {
    let mut early = VecDeque::new();
    let own = bus.client.new_inbox();
    if bus.client.publish(own.clone(), Bytes::new()).await.is_err() {
        return early;
    }
    while let Some(message) = inboxes.next().await {
        if *message.subject == *own {
            break;
        }
        early.push_back(message);
    }
    early
}

/// The last messages of a feed.
pub struct Rest {
    bus: Bus,
    /// Messages delivered before the subscription.
    held: VecDeque<Message>,
    /// Reply subjects of messages that both the stream and the subscription received.
    seen: HashSet<String>,
    inboxes: Option<Subscriber>,
    /// First messages of the subscription.
    early: VecDeque<CoreMessage>,
    until: Instant,
}

impl Rest {
    pub(super) async fn of(bus: &Bus, delivery: Option<Delivery>) -> Self {
        let mut rest = Self {
            bus: bus.clone(),
            held: VecDeque::new(),
            seen: HashSet::new(),
            inboxes: None,
            early: VecDeque::new(),
            until: Instant::now(),
        };
        let Some(mut delivery) = delivery else { return rest };
        rest.inboxes = bus.client.subscribe(bus.inboxes()).await.ok();
        if let Some(inboxes) = &mut rest.inboxes {
            let received = tokio::time::timeout(PULL_EXPIRES, echo(bus, inboxes));
            rest.early = received.await.unwrap_or_default();
        }
        // Messages sent before the subscription are in the stream by now; later ones go to the
        // subscription.
        while let Some(message) = delivery.ready() {
            rest.seen.extend(message.reply.as_ref().map(ToString::to_string));
            rest.held.push_back(message);
        }
        drop(delivery);
        // Reading may have sent one more request.
        rest.until = Instant::now() + PULL_EXPIRES * 11 / 10;
        rest
    }

    /// Waits for the next message; `None` when the server delivers no more.
    pub async fn next(&mut self) -> Option<Message> {
        if let Some(message) = self.held.pop_front() {
            return Some(message);
        }
        let inboxes = self.inboxes.as_mut()?;
        loop {
            let message = match self.early.pop_front() {
                Some(message) => message,
                None => tokio::time::timeout_at(self.until, inboxes.next()).await.ok()??,
            };
            let reply = message.reply.as_ref().map(ToString::to_string).unwrap_or_default();
            if reply.starts_with(ACK_SUBJECTS) && !self.seen.contains(&reply) {
                let context = self.bus.jetstream.clone();
                return Some(Message { message, context });
            }
        }
    }
}
