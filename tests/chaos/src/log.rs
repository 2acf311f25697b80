//! Reads whole streams.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull::Config};
use async_nats::jetstream::{self};
use futures_util::StreamExt as _;
use serde_json::Value;

/// A message of a stream.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its sequence.
    pub seq: u64,
    /// Its subject.
    pub subject: String,
    /// Its body; null if it is not JSON.
    pub body: Value,
    /// The reason, flow and action of a dead letter.
    pub dead: Option<[Option<String>; 3]>,
}

impl Message {
    /// Flow, concept, action and action id of a completion.
    pub fn tokens(&self) -> Option<(&str, &str, &str, &str)> {
        let mut tokens = self.subject.split('.').skip(1);
        let found = (tokens.next()?, tokens.next()?, tokens.next()?, tokens.next()?);
        tokens.next().is_none().then_some(found)
    }

    /// A key of the input.
    pub fn input(&self, key: &str) -> Option<&str> {
        self.body.get("input")?.get(key)?.as_str()
    }

    /// Returns whether the completion is a failure.
    pub fn failed(&self) -> bool {
        self.body.get("output").is_none_or(|output| output.get("error").is_some())
    }
}

const TIMEOUT: Duration = Duration::from_secs(30);

/// Reads all messages of a stream, in order.
///
/// # Errors
/// The stream cannot be read.
pub async fn read(jetstream: &jetstream::Context, stream: &str) -> anyhow::Result<Vec<Message>> {
    read_from(jetstream, stream, DeliverPolicy::All).await
}

/// Reads the last messages of a stream.
///
/// # Errors
/// The stream cannot be read.
pub async fn read_tail(
    jetstream: &jetstream::Context,
    stream: &str,
    count: u64,
) -> anyhow::Result<Vec<Message>> {
    let last = jetstream.get_stream(stream).await?.cached_info().state.last_sequence;
    let start_sequence = last.saturating_sub(count).max(1);
    read_from(jetstream, stream, DeliverPolicy::ByStartSequence { start_sequence }).await
}

async fn read_from(
    jetstream: &jetstream::Context,
    stream: &str,
    deliver_policy: DeliverPolicy,
) -> anyhow::Result<Vec<Message>> {
    let stream = jetstream.get_stream(stream).await?;
    let config = Config {
        ack_policy: AckPolicy::None,
        deliver_policy,
        memory_storage: true,
        ..Config::default()
    };
    let consumer = stream.create_consumer(config).await?;
    let pending = consumer.cached_info().num_pending;
    let mut messages = consumer.stream().max_messages_per_batch(5_000).messages().await?;
    let mut found = Vec::new();
    for _ in 0..pending {
        let message =
            tokio::time::timeout(TIMEOUT, messages.next()).await?.context("the stream ended")??;
        let seq = message.info().map_or(0, |info| info.stream_sequence);
        let header = |name: &str| Some(message.headers.as_ref()?.get(name)?.to_string());
        let dead = message
            .subject
            .starts_with("dead.")
            .then(|| [header("Concert-Reason"), header("Concert-Flow"), header("Concert-Action")]);
        found.push(Message {
            seq,
            subject: message.subject.to_string(),
            body: serde_json::from_slice(&message.payload).unwrap_or(Value::Null),
            dead,
        });
    }
    drop(messages);
    stream.delete_consumer(&consumer.cached_info().name).await?;
    Ok(found)
}
