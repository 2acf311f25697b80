//! One OpenTelemetry trace for each flow, derived from its log, with spans of the edge, the router
//! and the workers.
//!
//! Ids are derived from the flow, so that a flow's trace can be found, and a repeated export sends
//! the same span. The trace id is the caller's, if the request has a `traceparent`, or else the
//! flow's id. A span id is the XOR of both halves of the id of the action or firing. Spans contain
//! no input or output values.

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

/// Maximum number of queued spans; excess spans are dropped and counted.
const QUEUE: usize = 20_000;
/// Maximum number of spans per export.
const BATCH: usize = 512;
/// Maximum wait for a full batch.
const WAIT: Duration = Duration::from_secs(1);
/// Timeout of the last export at shutdown.
const LAST: Duration = Duration::from_secs(3);

/// Destination and sampling of traces: a part of the section `[telemetry]`. The exporter also reads
/// the standard variables `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_EXPORTER_OTLP_TIMEOUT`,
/// `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TraceArgs {
    /// Send traces, if there is an endpoint (`telemetry.otlp_endpoint`).
    pub traces: bool,
    /// OTLP/HTTP endpoint for traces, such as http://localhost:4318; without one, no traces are
    /// sent.
    pub otlp_endpoint: Option<String>,
    /// Selects the flows to send. `parentbased_…` follows the caller's `traceparent`, if there is
    /// one.
    pub sampler: Sampler,
    /// Share of the flows that a ratio sampler sends, from 0 to 1.
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

/// Samplers, by their names in the OpenTelemetry standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// All flows.
    AlwaysOn,
    /// No flows.
    AlwaysOff,
    /// A share of the flows, by trace id.
    Traceidratio,
    /// The caller's decision; all flows without one.
    ParentbasedAlwaysOn,
    /// The caller's decision; no flows without one.
    ParentbasedAlwaysOff,
    /// The caller's decision; a share of the flows without one.
    ParentbasedTraceidratio,
}

/// Error for an endpoint to which traces cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error("cannot send traces to {endpoint}: {source}; check telemetry.otlp_endpoint")]
pub struct BadEndpoint {
    endpoint: String,
    source: opentelemetry_otlp::ExporterBuildError,
}

/// Builds and queues spans.
pub(crate) struct Traces {
    args: TraceArgs,
    scope: InstrumentationScope,
    queue: mpsc::Sender<SpanData>,
    metrics: Metrics,
}

/// Trace and parent of a flow's spans.
struct TraceContext {
    trace: TraceId,
    /// The caller's span.
    parent: Option<SpanId>,
}

impl Traces {
    /// Starts the export, which runs until shutdown; `None` if traces are disabled.
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

    /// Exports the new actions and firings of a flow.
    pub(crate) fn archived(&self, row: &Row, actions: &[&Action], firings: &[&Firing]) {
        let Some(context) = context_of(&self.args, row) else { return };
        for action in actions {
            if let Some(span) = self.of_action(&context, row, action) {
                self.send(span);
            }
            for span in self.of_work(&context, action) {
                self.send(span);
            }
        }
        for firing in firings {
            for span in self.of_firing(&context, row, firing).into_iter().flatten() {
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
fn context_of(args: &TraceArgs, row: &Row) -> Option<TraceContext> {
    let of_flow = TraceId::from_bytes(row.flow.flow.parse::<FlowId>().ok()?.uuid().into_bytes());
    let caller = row.traceparent.as_deref().and_then(|text| text.parse::<Traceparent>().ok());
    let by_ratio = |trace: TraceId| {
        // The standard uses the last bytes of the id.
        let last =
            u64::from_be_bytes(trace.to_bytes().last_chunk::<8>().copied().unwrap_or_default())
                >> 1;
        // The precision of `f64` is enough for a share.
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
    sampled.then_some(TraceContext {
        trace,
        parent: caller.map(|caller| SpanId::from_bytes(caller.span)),
    })
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
                        tracing::warn!(%error, "cannot export spans; dropping them");
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
