//! Metrics of the edge.

use std::time::Duration;

use concert_runtime::metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    path: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPath {
    path: String,
}

/// Metrics of the edge.
#[derive(Clone)]
pub(crate) struct Metrics {
    requests: Family<Labels, Counter>,
    duration: Family<OfPath, Histogram>,
    in_flight: Gauge,
    connections: Gauge,
    refused: Counter,
}

/// Label for all paths outside the route table, so clients cannot create labels.
const OTHER_PATH: &str = "other";

impl Metrics {
    pub(crate) fn new() -> Self {
        let requests = Family::<Labels, Counter>::default();
        let of_seconds: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 2.0, 15));
        let duration = Family::<OfPath, Histogram>::new_with_constructor(of_seconds);
        let in_flight = Gauge::default();
        let connections = Gauge::default();
        let refused = Counter::default();
        metrics::register(|registry| {
            registry.register(
                "concert_http_requests",
                "Responses, by path and status",
                requests.clone(),
            );
            registry.register(
                "concert_http_request_duration_seconds",
                "Time to the response, by path",
                duration.clone(),
            );
            registry.register(
                "concert_http_requests_in_flight",
                "Requests in flight",
                in_flight.clone(),
            );
            registry.register(
                "concert_http_connections",
                "Open client connections",
                connections.clone(),
            );
            registry.register(
                "concert_http_connections_refused",
                "Connections rejected at a limit",
                refused.clone(),
            );
        });
        Self { requests, duration, in_flight, connections, refused }
    }

    pub(crate) fn connected(&self) {
        self.connections.inc();
    }

    pub(crate) fn disconnected(&self) {
        self.connections.dec();
    }

    pub(crate) fn connection_refused(&self) {
        self.refused.inc();
    }

    pub(crate) fn began(&self) {
        self.in_flight.inc();
    }

    pub(crate) fn answered(&self, path: Option<&str>, status: u16, took: Duration) {
        self.in_flight.dec();
        let path = path.unwrap_or(OTHER_PATH).to_owned();
        self.duration.get_or_create(&OfPath { path: path.clone() }).observe(took.as_secs_f64());
        self.requests.get_or_create(&Labels { path, status }).inc();
    }
}
