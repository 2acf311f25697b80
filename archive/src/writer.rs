//! Stores flows, and publishes notices about them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use concert_engine::provenance::{Outcome, Stored, Summary, outline};
use concert_runtime::bus::Bus;
use concert_runtime::log;
use concert_runtime::retry::Backoff;
use concert_runtime::streams;
use concert_wire::REQUESTING;
use concert_wire::id::FlowId;
use concert_wire::subject::{ARCHIVES, CompletionSubject, FLOWS_NOTICE};
use mongodb::error::Error;
use serde_json::json;

use crate::messages;
use crate::observers::Observers;
use crate::redaction::{self, Markers};
use crate::repository::{Archive, PartialFlow, Row};
use crate::rule_cache::{NoRules, RuleCache};

/// Maximum number of flows in one notice.
const MAX_IN_NOTICE: usize = 100;
/// Maximum number of attempts to update a summary while new messages arrive.
const SUMMARY_ATTEMPTS: usize = 5;

/// Stores flows.
pub(crate) struct Writer {
    bus: Bus,
    archive: Archive,
    rule_cache: Arc<RuleCache>,
    observers: Arc<Observers>,
}

/// Error of an attempt to store flows.
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

    /// Records the rule version that a message activates.
    pub(crate) fn received(&self, flow: FlowId, stored: &Stored) {
        self.rule_cache.received(flow, stored);
    }

    /// Lets a standby archive take over immediately.
    pub(crate) async fn hand_over(&self) {
        if let Err(error) = streams::unpin(&self.bus, ARCHIVES).await {
            tracing::debug!(
                %error,
                "cannot hand over; a standby archive takes over after a timeout"
            );
        }
    }

    /// Stores flows, and retries until it succeeds.
    pub(crate) async fn write(&self, flows: Vec<PartialFlow>) {
        let backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_secs(5) };
        let mut failures = 0;
        let mut flows = flows;
        for partial in &mut flows {
            self.redact(partial).await;
        }
        while !flows.is_empty() {
            if let Err(error) = self.try_to_write(&mut flows).await {
                failures += 1;
                tracing::warn!(%error, flows = flows.len(), "cannot archive flows; retrying");
                tokio::time::sleep(backoff.delay(failures)).await;
            }
        }
    }

    /// Replaces encrypted secrets with markers. The log has the earlier messages of a partial flow.
    async fn redact(&self, partial: &mut PartialFlow) {
        if !partial.messages.iter().any(redaction::has_seal) {
            return;
        }
        partial.messages.sort_by_key(|message| message.seq);
        let first = partial.messages.first().map_or(0, |first| first.seq);
        let mut earlier = Vec::new();
        if messages::root(partial.flow, &partial.messages).is_none()
            && let Ok((_, log)) = log::read_flow(&self.bus, partial.flow).await
        {
            earlier.extend(log.iter().filter(|read| read.seq < first).map(messages::read));
            earlier.sort_by_key(|message| message.seq);
        }
        let known = if earlier.is_empty() { &partial.messages } else { &earlier };
        let mut markers = match messages::root(partial.flow, known) {
            Some(_) => Markers::default(),
            None => Markers::from_seq(first),
        };
        markers.redact(&mut earlier);
        markers.redact(&mut partial.messages);
    }

    /// Stores the flows, removes the stored ones from the list, and publishes a notice about them.
    async fn try_to_write(&self, flows: &mut Vec<PartialFlow>) -> Result<(), NotWritten> {
        let mut summaries = Vec::new();
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
                            summaries.push(row.summary);
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
                Ok(summary) => summaries.extend(summary),
                Err(error) => {
                    failed = Some(error);
                    flows.push(partial);
                }
            }
        }
        self.notify(&summaries).await;
        failed.map_or(Ok(()), Err)
    }

    /// Adds messages to a stored flow, or stores a flow whose root is missing here.
    async fn add(&self, partial: &PartialFlow) -> Result<Option<Summary>, NotWritten> {
        self.archive.add(partial).await?;
        let row = self.update_summary(partial.flow).await?;
        Ok(row.map(|row| {
            self.observers.archived(&row, partial);
            row.summary
        }))
    }

    /// Recomputes the summary row of a stored flow.
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

    /// Computes a summary row; `None` without the root.
    async fn row(&self, flow: FlowId, messages: &[Stored]) -> Result<Option<Row>, NotWritten> {
        let Some(root) = messages::root(flow, messages) else {
            return Ok(None);
        };
        let compiled = match self.rule_cache.at(root.seq).await {
            Ok(compiled) => compiled,
            // The flow is stored without a row, until its rules are found.
            Err(NoRules::Gone) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Some(mut outlined) = outline(flow, messages, &compiled.rules, &[]) else {
            return Ok(None);
        };
        if outlined.outcome == Outcome::Open {
            let letters = self.archive.letters(flow).await?;
            if !letters.is_empty()
                && let Some(with_letters) = outline(flow, messages, &compiled.rules, &letters)
            {
                outlined = with_letters;
            }
        }
        Ok(Some(Row {
            summary: outlined.summary(),
            actions: actions_of(messages),
            traceparent: root.traceparent.clone(),
            flow: outlined,
        }))
    }

    /// Publishes a notice about unfinished flows. Skips flows whose rules are not cached; their
    /// notice follows when they are stored.
    pub(crate) async fn report_unfinished(&self, flows: &[PartialFlow]) {
        let mut summaries = Vec::new();
        for PartialFlow { flow, messages } in flows {
            let Some(root) = messages::root(*flow, messages) else {
                continue;
            };
            if let Some(compiled) = self.rule_cache.cached_at(root.seq) {
                let summary =
                    outline(*flow, messages, &compiled.rules, &[]).map(|flow| flow.summary());
                // An injected action has no response to wait for.
                summaries.extend(summary.filter(|summary| summary.outcome == Outcome::Open));
            }
        }
        self.notify(&summaries).await;
    }

    /// Updates and reports a flow after the dead letter of an action.
    pub(crate) async fn died(&self, flow: FlowId) {
        match self.update_summary(flow).await {
            Ok(row) => self.notify(&Vec::from_iter(row.map(|row| row.summary))).await,
            Err(error) => {
                tracing::warn!(
                    %flow,
                    %error,
                    "cannot update the summary of a flow with a dead letter"
                )
            }
        }
    }

    async fn notify(&self, flows: &[Summary]) {
        if flows.is_empty() {
            return;
        }
        let shown: Vec<&Summary> = flows.iter().rev().take(MAX_IN_NOTICE).collect();
        let notice = json!({ "flows": shown, "left_out": flows.len() - shown.len() }).to_string();
        if let Err(error) = self.bus.client.publish(FLOWS_NOTICE, notice.into()).await {
            tracing::debug!(%error, "cannot publish a notice about flows");
        }
    }
}

/// Names of all completed actions, as `Concept.action` and as the action name only. Requests and
/// responses are left out, because every flow has them.
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
