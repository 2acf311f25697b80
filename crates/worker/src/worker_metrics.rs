//! Metrics of the workers in this process.

use std::sync::LazyLock;

use concert_runtime::metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::order::End;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Delivery {
    concept: String,
    redelivered: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempt {
    concept: String,
    end: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfConcept {
    concept: String,
}

struct Families {
    deliveries: Family<Delivery, Counter>,
    attempts: Family<Attempt, Counter>,
    in_progress: Family<OfConcept, Gauge>,
}

static FAMILIES: LazyLock<Families> = LazyLock::new(|| {
    metrics::register(|registry| {
        let families = Families {
            deliveries: Family::default(),
            attempts: Family::default(),
            in_progress: Family::default(),
        };
        registry.register(
            "concert_worker_deliveries",
            "Invocations delivered to a worker, including redeliveries",
            families.deliveries.clone(),
        );
        registry.register(
            "concert_worker_attempts",
            "Attempts at actions, by result",
            families.attempts.clone(),
        );
        registry.register(
            "concert_worker_under_way",
            "Actions in progress",
            families.in_progress.clone(),
        );
        families
    })
});

/// The metrics of one concept, looked up once.
pub(crate) struct WorkerMetrics {
    first: Counter,
    again: Counter,
    completed: Counter,
    retried: Counter,
    left: Counter,
    dead: Counter,
    in_progress: Gauge,
}

impl WorkerMetrics {
    pub(crate) fn of(concept: &str) -> Self {
        let concept = || concept.to_owned();
        let delivered = |redelivered| {
            let of = Delivery { concept: concept(), redelivered };
            FAMILIES.deliveries.get_or_create(&of).clone()
        };
        let ended = |end| {
            let of = Attempt { concept: concept(), end };
            FAMILIES.attempts.get_or_create(&of).clone()
        };
        let of = OfConcept { concept: concept() };
        Self {
            first: delivered("false"),
            again: delivered("true"),
            completed: ended("completed"),
            retried: ended("retried"),
            left: ended("left"),
            dead: ended("dead"),
            in_progress: FAMILIES.in_progress.get_or_create(&of).clone(),
        }
    }

    /// Counts a delivery with its attempt number. The action is in progress until the result is
    /// dropped.
    pub(crate) fn begin(&self, delivered: i64) -> InProgress<'_> {
        let counter = if delivered > 1 { &self.again } else { &self.first };
        counter.inc();
        self.in_progress.inc();
        InProgress(&self.in_progress)
    }

    /// An attempt ended.
    pub(crate) fn ended(&self, end: &End) {
        let counter = match end {
            End::Ack => &self.completed,
            End::Nak { .. } => &self.retried,
            End::Leave(_) => &self.left,
            End::Term => &self.dead,
        };
        counter.inc();
    }
}

/// An attempt in progress.
pub(crate) struct InProgress<'a>(&'a Gauge);

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
