//! Acknowledgements. None of them is ignored: what cannot be sent is logged, and the message comes
//! again.

use std::time::Duration;

use async_nats::jetstream::{AckKind, Message};

/// Acknowledges, once what the message stands for is stored. A lost acknowledgement costs a
/// redelivery and nothing else, so nobody waits for the server's word (ADR 14).
pub async fn sent(message: &Message) {
    send(message, AckKind::Ack).await;
}

/// Asks for the message again after a while.
pub async fn later(message: &Message, delay: Duration) {
    send(message, AckKind::Nak(Some(delay))).await;
}

/// Extends the time that the message may take. Returns whether the server confirmed it.
pub async fn in_progress(message: &Message) -> bool {
    let confirmed = message.double_ack_with(AckKind::Progress).await;
    if let Err(error) = &confirmed {
        tracing::warn!(%error, "the server did not confirm that a message has more time");
    }
    confirmed.is_ok()
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
