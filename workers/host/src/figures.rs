//! What the workers of this process did and do.

use std::sync::LazyLock;

use concert_runtime::metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

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

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The action is completed.
    Completed,
    /// It will be tried again.
    Retried,
    /// It is left to a later delivery, which has begun.
    Left,
    /// It is given up.
    Dead,
}

struct Figures {
    deliveries: Family<Delivery, Counter>,
    attempts: Family<Attempt, Counter>,
    under_way: Family<OfConcept, Gauge>,
}

static FIGURES: LazyLock<Figures> = LazyLock::new(|| {
    metrics::register(|registry| {
        let figures = Figures {
            deliveries: Family::default(),
            attempts: Family::default(),
            under_way: Family::default(),
        };
        registry.register(
            "concert_worker_deliveries",
            "Invocations delivered to a worker, for the first time or again",
            figures.deliveries.clone(),
        );
        registry.register(
            "concert_worker_attempts",
            "Attempts at actions, by how they ended",
            figures.attempts.clone(),
        );
        registry.register(
            "concert_worker_under_way",
            "Actions that a worker carries out",
            figures.under_way.clone(),
        );
        figures
    })
});

/// An attempt that is under way until this is dropped.
pub(crate) struct UnderWay {
    gauge: Gauge,
}

impl UnderWay {
    /// An action of a concept was delivered, for which time.
    pub(crate) fn begin(concept: &str, delivered: i64) -> Self {
        let delivery = Delivery {
            concept: concept.to_owned(),
            redelivered: if delivered > 1 { "true" } else { "false" },
        };
        FIGURES.deliveries.get_or_create(&delivery).inc();
        let of = OfConcept {
            concept: concept.to_owned(),
        };
        let gauge = FIGURES.under_way.get_or_create(&of).clone();
        gauge.inc();
        Self { gauge }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

/// An attempt at an action of a concept ended.
pub(crate) fn ended(concept: &str, end: End) {
    let end = match end {
        End::Completed => "completed",
        End::Retried => "retried",
        End::Left => "left",
        End::Dead => "dead",
    };
    let attempt = Attempt {
        concept: concept.to_owned(),
        end,
    };
    FIGURES.attempts.get_or_create(&attempt).inc();
}
