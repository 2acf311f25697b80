//! Acknowledgements. None of them is ignored: what cannot be sent is logged, and the message comes again.

use std::time::Duration;

use async_nats::jetstream::{AckKind, Message};

use crate::bus::Bus;

/// Acknowledges and waits until the server knows.
pub async fn confirmed(bus: &Bus, message: &Message) {
    let Some(reply) = message.reply.clone() else { return };
    if let Err(error) = bus.client.request(reply, AckKind::Ack.into()).await {
        tracing::warn!(%error, "an acknowledgement was not confirmed; the message will come again");
    }
}

/// Acknowledges; a lost one costs a redelivery and nothing else.
pub async fn sent(message: &Message) {
    send(message, AckKind::Ack).await;
}

/// Asks for the message again after a while.
pub async fn later(message: &Message, delay: Duration) {
    send(message, AckKind::Nak(Some(delay))).await;
}

/// Extends the time that the message may take.
pub async fn in_progress(message: &Message) {
    send(message, AckKind::Progress).await;
}

/// Ends the delivery of the message for good.
pub async fn never_again(message: &Message) {
    send(message, AckKind::Term).await;
}

async fn send(message: &Message, kind: AckKind) {
    if let Err(error) = message.ack_with(kind).await {
        tracing::warn!(%error, ?kind, "an acknowledgement could not be sent; the message will come again");
    }
}
