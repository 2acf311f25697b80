//! Subscriptions, and round trips to the server. A client's `flush` confirms only that data was
//! sent, not that the server has processed it.

use anyhow::Context as _;
use async_nats::{Client, Subscriber};
use futures_util::StreamExt as _;
use serde_json::Value;

use crate::system::TIMEOUT;

/// Subscribes to a subject. On return, the server has registered the subscription.
///
/// # Errors
/// The connection is closed.
pub async fn subscribe(client: &Client, subject: &str) -> anyhow::Result<Subscriber> {
    let subscription = client.subscribe(subject.to_owned()).await?;
    round_trip(client).await?;
    Ok(subscription)
}

/// Responds to all messages on a subject, as a worker in another language does.
///
/// # Errors
/// The connection is closed.
pub async fn respond(
    client: &Client,
    subject: &str,
    body: impl Fn(&[u8]) -> Value + Send + 'static,
) -> anyhow::Result<()> {
    let mut messages = subscribe(client, subject).await?;
    let client = client.clone();
    tokio::spawn(async move {
        while let Some(message) = messages.next().await {
            let body = body(&message.payload).to_string();
            if let Some(reply) = message.reply {
                drop(client.publish(reply, body.into()).await);
            }
        }
    });
    Ok(())
}

/// Waits until the server has processed all that the client sent before, by a message to itself.
///
/// # Errors
/// The connection is closed, or the user receives none of its own messages.
pub async fn round_trip(client: &Client) -> anyhow::Result<()> {
    let inbox = client.new_inbox();
    let mut echo = client.subscribe(inbox.clone()).await?;
    client.publish(inbox, "".into()).await?;
    let received = tokio::time::timeout(TIMEOUT, echo.next()).await?;
    received.context("the connection is closed")?;
    Ok(())
}
