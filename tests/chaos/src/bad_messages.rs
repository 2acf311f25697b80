//! Messages that no correct process sends: duplicated, malformed, for other flows or with invalid
//! ids; and injected actions.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Context as _;
use async_nats::HeaderMap;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::bus::Bus;
use crate::history::History;
use crate::log::{Message, read_tail};

/// Numbers of messages that were sent.
#[derive(Debug, Default)]
pub struct Sent {
    /// Injected actions that the server acknowledged; each must be completed.
    pub injected: BTreeSet<String>,
    /// Completions that were published again and rejected.
    pub doubled: u64,
    /// Flows with a forged action.
    pub foreign: BTreeSet<String>,
    /// Malformed messages.
    pub malformed: u64,
    /// Invocations that were published again.
    pub repeated: u64,
}

/// Injects actions and bad messages.
pub struct BadMessageInjector {
    nats: async_nats::Client,
    /// The messages that were sent.
    pub sent: Mutex<Sent>,
    history: Arc<History>,
}

impl BadMessageInjector {
    /// Opens a separate connection.
    ///
    /// # Errors
    /// The connection fails.
    pub async fn connect(bus: &Bus, history: Arc<History>) -> anyhow::Result<Self> {
        Ok(Self { nats: bus.connect().await?, sent: Mutex::default(), history })
    }

    async fn publish(
        &self,
        subject: String,
        headers: HeaderMap,
        body: String,
    ) -> anyhow::Result<Value> {
        let answer = self.nats.request_with_headers(subject, headers, body.into()).await?;
        Ok(serde_json::from_slice(&answer.payload)?)
    }

    /// Injects an action with a UUID as its id.
    ///
    /// # Errors
    /// The publish is not acknowledged.
    pub async fn inject(&self, rng: &mut fastrand::Rng) -> anyhow::Result<()> {
        if rng.bool() {
            let body = json!({ "user": format!("injected-{}", rng.u64(..)) }).to_string();
            // Kept even without an acknowledgement; the log is checked for it at the end.
            self.nats.request("concept.Sessioning.create", body.into()).await?;
            return Ok(());
        }
        let id = Uuid::from_u128(rng.u128(..)).to_string();
        let body = json!({ "user": format!("injected-{}", rng.u64(..)) }).to_string();
        let answer =
            self.publish(format!("action.Sessioning.create.{id}"), HeaderMap::new(), body).await?;
        if answer.get("error").is_none() {
            self.sent.lock().await.injected.insert(id);
        }
        Ok(())
    }

    /// Sends a few bad messages, derived from the newest messages of the log.
    ///
    /// # Errors
    /// The log cannot be read, or a message cannot be sent.
    pub async fn forge(&self, rng: &mut fastrand::Rng) -> anyhow::Result<()> {
        let jetstream = async_nats::jetstream::new(self.nats.clone());
        let tail = read_tail(&jetstream, "COMPLETIONS", 2_000).await?;
        for _ in 0..20 {
            let message = rng.choice(&tail).context("the log is empty")?;
            self.repeat(message).await?;
        }
        for _ in 0..5 {
            let message = rng.choice(&tail).context("the log is empty")?;
            self.double(message).await?;
        }
        self.malformed(rng).await?;
        self.foreign(&tail, rng).await
    }

    /// Publishes the invocation of a completion again, under its own id.
    async fn repeat(&self, done: &Message) -> anyhow::Result<()> {
        let Some((flow, concept, action, id)) = done.tokens() else {
            return Ok(());
        };
        if ["Concert", "Requesting"].contains(&concept) {
            return Ok(());
        }
        let mut headers = HeaderMap::new();
        headers.insert("Concert-Flow", flow);
        let body = done.body.get("input").map(Value::to_string).unwrap_or_default();
        self.publish(format!("action.{concept}.{action}.{id}"), headers, body).await?;
        self.sent.lock().await.repeated += 1;
        Ok(())
    }

    /// Publishes a completion again; it is rejected with and without the expected sequence.
    async fn double(&self, done: &Message) -> anyhow::Result<()> {
        let Some((_, "Requesting" | "Profile" | "Sessioning", _, _)) = done.tokens() else {
            return Ok(());
        };
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Last-Subject-Sequence", "0");
        let refused = self.publish(done.subject.clone(), headers, done.body.to_string()).await?;
        let code = refused.pointer("/error/err_code").and_then(Value::as_u64);
        if refused.get("error").is_none() {
            self.history.violated(format!(
                "a second {} was stored despite its expected sequence",
                done.subject
            ));
        } else if code != Some(10071) {
            return Ok(());
        }
        self.sent.lock().await.doubled += 1;
        let bare =
            self.publish(done.subject.clone(), HeaderMap::new(), done.body.to_string()).await?;
        if bare.get("error").is_none() {
            self.history.violated(format!(
                "a second {} was stored without an expected sequence",
                done.subject
            ));
        }
        Ok(())
    }

    async fn malformed(&self, rng: &mut fastrand::Rng) -> anyhow::Result<()> {
        let mut id = || Uuid::from_u128(rng.u128(..));
        let messages = [
            (format!("done.{}.Profile.authenticate.{}", id(), id()), "no JSON"),
            (format!("done.{}.Profile.authenticate.{}", id(), id()), "[]"),
            (format!("done.x-{}.Profile.authenticate.y", id()), "{}"),
            (format!("action.Profile.authenticate.{}", id()), "\u{0}\u{1}"),
            (format!("action.Profile.noSuchAction.{}", id()), "{}"),
            ("action.Sessioning.delete.no-uuid".to_owned(), "{}"),
            (
                format!("action.Profile.createAccount.{}", id()),
                r#"{"username":{"$ne":null},"password":{"$gt":""}}"#,
            ),
        ];
        for (subject, body) in messages {
            self.publish(subject, HeaderMap::new(), body.to_owned()).await?;
            self.sent.lock().await.malformed += 1;
        }
        Ok(())
    }

    /// Forges an action into a flow that has a response; the response must not change.
    async fn foreign(&self, tail: &[Message], rng: &mut fastrand::Rng) -> anyhow::Result<()> {
        let answered: Vec<&str> = tail
            .iter()
            .filter_map(|message| match message.tokens() {
                Some((flow, "Requesting", "respond", _)) => Some(flow),
                _ => None,
            })
            .collect();
        let Some(flow) = rng.choice(answered) else {
            return Ok(());
        };
        let mut headers = HeaderMap::new();
        headers.insert("Concert-Flow", flow);
        self.sent.lock().await.foreign.insert(flow.to_owned());
        let id = Uuid::from_u128(rng.u128(..));
        let body = json!({ "session": "forged" }).to_string();
        self.publish(format!("action.Sessioning.delete.{id}"), headers, body).await?;
        Ok(())
    }
}
