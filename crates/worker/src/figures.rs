//! What the workers of this process did and do.

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
    under_way: Family<OfConcept, Gauge>,
}

static FAMILIES: LazyLock<Families> = LazyLock::new(|| {
    metrics::register(|registry| {
        let families = Families {
            deliveries: Family::default(),
            attempts: Family::default(),
            under_way: Family::default(),
        };
        registry.register(
            "concert_worker_deliveries",
            "Invocations delivered to a worker, for the first time or again",
            families.deliveries.clone(),
        );
        registry.register(
            "concert_worker_attempts",
            "Attempts at actions, by how they ended",
            families.attempts.clone(),
        );
        registry.register(
            "concert_worker_under_way",
            "Actions that a worker carries out",
            families.under_way.clone(),
        );
        families
    })
});

/// Those of one concept, looked up once.
pub(crate) struct Figures {
    first: Counter,
    again: Counter,
    completed: Counter,
    retried: Counter,
    left: Counter,
    dead: Counter,
    under_way: Gauge,
}

impl Figures {
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
            under_way: FAMILIES.under_way.get_or_create(&of).clone(),
        }
    }

    /// An action was delivered, for which time; it is under way until what this returns is dropped.
    pub(crate) fn begin(&self, delivered: i64) -> UnderWay<'_> {
        let counter = if delivered > 1 { &self.again } else { &self.first };
        counter.inc();
        self.under_way.inc();
        UnderWay(&self.under_way)
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

/// An attempt that is under way.
pub(crate) struct UnderWay<'a>(&'a Gauge);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
