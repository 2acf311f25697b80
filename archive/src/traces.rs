//! One trace for each flow, made of its log: what the router, the workers and the edge did, as
//! spans of OpenTelemetry.
//!
//! Ids follow from the flow's own, so that whoever has a flow has its trace, and a span that is
//! told twice is the same span: the trace is the caller's, if the request carried a sampled
//! `traceparent`, else the flow's id; a span is the two halves of the id of its action or firing in
//! one. No value of an input or output is in any span.

mod spans;

use std::time::Duration;

use concert_engine::provenance::{Action, Firing};
use concert_runtime::process::Shutdown;
use concert_wire::id::FlowId;
use concert_wire::traceparent::Traceparent;
use opentelemetry::InstrumentationScope;
use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::metrics::Metrics;
use crate::repository::Row;

/// Spans that wait to be exported at most; past it they are dropped, and counted.
const QUEUE: usize = 20_000;
/// Spans that are exported at once.
const BATCH: usize = 512;
/// How long a span waits for others.
const WAIT: Duration = Duration::from_secs(1);
/// How long the last export may take at shutdown.
const LAST: Duration = Duration::from_secs(3);

/// Where traces go, and how many of them: a part of the section
/// `[telemetry]`. The exporter reads the other standard variables itself: `OTEL_EXPORTER_OTLP_HEADERS`,
/// `OTEL_EXPORTER_OTLP_TIMEOUT`, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TraceArgs {
    /// Whether traces are sent, if there is an endpoint.
    pub traces: bool,
    /// URL that traces are sent to by OTLP over HTTP, such as http://localhost:4318; without it
    /// none are sent.
    pub otlp_endpoint: Option<String>,
    /// Flows that are sent. `parentbased_…` follows the caller's `traceparent` first.
    pub sampler: Sampler,
    /// Share of the flows that a ratio sampler sends.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sampler_arg: f64,
}

impl Default for TraceArgs {
    fn default() -> Self {
        Self {
            traces: true,
            otlp_endpoint: None,
            sampler: Sampler::ParentbasedAlwaysOn,
            sampler_arg: 1.0,
        }
    }
}

/// Which flows are sent, by the standard's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// All.
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// A share, by the trace's id.
    Traceidratio,
    /// As the caller says; all of the others.
    ParentbasedAlwaysOn,
    /// As the caller says; none of the others.
    ParentbasedAlwaysOff,
    /// As the caller says; a share of the others.
    ParentbasedTraceidratio,
}

/// Traces cannot be exported.
#[derive(Debug, thiserror::Error)]
#[error("traces cannot be sent to {endpoint}: {source}")]
pub struct BadEndpoint {
    endpoint: String,
    source: opentelemetry_otlp::ExporterBuildError,
}

/// Makes spans.
pub(crate) struct Traces {
    args: TraceArgs,
    scope: InstrumentationScope,
    queue: mpsc::Sender<SpanData>,
    metrics: Metrics,
}

/// Where a flow's spans belong.
struct Place {
    trace: TraceId,
    /// The caller's span.
    parent: Option<SpanId>,
}

impl Traces {
    /// Begins to export, until shutdown; `None` if nothing is to be.
    pub(crate) fn start(
        args: &TraceArgs,
        metrics: Metrics,
        shutdown: &Shutdown,
    ) -> Result<Option<Self>, BadEndpoint> {
        let Some(endpoint) = args.otlp_endpoint.as_ref().filter(|_| args.traces) else {
            return Ok(None);
        };
        let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().with_endpoint(url);
        let mut exporter = exporter
            .build()
            .map_err(|source| BadEndpoint { endpoint: endpoint.clone(), source })?;
        let resource = Resource::builder();
        let named = resource.build().get(&"service.name".into());
        let is_named = named.is_some_and(|name| !name.as_str().starts_with("unknown_service"));
        let resource = Resource::builder();
        let resource = if is_named { resource } else { resource.with_service_name("concert") };
        exporter.set_resource(&resource.build());
        let (queue, spans) = mpsc::channel(QUEUE);
        shutdown.tasks().spawn(export(exporter, spans, metrics.clone(), shutdown.clone()));
        let scope =
            InstrumentationScope::builder("concert").with_version(env!("CARGO_PKG_VERSION"));
        Ok(Some(Self { args: args.clone(), scope: scope.build(), queue, metrics }))
    }

    /// Exports what is new in a flow.
    pub(crate) fn archived(&self, row: &Row, actions: &[&Action], firings: &[&Firing]) {
        let Some(place) = place(&self.args, row) else { return };
        for action in actions {
            if let Some(span) = self.of_action(&place, row, action) {
                self.send(span);
            }
            for span in self.of_work(&place, action) {
                self.send(span);
            }
        }
        for firing in firings {
            for span in self.of_firing(&place, row, firing).into_iter().flatten() {
                self.send(span);
            }
        }
    }

    fn send(&self, span: SpanData) {
        if self.queue.try_send(span).is_err() {
            self.metrics.dropped_spans(1);
        }
    }
}

/// `None` for a flow that is not sampled.
fn place(args: &TraceArgs, row: &Row) -> Option<Place> {
    let of_flow = TraceId::from_bytes(row.flow.flow.parse::<FlowId>().ok()?.uuid().into_bytes());
    let caller = row.traceparent.as_deref().and_then(|text| text.parse::<Traceparent>().ok());
    let by_ratio = |trace: TraceId| {
        // As the standard has it: by the last bytes of the id.
        let last =
            u64::from_be_bytes(trace.to_bytes().last_chunk::<8>().copied().unwrap_or_default())
                >> 1;
        // Exact enough for a share.
        (last as f64) < args.sampler_arg * (u64::MAX >> 1) as f64
    };
    let trace = caller.map_or(of_flow, |caller| TraceId::from_bytes(caller.trace));
    let parent_says = caller.map(|caller| caller.sampled);
    let sampled = match args.sampler {
        Sampler::AlwaysOn => true,
        Sampler::AlwaysOff => false,
        Sampler::Traceidratio => by_ratio(trace),
        Sampler::ParentbasedAlwaysOn => parent_says.unwrap_or(true),
        Sampler::ParentbasedAlwaysOff => parent_says.unwrap_or(false),
        Sampler::ParentbasedTraceidratio => parent_says.unwrap_or_else(|| by_ratio(trace)),
    };
    sampled.then_some(Place { trace, parent: caller.map(|caller| SpanId::from_bytes(caller.span)) })
}

/// Exports spans in batches.
async fn export(
    exporter: opentelemetry_otlp::SpanExporter,
    mut spans: mpsc::Receiver<SpanData>,
    metrics: Metrics,
    shutdown: Shutdown,
) {
    let mut failing = false;
    let mut last = None;
    loop {
        let mut batch = Vec::with_capacity(BATCH);
        let gather = async {
            while batch.len() < BATCH {
                match spans.recv().await {
                    Some(span) => batch.push(span),
                    None => return,
                }
            }
        };
        tokio::select! {
            _ = tokio::time::timeout(WAIT, gather) => {}
            () = shutdown.requested(), if last.is_none() => {
                last = Some(tokio::time::Instant::now() + LAST);
            }
        }
        let count = batch.len();
        if count > 0 {
            match exporter.export(batch).await {
                Ok(()) => failing = false,
                Err(error) => {
                    metrics.dropped_spans(count);
                    if !failing {
                        tracing::warn!(%error, "spans are not exported");
                    }
                    failing = true;
                }
            }
        }
        if last.is_some_and(|last| count == 0 || tokio::time::Instant::now() > last) {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
