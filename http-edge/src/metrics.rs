//! What `/metrics` tells, in the text format of OpenMetrics.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    path: String,
    status: u16,
}

/// The edge's figures.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    requests: Family<Labels, Counter>,
    duration: Histogram,
    in_flight: Gauge,
}

/// The label of everything that is no path of the route table, so that no client can make labels.
const OTHER_PATH: &str = "other";

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let requests = Family::<Labels, Counter>::default();
        let duration = Histogram::new(exponential_buckets(0.001, 2.0, 15));
        let in_flight = Gauge::default();
        registry.register(
            "concert_http_requests",
            "Requests answered, by path and status",
            requests.clone(),
        );
        registry.register(
            "concert_http_request_duration_seconds",
            "Time to the answer",
            duration.clone(),
        );
        registry.register(
            "concert_http_requests_in_flight",
            "Requests that wait for their answer",
            in_flight.clone(),
        );
        Self {
            registry: Arc::new(registry),
            requests,
            duration,
            in_flight,
        }
    }

    pub(crate) fn began(&self) {
        self.in_flight.inc();
    }

    pub(crate) fn answered(&self, path: Option<&str>, status: u16, took: Duration) {
        self.in_flight.dec();
        self.requests
            .get_or_create(&Labels {
                path: path.unwrap_or(OTHER_PATH).to_owned(),
                status,
            })
            .inc();
        self.duration.observe(took.as_secs_f64());
    }

    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
