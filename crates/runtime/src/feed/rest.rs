//! What is still delivered to a feed that asks for nothing more.
//!
//! The server goes on to deliver until the requests that are open expire, and what it delivers to a
//! subscription that has ended comes again only after the wait for an acknowledgement: seconds that
//! a caller would notice. The client's own stream of messages either asks for more or ends at once,
//! so its place is taken by a subscription to every inbox of the connection.

use std::collections::{HashSet, VecDeque};

use async_nats::jetstream::Message;
use async_nats::{Message as CoreMessage, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::delivery::Delivery;
use crate::bus::Bus;
use crate::streams::PULL_EXPIRES;

/// What the subjects begin with at which messages of consumers are acknowledged.
const ACK_SUBJECTS: &str = "$JS.ACK.";

/// Waits until the server has answered for the subscription: what is heard comes behind everything
/// that was sent before. Returns what came with it.
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
    /// What was delivered before the subscription.
    held: VecDeque<Message>,
    /// What was delivered to both the stream and the subscription.
    seen: HashSet<String>,
    inboxes: Option<Subscriber>,
    /// What the subscription heard first.
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
            let heard = tokio::time::timeout(PULL_EXPIRES, echo(bus, inboxes));
            rest.early = heard.await.unwrap_or_default();
        }
        // What was sent before the subscription is in the stream by now, and what is sent later is
        // in the subscription.
        while let Some(message) = delivery.ready() {
            rest.seen.extend(message.reply.as_ref().map(ToString::to_string));
            rest.held.push_back(message);
        }
        drop(delivery);
        // Reading may have asked once more.
        rest.until = Instant::now() + PULL_EXPIRES * 11 / 10;
        rest
    }

    /// The next of them; `None` when the server delivers no more.
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
