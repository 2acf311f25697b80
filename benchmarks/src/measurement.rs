//! The results of a run.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::process::{Memory, PerFlow};

/// The metrics of one run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measurement {
    /// The scenario, or the peer.
    pub(crate) name: String,
    /// `true` on the second stack of `--versus`.
    pub(crate) is_second: bool,
    /// Concurrent requests.
    pub(crate) in_flight: usize,
    /// Flows with a response.
    pub(crate) flows: u64,
    /// Flows with a response, per second.
    pub(crate) flows_per_second: f64,
    /// Median response time, in milliseconds.
    pub(crate) p50_ms: f64,
    /// The 99th percentile of the response time, in milliseconds.
    pub(crate) p99_ms: f64,
    /// What each process used for a flow; without the load generator.
    pub(crate) processes: Vec<PerFlow>,
    /// Repeated deliveries to routers and workers.
    pub(crate) redeliveries: u64,
}

impl Measurement {
    /// Computes the metrics from a recorded load.
    pub(crate) fn new(
        name: &str,
        in_flight: usize,
        latency_us: &Histogram<u64>,
        took: Duration,
    ) -> Self {
        let flows = latency_us.len();
        let ms = |quantile| latency_us.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            name: name.to_owned(),
            is_second: false,
            in_flight,
            flows,
            flows_per_second: flows as f64 / took.as_secs_f64(),
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            processes: Vec::new(),
            redeliveries: 0,
        }
    }
}

/// Memory after a number of flows.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Soak {
    /// Flows so far.
    pub(crate) flows: u64,
    /// Flows with a response per second since the previous sample.
    pub(crate) flows_per_second: f64,
    /// Memory of each process.
    pub(crate) memory: Vec<Memory>,
}

/// Cost of observability for one kind of request.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Cost {
    /// The scenario.
    pub(crate) name: &'static str,
    /// Concurrent requests.
    pub(crate) in_flight: usize,
    /// Flows per second without an archive; median of the rounds.
    pub(crate) off_per_second: f64,
    /// Flows per second with an archive, traces of every flow, metrics and JSON logs; median of the
    /// rounds.
    pub(crate) on_per_second: f64,
    /// Median of the ratios of the rounds.
    pub(crate) ratio: f64,
    /// Maximum number of log messages that the archive had not read when the load ended.
    pub(crate) behind: u64,
    /// Maximum time to read them, in seconds.
    pub(crate) caught_up_s: f64,
    /// Spans received in all rounds and kinds so far.
    pub(crate) span_bytes: u64,
}

/// The median; of an even number of values the upper one, so that it is one of them.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
