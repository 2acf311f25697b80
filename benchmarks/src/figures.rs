//! What a run measures.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::process::Memory;

/// The figures of one run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figures {
    /// What was run.
    pub(crate) name: &'static str,
    /// Requests in flight.
    pub(crate) in_flight: usize,
    /// Flows answered.
    pub(crate) flows: u64,
    /// Flows answered per second.
    pub(crate) flows_per_second: f64,
    /// The median time to the answer, in milliseconds.
    pub(crate) p50_ms: f64,
    /// The time that one in a hundred exceeds, in milliseconds.
    pub(crate) p99_ms: f64,
    /// Processor time of all processes per flow, in milliseconds.
    pub(crate) cpu_ms_per_flow: f64,
}

impl Figures {
    /// From what was recorded.
    pub(crate) fn new(
        name: &'static str,
        in_flight: usize,
        latency_us: &Histogram<u64>,
        took: Duration,
        cpu: Duration,
    ) -> Self {
        let flows = latency_us.len();
        let ms = |quantile| latency_us.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            name,
            in_flight,
            flows,
            flows_per_second: flows as f64 / took.as_secs_f64(),
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            cpu_ms_per_flow: if flows == 0 {
                0.0
            } else {
                cpu.as_secs_f64() * 1000.0 / flows as f64
            },
        }
    }
}

/// The memory after so many flows.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Soak {
    /// Flows so far.
    pub(crate) flows: u64,
    /// Flows answered per second since the sample before.
    pub(crate) flows_per_second: f64,
    /// What each process holds.
    pub(crate) memory: Vec<Memory>,
}

/// What observability costs one kind of request.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Cost {
    /// What was run.
    pub(crate) name: &'static str,
    /// Requests in flight.
    pub(crate) in_flight: usize,
    /// Flows per second without an archive, the median of the rounds.
    pub(crate) off_per_second: f64,
    /// Flows per second with archive, traces of every flow, metrics and JSON logs, the median of
    /// the rounds.
    pub(crate) on_per_second: f64,
    /// The median of the rounds' ratios.
    pub(crate) ratio: f64,
    /// Messages of the log that the archive had not read when the load ended, at most.
    pub(crate) behind: u64,
    /// How long it took to read them, at most, in seconds.
    pub(crate) caught_up_s: f64,
    /// Spans that came, of all rounds and kinds so far.
    pub(crate) span_bytes: u64,
}
