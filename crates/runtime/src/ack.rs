//! Acknowledgements. An acknowledgement that cannot be sent is logged, and the message is
//! redelivered.

use std::time::Duration;

use async_nats::jetstream::{AckKind, Message};

/// Acknowledges a message whose result is stored. A lost acknowledgement only costs a redelivery,
/// so this does not wait for the server's confirmation (ADR 14).
pub async fn sent(message: &Message) {
    send(message, AckKind::Ack).await;
}

/// Requests redelivery of the message after a delay.
pub async fn later(message: &Message, delay: Duration) {
    send(message, AckKind::Nak(Some(delay))).await;
}

/// Extends the ack deadline of the message. Returns whether the server confirmed it.
pub async fn in_progress(message: &Message) -> bool {
    let confirmed = message.double_ack_with(AckKind::Progress).await;
    if let Err(error) = &confirmed {
        tracing::warn!(
            %error,
            "the server did not confirm a longer ack deadline; the message may be redelivered"
        );
    }
    confirmed.is_ok()
}

/// Terminates delivery: the message is never redelivered.
pub async fn never_again(message: &Message) {
    send(message, AckKind::Term).await;
}

async fn send(message: &Message, kind: AckKind) {
    if let Err(error) = message.ack_with(kind).await {
        tracing::warn!(
            %error,
            ?kind,
            "cannot send an acknowledgement; the message will be redelivered"
        );
    }
}
