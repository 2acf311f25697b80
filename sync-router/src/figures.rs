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
    deliveries: Family<Delivery, Counter>,
    unacknowledged: Gauge,
}

static FIGURES: LazyLock<Figures> = LazyLock::new(|| {
    metrics::register(|registry| {
        let (deliveries, unacknowledged) = (Family::default(), Gauge::default());
        registry.register(
            "concert_router_deliveries",
            "Messages of the log delivered to a router, for the first time or again",
            Family::clone(&deliveries),
        );
        registry.register(
            "concert_router_unacknowledged",
            "Messages of the log that a router has not brought to their end",
            Gauge::clone(&unacknowledged),
        );
        Figures {
            deliveries,
            unacknowledged,
        }
    })
});

/// A message was delivered, for which time.
pub(crate) fn delivered(times: i64) {
    let redelivered = if times > 1 { "true" } else { "false" };
    FIGURES.deliveries.get_or_create(&Delivery { redelivered }).inc();
}

/// So many are not acknowledged now.
pub(crate) fn unacknowledged(count: usize) {
    FIGURES.unacknowledged.set(i64::try_from(count).unwrap_or(i64::MAX));
}
