//! Access to the bus of a system through a bare client.

use anyhow::Context as _;
use async_nats::HeaderMap;
use serde_json::Value;

use super::{System, TIMEOUT};
use crate::{RawNats, nats};

/// The code and text of a service error.
pub fn service_error(answer: &async_nats::Message) -> Option<(&str, &str)> {
    let headers = answer.headers.as_ref()?;
    let header = |name| headers.get(name).map(async_nats::HeaderValue::as_str);
    Some((header("Nats-Service-Error-Code")?, header("Nats-Service-Error").unwrap_or_default()))
}

impl System {
    /// Subscribes to a subject.
    ///
    /// # Errors
    /// The connection fails.
    pub async fn subscribe(&self, subject: &str) -> anyhow::Result<async_nats::Subscriber> {
        nats::subscribe(&self.nats().await?, subject).await
    }

    /// A bare NATS client without restrictions, under the key that creates the streams; it can also
    /// forge messages.
    ///
    /// # Errors
    /// The connection fails.
    pub async fn nats(&self) -> anyhow::Result<async_nats::Client> {
        self.nats_as("setup").await
    }

    /// A bare NATS client with the key of a user.
    ///
    /// # Errors
    /// The connection fails.
    pub async fn nats_as(&self, user: &str) -> anyhow::Result<async_nats::Client> {
        let seed = std::fs::read_to_string(self.seeds(user))?;
        let mut options = async_nats::ConnectOptions::with_nkey(
            seed.lines().next().unwrap_or_default().to_owned(),
        );
        if let Some((_, ca)) = self.settings.iter().find(|(name, _)| *name == "NATS_CA") {
            options = options.add_root_certificates(ca.into()).require_tls(true);
        }
        Ok(options.connect(self.servers.nats.url()).await?)
    }

    /// As [`nats`](Self::nats), in the NATS protocol itself.
    ///
    /// # Errors
    /// The connection fails.
    pub async fn raw_nats(&self) -> anyhow::Result<RawNats> {
        let seed = std::fs::read_to_string(self.seeds("setup"))?;
        RawNats::connect(&self.servers.nats.url(), &seed).await
    }

    /// All messages of a flow in the log: subject and body, in order.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn flow(&self, flow: &str) -> anyhow::Result<Vec<(String, Value)>> {
        self.stream_messages("COMPLETIONS", &format!("done.{flow}.>")).await
    }

    /// The messages of a stream on a subject: subject and body, in order.
    ///
    /// # Errors
    /// The stream cannot be read.
    pub async fn stream_messages(
        &self,
        stream: &str,
        filter: &str,
    ) -> anyhow::Result<Vec<(String, Value)>> {
        self.read_stream(stream, filter, false, |message| {
            let body = serde_json::from_slice(&message.payload).unwrap_or(Value::Null);
            (message.subject.to_string(), body)
        })
        .await
    }

    /// The subjects of a stream's messages, in order.
    ///
    /// # Errors
    /// The stream cannot be read.
    pub async fn subjects(&self, stream: &str, filter: &str) -> anyhow::Result<Vec<String>> {
        self.read_stream(stream, filter, true, |message| message.subject.to_string()).await
    }

    /// The values of a header in a stream's messages, in order.
    ///
    /// # Errors
    /// The stream cannot be read.
    pub async fn header_values(
        &self,
        stream: &str,
        filter: &str,
        name: &str,
    ) -> anyhow::Result<Vec<String>> {
        let found = self.read_stream(stream, filter, true, |message| {
            let value = message.headers.as_ref()?.get(name)?;
            Some(value.to_string())
        });
        Ok(found.await?.into_iter().flatten().collect())
    }

    async fn read_stream<T>(
        &self,
        stream: &str,
        filter: &str,
        headers_only: bool,
        read: impl Fn(&async_nats::Message) -> T,
    ) -> anyhow::Result<Vec<T>> {
        use async_nats::jetstream::consumer::{AckPolicy, pull::Config};
        use futures_util::StreamExt as _;
        let stream = async_nats::jetstream::new(self.nats().await?).get_stream(stream).await?;
        let config = Config {
            filter_subject: filter.to_owned(),
            ack_policy: AckPolicy::None,
            headers_only,
            ..Config::default()
        };
        let consumer = stream.create_consumer(config).await?;
        let pending = consumer.cached_info().num_pending;
        let mut messages = consumer.messages().await?;
        let mut found = Vec::new();
        for _ in 0..pending {
            let message = tokio::time::timeout(TIMEOUT, messages.next())
                .await?
                .context("the stream ended")??;
            found.push(read(&message.message));
        }
        // Deletes the consumer, because repeated calls would exceed the server's consumer limit.
        drop(messages);
        stream.delete_consumer(&consumer.cached_info().name).await?;
        Ok(found)
    }

    /// Waits until no invocation of a concept is pending or in progress.
    ///
    /// # Errors
    /// The queue does not become empty in time.
    pub async fn idle(&self, concept: &str) -> anyhow::Result<()> {
        self.until("the queue is empty", async |system: &Self| {
            let jetstream = async_nats::jetstream::new(system.nats().await?);
            let mut stream = jetstream.get_stream(format!("ACTIONS_{concept}")).await?;
            Ok((stream.info().await?.state.messages == 0).then_some(()))
        })
        .await
    }

    /// Waits until the routers have processed the whole log.
    ///
    /// # Errors
    /// The queue does not become empty in time.
    pub async fn routed(&self) -> anyhow::Result<()> {
        self.until("the log is routed", async |system: &Self| {
            let jetstream = async_nats::jetstream::new(system.nats().await?);
            let log = jetstream.get_stream("COMPLETIONS").await?;
            let routers = log.consumer_info("routers").await?;
            Ok((routers.num_pending == 0 && routers.num_ack_pending == 0).then_some(()))
        })
        .await
    }

    /// Sends a JetStream publish as a bare client would, and returns the server's acknowledgement.
    ///
    /// # Errors
    /// The server does not reply.
    pub async fn publish(
        &self,
        subject: &str,
        headers: HeaderMap,
        body: &str,
    ) -> anyhow::Result<Value> {
        let nats = self.nats().await?;
        let answer =
            nats.request_with_headers(subject.to_owned(), headers, body.to_owned().into()).await?;
        Ok(serde_json::from_slice(&answer.payload)?)
    }
}
