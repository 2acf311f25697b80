//! Metrics of this process's router.

use std::sync::LazyLock;

use concert_runtime::metrics as runtime_metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Delivery {
    redelivered: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfConcept {
    concept: String,
}

struct RouterMetrics {
    first: Counter,
    again: Counter,
    unacknowledged: Gauge,
    abandoned: Family<OfConcept, Counter>,
}

static METRICS: LazyLock<RouterMetrics> = LazyLock::new(|| {
    runtime_metrics::register(|registry| {
        let deliveries = Family::<Delivery, Counter>::default();
        let delivered = |redelivered| deliveries.get_or_create(&Delivery { redelivered }).clone();
        let metrics = RouterMetrics {
            first: delivered("false"),
            again: delivered("true"),
            unacknowledged: Gauge::default(),
            abandoned: Family::default(),
        };
        registry.register(
            "concert_router_deliveries",
            "Log messages delivered to the router, by first delivery or redelivery",
            deliveries,
        );
        registry.register(
            "concert_router_unacknowledged",
            "Log messages that the router has not acknowledged yet",
            metrics.unacknowledged.clone(),
        );
        registry.register(
            "concert_router_queries_abandoned",
            "Queries that the router gave up because they had no result in time, by concept",
            metrics.abandoned.clone(),
        );
        metrics
    })
});

/// Counts a delivery, given its delivery count.
pub(crate) fn delivered(times: i64) {
    let counter = if times > 1 { &METRICS.again } else { &METRICS.first };
    counter.inc();
}

/// Counts a query that the router gave up because it had no result in time.
pub(crate) fn abandoned(concept: &str) {
    METRICS.abandoned.get_or_create(&OfConcept { concept: concept.to_owned() }).inc();
}

/// Sets the number of unacknowledged messages.
pub(crate) fn unacknowledged(count: usize) {
    METRICS.unacknowledged.set(i64::try_from(count).unwrap_or(i64::MAX));
}
