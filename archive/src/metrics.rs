//! Metrics of archived flows, in the OpenMetrics text format. Labels are names of paths, concepts,
//! actions and rules, and never values that a client chooses.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use concert_engine::provenance::{Action, Firing};
use concert_runtime::bus::Bus;
use concert_runtime::metrics as runtime_metrics;
use concert_runtime::process::Shutdown;
use concert_runtime::streams;
use concert_wire::work::{Part, QueryPart};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::problems;
use crate::repository::Row;
use crate::rule_cache::RuleCache;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFlow {
    root: String,
    path: String,
    outcome: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfAction {
    concept: String,
    action: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfQuery {
    concept: String,
    query: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPart {
    concept: String,
    part: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfOutcome {
    concept: String,
    action: String,
    outcome: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRule {
    sync: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfConcept {
    concept: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfConsumer {
    stream: String,
    consumer: String,
}

/// Interval between polls of the consumers' backlogs.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// The archive's metrics.
#[derive(Clone)]
pub(crate) struct Metrics {
    flows: Family<OfFlow, Counter>,
    actions: Family<OfOutcome, Counter>,
    durations: Family<OfAction, Histogram>,
    queued: Family<OfAction, Histogram>,
    worked: Family<OfAction, Histogram>,
    parts: Family<OfPart, Histogram>,
    queries: Family<OfQuery, Histogram>,
    firings: Family<OfRule, Counter>,
    letters: Family<OfConcept, Counter>,
    dead: Gauge,
    log_fill_ratio: Gauge<f64, AtomicU64>,
    pending: Family<OfConsumer, Gauge>,
    ack_pending: Family<OfConsumer, Gauge>,
    redelivered: Family<OfConsumer, Gauge>,
    dropped_spans: Counter,
    waiting_messages: Gauge,
    waiting_bytes: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let of_seconds: fn() -> Histogram =
            || Histogram::new(exponential_buckets(0.000_5, 2.0, 15));
        let metrics = Self {
            flows: Family::default(),
            actions: Family::default(),
            durations: Family::new_with_constructor(of_seconds),
            queued: Family::new_with_constructor(of_seconds),
            worked: Family::new_with_constructor(of_seconds),
            parts: Family::new_with_constructor(of_seconds),
            queries: Family::new_with_constructor(of_seconds),
            firings: Family::default(),
            letters: Family::default(),
            dead: Gauge::default(),
            log_fill_ratio: Gauge::default(),
            pending: Family::default(),
            ack_pending: Family::default(),
            redelivered: Family::default(),
            dropped_spans: Counter::default(),
            waiting_messages: Gauge::default(),
            waiting_bytes: Gauge::default(),
        };
        let m = &metrics;
        runtime_metrics::register(|registry| {
            registry.register(
                "concert_flows",
                "Archived flows, by root, path and outcome at that time",
                m.flows.clone(),
            );
            registry.register(
                "concert_actions",
                "Completed actions, by outcome",
                m.actions.clone(),
            );
            registry.register(
                "concert_action_duration_seconds",
                "Time from the cause of an action to its completion",
                m.durations.clone(),
            );
            registry.register(
                "concert_action_queue_seconds",
                "Time from the cause of an action to its start in a worker",
                m.queued.clone(),
            );
            registry.register(
                "concert_action_work_seconds",
                "Time from the start of an action in a worker to its completion",
                m.worked.clone(),
            );
            registry.register(
                "concert_action_part_seconds",
                "Time that workers spent on password hashing and database operations",
                m.parts.clone(),
            );
            registry.register(
                "concert_query_seconds",
                "Time from a router's query to its result, for queries that led to firings",
                m.queries.clone(),
            );
            registry.register("concert_firings", "Firings, by rule", m.firings.clone());
            registry.register(
                "concert_dead_letters",
                "Dead-lettered actions, by concept",
                m.letters.clone(),
            );
            registry.register("concert_dead_letters_kept", "Stored dead letters", m.dead.clone());
            registry.register(
                "concert_log_fill_ratio",
                "Share of the log's limits that is in use; at 0.9 new requests get 503",
                m.log_fill_ratio.clone(),
            );
            registry.register(
                "concert_consumer_pending",
                "Messages not delivered yet",
                m.pending.clone(),
            );
            registry.register(
                "concert_consumer_ack_pending",
                "Messages delivered and not acknowledged yet",
                m.ack_pending.clone(),
            );
            registry.register(
                "concert_consumer_redelivered",
                "Unacknowledged messages that were delivered more than once",
                m.redelivered.clone(),
            );
            registry.register(
                "concert_spans_dropped",
                "Spans that could not be exported",
                m.dropped_spans.clone(),
            );
            registry.register(
                "concert_archive_waiting_messages",
                "Log messages in memory that are not archived yet",
                m.waiting_messages.clone(),
            );
            registry.register(
                "concert_archive_waiting_bytes",
                "Size of those messages, in bytes",
                m.waiting_bytes.clone(),
            );
        });
        metrics
    }

    pub(crate) fn archived(&self, row: &Row, actions: &[&Action], firings: &[&Firing]) {
        for action in actions {
            if action.id == row.flow.root {
                let of = OfFlow {
                    root: row.summary.root.clone(),
                    path: row.summary.path.clone().unwrap_or_default(),
                    outcome: serde_json::to_value(row.summary.outcome)
                        .ok()
                        .and_then(|word| word.as_str().map(str::to_owned))
                        .unwrap_or_default(),
                };
                self.flows.get_or_create(&of).inc();
            }
            let of = OfOutcome {
                concept: action.concept.clone(),
                action: action.action.clone(),
                outcome: action.outcome.clone().unwrap_or_default(),
            };
            self.actions.get_or_create(&of).inc();
            if let (Some(completed_us), true) = (action.completed_us, action.by.is_some()) {
                let of = OfAction { concept: of.concept, action: of.action };
                let took_us = completed_us.saturating_sub(action.asked_us);
                self.durations.get_or_create(&of).observe(seconds(took_us));
                if let (Some(work), Some(waited_us)) = (&action.work, action.waited_us()) {
                    self.queued.get_or_create(&of).observe(seconds(waited_us));
                    self.worked.get_or_create(&of).observe(seconds(work.took_us));
                    for part in &work.parts {
                        let of = OfPart { concept: of.concept.clone(), part: part.name.clone() };
                        self.parts.get_or_create(&of).observe(seconds(part.took_us));
                    }
                }
            }
        }
        for firing in firings {
            let of = OfRule { sync: firing.sync.clone() };
            self.firings.get_or_create(&of).inc();
        }
        let measured =
            firings.iter().filter_map(|firing| Some((firing.at_us, &*firing.work.as_ref()?.parts)));
        for part in measured_queries(measured) {
            // The worker's own parts follow its query.
            if let Some(QueryPart { concept, query, .. }) = part.query() {
                let of = OfQuery { concept: concept.to_owned(), query: query.to_owned() };
                self.queries.get_or_create(&of).observe(seconds(part.took_us));
            }
        }
    }

    pub(crate) fn died(&self, concept: &str) {
        let of = OfConcept { concept: concept.to_owned() };
        self.letters.get_or_create(&of).inc();
    }

    pub(crate) fn dropped_spans(&self, count: usize) {
        self.dropped_spans.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// Sets the number and size of messages that are read and not stored.
    pub(crate) fn set_waiting(&self, messages: usize, bytes: usize) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.waiting_messages.set(number(messages));
        self.waiting_bytes.set(number(bytes));
    }

    /// Polls the consumers' backlogs until shutdown.
    pub(crate) async fn watch(self, bus: Bus, rules: Arc<RuleCache>, shutdown: Shutdown) {
        let mut tick = tokio::time::interval(POLL_INTERVAL);
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                _ = tick.tick() => {}
            }
            let compiled = rules.latest().await.ok();
            for (stream, consumer, lag) in problems::lags(&bus, compiled.as_deref()).await {
                let of = OfConsumer { stream, consumer: consumer.to_owned() };
                let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
                self.pending.get_or_create(&of).set(number(lag.pending));
                self.ack_pending.get_or_create(&of).set(number(lag.ack_pending as u64));
                self.redelivered.get_or_create(&of).set(number(lag.redelivered as u64));
            }
            if let Some(compiled) = compiled {
                // A counter must exist before the first dead letter, so that this is visible as an
                // increase.
                for spec in &compiled.rules.program().concepts {
                    let concept = spec.name.to_string();
                    drop(self.letters.get_or_create(&OfConcept { concept }));
                }
            }
            if let Ok((.., count)) = streams::dead_state(&bus).await {
                self.dead.set(i64::try_from(count).unwrap_or(i64::MAX));
            }
            if let Ok(ratio) = streams::log_fill_ratio(&bus).await {
                self.log_fill_ratio.set(ratio);
            }
        }
    }
}

/// Collects the measured parts of firings, each with the time of its firing. A part that several
/// firings report is counted once, because rules with the same query at the same completion run it
/// once. A rule that runs a query for several rows reports each run, even if they start at the same
/// time.
fn measured_queries<'a>(firings: impl Iterator<Item = (u64, &'a [Part])>) -> Vec<&'a Part> {
    let (mut parts_once, mut seen) = (Vec::new(), BTreeSet::new());
    for (fired_us, parts) in firings {
        let own = parts.iter().filter(|part| !seen.contains(&(fired_us, part.at_us, &*part.name)));
        let own: Vec<&Part> = own.collect();
        seen.extend(own.iter().map(|part| (fired_us, part.at_us, &*part.name)));
        parts_once.extend(own);
    }
    parts_once
}

fn seconds(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_query_counts_once_and_query_per_row_counts_per_row() {
        let part = |name: &str, at_us| Part { name: name.to_owned(), at_us, took_us: 1 };
        let (two_rows, other) = ([part("A._q", 5), part("A._q", 5)], [part("A._q", 7)]);
        let of = |firings: &[(u64, &[Part])]| measured_queries(firings.iter().copied()).len();
        assert_eq!(of(&[(1, &two_rows)]), 2);
        assert_eq!(of(&[(1, &two_rows), (1, &two_rows)]), 2);
        assert_eq!(of(&[(1, &two_rows), (1, &other)]), 3);
        assert_eq!(of(&[(1, &two_rows), (2, &two_rows)]), 4);
    }
}
