//! What the server has taken of what a client told it. A client's `flush` says only that it has
//! been sent.

use anyhow::Context as _;
use async_nats::{Client, Subscriber};
use futures_util::StreamExt as _;

use crate::system::PATIENCE;

/// Hears what comes on a subject from now on, whoever sends it: the server knows of the
/// subscription.
///
/// # Errors
/// The connection has ended.
pub async fn hear(client: &Client, subject: &str) -> anyhow::Result<Subscriber> {
    let heard = client.subscribe(subject.to_owned()).await?;
    settled(client).await?;
    Ok(heard)
}

/// Waits until the server has taken all that a client has told it so far: it takes that in its
/// order.
///
/// # Errors
/// The connection has ended, or this user hears nothing of what it says.
pub async fn settled(client: &Client) -> anyhow::Result<()> {
    let inbox = client.new_inbox();
    let mut echo = client.subscribe(inbox.clone()).await?;
    client.publish(inbox, "".into()).await?;
    let heard = tokio::time::timeout(PATIENCE, echo.next()).await?;
    heard.context("the connection has ended")?;
    Ok(())
}
