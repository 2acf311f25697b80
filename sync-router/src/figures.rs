//! What the router of this process did and does.

use std::sync::LazyLock;

use concert_runtime::metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Delivery {
    redelivered: &'static str,
}

struct Figures {
    first: Counter,
    again: Counter,
    unacknowledged: Gauge,
}

static FIGURES: LazyLock<Figures> = LazyLock::new(|| {
    metrics::register(|registry| {
        let deliveries = Family::<Delivery, Counter>::default();
        let delivered = |redelivered| deliveries.get_or_create(&Delivery { redelivered }).clone();
        let figures = Figures {
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
            figures.unacknowledged.clone(),
        );
        figures
    })
});

/// A message was delivered, for which time.
pub(crate) fn delivered(times: i64) {
    let counter = if times > 1 { &FIGURES.again } else { &FIGURES.first };
    counter.inc();
}

/// So many are not acknowledged now.
pub(crate) fn unacknowledged(count: usize) {
    FIGURES.unacknowledged.set(i64::try_from(count).unwrap_or(i64::MAX));
}
