//! Writing flows, and telling who listens.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use concert_engine::provenance::{Outcome, Stored, Summary, outline};
use concert_runtime::bus::Bus;
use concert_runtime::retry::Backoff;
use concert_runtime::streams;
use concert_wire::REQUESTING;
use concert_wire::id::FlowId;
use concert_wire::subject::{ARCHIVES, CompletionSubject, FLOWS_NOTICE};
use mongodb::error::Error;
use serde_json::json;

use crate::messages;
use crate::observers::Observers;
use crate::repository::{Archive, PartialFlow, Row};
use crate::rule_cache::{NoRules, RuleCache};

/// Flows that one notice tells of at most.
const TOLD: usize = 100;
/// How often a summary is made anew because messages came meanwhile.
const SUMMARY_ATTEMPTS: usize = 5;

/// Writes flows.
pub(crate) struct Writer {
    bus: Bus,
    archive: Archive,
    rule_cache: Arc<RuleCache>,
    observers: Arc<Observers>,
}

/// Why flows are not written now.
#[derive(Debug, thiserror::Error)]
enum NotWritten {
    #[error("MongoDB: {0}")]
    Database(#[from] Error),
    #[error(transparent)]
    Rules(#[from] NoRules),
}

impl Writer {
    pub(crate) fn new(
        bus: Bus,
        archive: Archive,
        rule_cache: Arc<RuleCache>,
        observers: Arc<Observers>,
    ) -> Self {
        Self { bus, archive, rule_cache, observers }
    }

    /// Learns from a message what is in force.
    pub(crate) fn received(&self, flow: FlowId, stored: &Stored) {
        self.rule_cache.received(flow, stored);
    }

    /// Lets another archive take over at once.
    pub(crate) async fn hand_over(&self) {
        if let Err(error) = streams::unpin(&self.bus, ARCHIVES).await {
            tracing::debug!(%error, "a standby archive takes over only after a while");
        }
    }

    /// Writes flows; tries until it is done.
    pub(crate) async fn write(&self, flows: Vec<PartialFlow>) {
        let backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_secs(5) };
        let mut failures = 0;
        let mut flows = flows;
        while !flows.is_empty() {
            if let Err(error) = self.try_to_write(&mut flows).await {
                failures += 1;
                tracing::warn!(%error, flows = flows.len(), "flows are not archived yet");
                tokio::time::sleep(backoff.delay(failures)).await;
            }
        }
    }

    /// Writes what is left of the flows, takes out what is written, and tells of it.
    async fn try_to_write(&self, flows: &mut Vec<PartialFlow>) -> Result<(), NotWritten> {
        let mut told = Vec::new();
        let mut parts = Vec::new();
        let mut new = Vec::new();
        let mut failed = None;
        for partial in std::mem::take(flows) {
            match self.row(partial.flow, &partial.messages).await {
                Ok(Some(row)) => new.push((partial, row)),
                Ok(None) => parts.push(partial),
                Err(error) => {
                    failed = Some(error);
                    flows.push(partial);
                }
            }
        }
        if !new.is_empty() {
            match self.archive.insert(&new).await {
                Ok(there) => {
                    for (number, (partial, row)) in new.into_iter().enumerate() {
                        if there.contains(&number) {
                            parts.push(partial);
                        } else {
                            self.observers.archived(&row, &partial);
                            told.push(row.summary);
                        }
                    }
                }
                Err(error) => {
                    flows.extend(new.into_iter().map(|(partial, _)| partial));
                    failed = Some(error.into());
                }
            }
        }
        for partial in parts {
            match self.add(&partial).await {
                Ok(summary) => told.extend(summary),
                Err(error) => {
                    failed = Some(error);
                    flows.push(partial);
                }
            }
        }
        self.tell(&told).await;
        failed.map_or(Ok(()), Err)
    }

    /// Adds to a flow that is there already, or whose root is not at hand.
    async fn add(&self, partial: &PartialFlow) -> Result<Option<Summary>, NotWritten> {
        self.archive.add(partial).await?;
        let row = self.update_summary(partial.flow).await?;
        Ok(row.map(|row| {
            self.observers.archived(&row, partial);
            row.summary
        }))
    }

    /// Makes the row of an archived flow anew.
    async fn update_summary(&self, flow: FlowId) -> Result<Option<Row>, NotWritten> {
        for _ in 0..SUMMARY_ATTEMPTS {
            let messages = self.archive.flow(flow).await?;
            let Some(row) = self.row(flow, &messages).await? else {
                return Ok(None);
            };
            if self.archive.update_summary(flow, messages.len(), &row).await? {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// `None` without the root.
    async fn row(&self, flow: FlowId, messages: &[Stored]) -> Result<Option<Row>, NotWritten> {
        let Some(root) = messages::root(flow, messages) else {
            return Ok(None);
        };
        let compiled = match self.rule_cache.at(root.seq).await {
            Ok(compiled) => compiled,
            // It is kept without a row, and told when the rules are found.
            Err(NoRules::Gone) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Some(mut told) = outline(flow, messages, &compiled.rules, &[]) else {
            return Ok(None);
        };
        if told.outcome == Outcome::Open {
            let letters = self.archive.letters(flow).await?;
            if !letters.is_empty()
                && let Some(with_letters) = outline(flow, messages, &compiled.rules, &letters)
            {
                told = with_letters;
            }
        }
        Ok(Some(Row {
            summary: told.summary(),
            actions: actions_of(messages),
            traceparent: root.traceparent.clone(),
            flow: told,
        }))
    }

    /// Tells of flows that are under way, and waits for nothing to do so: without their rules at
    /// hand they are told when they are written.
    pub(crate) async fn under_way(&self, flows: &[PartialFlow]) {
        let mut told = Vec::new();
        for PartialFlow { flow, messages } in flows {
            let Some(root) = messages::root(*flow, messages) else {
                continue;
            };
            if let Some(compiled) = self.rule_cache.at_hand(root.seq) {
                let summary =
                    outline(*flow, messages, &compiled.rules, &[]).map(|told| told.summary());
                // An injected action has no answer to wait for.
                told.extend(summary.filter(|summary| summary.outcome == Outcome::Open));
            }
        }
        self.tell(&told).await;
    }

    /// Tells anew of a flow whose action was given up.
    pub(crate) async fn died(&self, flow: FlowId) {
        match self.update_summary(flow).await {
            Ok(row) => self.tell(&Vec::from_iter(row.map(|row| row.summary))).await,
            Err(error) => tracing::warn!(%flow, %error, "a flow is not told anew yet"),
        }
    }

    async fn tell(&self, flows: &[Summary]) {
        if flows.is_empty() {
            return;
        }
        let shown: Vec<&Summary> = flows.iter().rev().take(TOLD).collect();
        let notice = json!({ "flows": shown, "left_out": flows.len() - shown.len() }).to_string();
        if let Err(error) = self.bus.client.publish(FLOWS_NOTICE, notice.into()).await {
            tracing::debug!(%error, "nobody is told of flows");
        }
    }
}

/// `Concept.action`, and the action alone, of everything that happened but the requests and their
/// answers, which every list would have.
fn actions_of(messages: &[Stored]) -> Vec<String> {
    let mut names = BTreeSet::new();
    for message in messages {
        if let Ok(subject) = CompletionSubject::parse(&message.subject)
            && subject.concept.as_str() != REQUESTING
        {
            names.insert(format!("{}.{}", subject.concept, subject.action));
            names.insert(subject.action.as_str().to_owned());
        }
    }
    names.into_iter().collect()
}
