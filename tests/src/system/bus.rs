//! What a test sees and does on the bus of a system, as a bare client.

use anyhow::Context as _;
use async_nats::HeaderMap;
use serde_json::Value;

use super::{PATIENCE, System};
use crate::{RawNats, nats};

/// What a micro service refused a question with: code and text.
pub fn refusal(answer: &async_nats::Message) -> Option<(&str, &str)> {
    let headers = answer.headers.as_ref()?;
    let header = |name| headers.get(name).map(async_nats::HeaderValue::as_str);
    Some((header("Nats-Service-Error-Code")?, header("Nats-Service-Error").unwrap_or_default()))
}

impl System {
    /// What comes on a subject from now on.
    ///
    /// # Errors
    /// No connection.
    pub async fn hear(&self, subject: &str) -> anyhow::Result<async_nats::Subscriber> {
        nats::hear(&self.nats().await?, subject).await
    }

    /// A bare NATS client that may do anything, forge included: it has the key of who makes the
    /// streams.
    ///
    /// # Errors
    /// No connection.
    pub async fn nats(&self) -> anyhow::Result<async_nats::Client> {
        self.nats_as("setup").await
    }

    /// A bare NATS client with the key of a user.
    ///
    /// # Errors
    /// No connection.
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

    /// As [`nats`](Self::nats), in the protocol itself.
    ///
    /// # Errors
    /// No connection.
    pub async fn raw_nats(&self) -> anyhow::Result<RawNats> {
        let seed = std::fs::read_to_string(self.seeds("setup"))?;
        RawNats::connect(&self.servers.nats.url(), &seed).await
    }

    /// Everything that the log has of a flow: subject and body, in order.
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

    /// What a header says in the messages of a stream that have it, in order.
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
            let message = tokio::time::timeout(PATIENCE, messages.next())
                .await?
                .context("the stream ended")??;
            found.push(read(&message.message));
        }
        // A test that asks again and again would leave more of them than the server keeps.
        drop(messages);
        stream.delete_consumer(&consumer.cached_info().name).await?;
        Ok(found)
    }

    /// Waits until no invocation of a concept waits or is under way.
    ///
    /// # Errors
    /// It does not come about in time.
    pub async fn idle(&self, concept: &str) -> anyhow::Result<()> {
        self.until("the queue is empty", async |system: &Self| {
            let jetstream = async_nats::jetstream::new(system.nats().await?);
            let mut stream = jetstream.get_stream(format!("ACTIONS_{concept}")).await?;
            Ok((stream.info().await?.state.messages == 0).then_some(()))
        })
        .await
    }

    /// Waits until the routers have taken everything in the log to its end.
    ///
    /// # Errors
    /// It does not come about in time.
    pub async fn routed(&self) -> anyhow::Result<()> {
        self.until("the log is routed", async |system: &Self| {
            let jetstream = async_nats::jetstream::new(system.nats().await?);
            let log = jetstream.get_stream("COMPLETIONS").await?;
            let routers = log.consumer_info("routers").await?;
            Ok((routers.num_pending == 0 && routers.num_ack_pending == 0).then_some(()))
        })
        .await
    }

    /// Sends a JetStream publish as a bare client would, and returns the server's word.
    ///
    /// # Errors
    /// No answer.
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
