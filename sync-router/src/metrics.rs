//! What the router of this process did and does.

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

struct RouterMetrics {
    first: Counter,
    again: Counter,
    unacknowledged: Gauge,
}

static METRICS: LazyLock<RouterMetrics> = LazyLock::new(|| {
    runtime_metrics::register(|registry| {
        let deliveries = Family::<Delivery, Counter>::default();
        let delivered = |redelivered| deliveries.get_or_create(&Delivery { redelivered }).clone();
        let metrics = RouterMetrics {
            first: delivered("false"),
            again: delivered("true"),
            unacknowledged: Gauge::default(),
        };
        registry.register(
            "concert_router_deliveries",
            "Messages of the log delivered to a router, for the first time or again",
            deliveries,
        );
        registry.register(
            "concert_router_unacknowledged",
            "Messages of the log that a router has not brought to their end",
            metrics.unacknowledged.clone(),
        );
        metrics
    })
});

/// A message was delivered, for which time.
pub(crate) fn delivered(times: i64) {
    let counter = if times > 1 { &METRICS.again } else { &METRICS.first };
    counter.inc();
}

/// So many are not acknowledged now.
pub(crate) fn unacknowledged(count: usize) {
    METRICS.unacknowledged.set(i64::try_from(count).unwrap_or(i64::MAX));
}
