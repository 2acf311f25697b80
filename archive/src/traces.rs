//! One trace for each flow, made of its log: what the router, the workers and the edge did, as spans of OpenTelemetry.
//!
//! Ids follow from the flow's own, so that whoever has a flow has its trace, and a span that is told twice is the same span: the trace is the caller's, if the request carried a sampled `traceparent`, else the
//! flow's id; a span is the first half of the id of its action or firing. No value of an input or output is in any span.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use concert_rules::provenance::{Action, Firing, RootKind};
use concert_runtime::process::Shutdown;
use concert_wire::id::{ActionId, FlowId};
use concert_wire::traceparent::Traceparent;
use concert_wire::work::Part;
use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use tokio::sync::mpsc;

use crate::kept::Row;
use crate::metrics::Metrics;

/// Spans that wait to be exported at most; past it they are dropped, and counted.
const QUEUE: usize = 20_000;
/// Spans that are exported at once.
const BATCH: usize = 512;
/// How long a span waits for others.
const WAIT: Duration = Duration::from_secs(1);
/// How long the last export may take at shutdown.
const LAST: Duration = Duration::from_secs(3);

/// Where traces go, and how many of them. The exporter knows the other standard variables: `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_EXPORTER_OTLP_TIMEOUT`, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`.
#[derive(Debug, Clone, Args)]
pub struct TraceArgs {
    /// Where traces are sent, by OTLP over HTTP, such as http://localhost:4318; without it none are.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// Which flows are sent. `parentbased_…` asks the caller's `traceparent` first.
    #[arg(long, env = "OTEL_TRACES_SAMPLER", value_enum, default_value_t = Sampler::ParentbasedAlwaysOn, value_name = "SAMPLER")]
    pub traces_sampler: Sampler,
    /// The share of flows that a sampler by ratio sends, from 0 to 1.
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", default_value_t = 1.0, value_name = "RATIO", value_parser = ratio)]
    pub traces_sampler_arg: f64,
    /// Sends nothing, whatever else is said.
    #[arg(long, env = "OTEL_SDK_DISABLED")]
    pub otel_sdk_disabled: bool,
}

/// Which flows are sent, by the standard's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
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

fn ratio(text: &str) -> Result<f64, String> {
    let ratio: f64 = text.parse().map_err(|_| "a number from 0 to 1".to_owned())?;
    if (0.0..=1.0).contains(&ratio) {
        Ok(ratio)
    } else {
        Err("a number from 0 to 1".to_owned())
    }
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
    pub(crate) fn start(args: &TraceArgs, metrics: Metrics, shutdown: &Shutdown) -> Result<Option<Self>, BadEndpoint> {
        let Some(endpoint) = args.otlp_endpoint.as_ref().filter(|_| !args.otel_sdk_disabled) else {
            return Ok(None);
        };
        let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_endpoint(url);
        let mut exporter = exporter.build().map_err(|source| BadEndpoint {
            endpoint: endpoint.clone(),
            source,
        })?;
        let resource = Resource::builder();
        let named = resource.build().get(&"service.name".into());
        let is_named = named.is_some_and(|name| !name.as_str().starts_with("unknown_service"));
        let resource = Resource::builder();
        let resource = if is_named {
            resource
        } else {
            resource.with_service_name("concert")
        };
        exporter.set_resource(&resource.build());
        let (queue, spans) = mpsc::channel(QUEUE);
        shutdown
            .tasks()
            .spawn(export(exporter, spans, metrics.clone(), shutdown.clone()));
        let scope = InstrumentationScope::builder("concert").with_version(env!("CARGO_PKG_VERSION"));
        Ok(Some(Self {
            args: args.clone(),
            scope: scope.build(),
            queue,
            metrics,
        }))
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
            if let Some(span) = self.of_firing(&place, row, firing) {
                self.send(span);
            }
        }
    }

    fn send(&self, span: SpanData) {
        if self.queue.try_send(span).is_err() {
            self.metrics.dropped_spans(1);
        }
    }

    fn of_action(&self, place: &Place, row: &Row, action: &Action) -> Option<SpanData> {
        let flow = &row.flow;
        let mut attributes = vec![
            KeyValue::new("concert.flow", flow.flow.clone()),
            KeyValue::new("concert.action_id", action.id.clone()),
            KeyValue::new("concert.concept", action.concept.clone()),
            KeyValue::new("concert.action", action.action.clone()),
            KeyValue::new("concert.outcome", action.outcome.clone().unwrap_or_default()),
        ];
        let is_fault = action.outcome.as_deref() == Some("fault");
        if action.id == flow.root && flow.root_kind == RootKind::Request {
            let path = flow.path.clone().unwrap_or_default();
            attributes.push(KeyValue::new("http.request.method", "POST"));
            attributes.push(KeyValue::new("http.route", path.clone()));
            if let Some(status) = flow.status {
                attributes.push(KeyValue::new("http.response.status_code", i64::from(status)));
            }
            let ended = row.summary.began_us + row.summary.took_us;
            let failed = is_fault || flow.status.is_some_and(|status| status >= 500);
            let name = format!("POST {path}");
            let span = self.span(
                place,
                span_id(&action.id)?,
                place.parent,
                SpanKind::Server,
                name,
                (flow.began_us, ended),
            );
            return Some(SpanData {
                parent_span_is_remote: place.parent.is_some(),
                ..finished(span, attributes, failed)
            });
        }
        attributes.push(KeyValue::new("messaging.system", "nats"));
        attributes.push(KeyValue::new("messaging.operation.type", "process"));
        let name = format!("{}.{}", action.concept, action.action);
        attributes.push(KeyValue::new("messaging.destination.name", format!("action.{name}")));
        let parent = match &action.by {
            Some(by) => {
                attributes.push(KeyValue::new("concert.sync", by.sync.clone()));
                match &by.firing {
                    Some(firing) => span_id(firing),
                    None => flow
                        .actions
                        .iter()
                        .find(|other| other.seq == Some(by.cause_seq))
                        .and_then(|other| span_id(&other.id)),
                }
            }
            // What was injected: the caller's, if that is the flow's root.
            None if action.id == flow.root => place.parent,
            None => span_id(&flow.root),
        };
        let times = (action.asked_us, action.completed_us.unwrap_or(action.asked_us));
        let span = self.span(place, span_id(&action.id)?, parent, SpanKind::Consumer, name, times);
        Some(finished(span, attributes, is_fault))
    }

    /// The work on an action within its span, which begins with the wait in the queue; and within that what others did for it.
    fn of_work(&self, place: &Place, action: &Action) -> Vec<SpanData> {
        let (Some(work), Some(waited_us), Some(ended_us)) = (&action.work, action.waited_us(), action.completed_us)
        else {
            return Vec::new();
        };
        let (Some(of_action), Some(of_work)) = (span_id(&action.id), part_id(&action.id, 0)) else {
            return Vec::new();
        };
        // The clocks of workers are not compared: the work ends when its completion is stored.
        let began_us = action.asked_us + waited_us;
        let name = format!("{}.{} work", action.concept, action.action);
        let span = self.span(
            place,
            of_work,
            Some(of_action),
            SpanKind::Internal,
            name,
            (began_us, ended_us),
        );
        let parts = work.parts.iter().zip(1..).filter_map(|(part, number)| {
            let after = |us: u64, more: u64| us.saturating_add(more).min(ended_us);
            let from_us = after(began_us, part.at_us);
            let times = (from_us, after(from_us, part.took_us));
            let kind = if system(part).is_some() {
                SpanKind::Client
            } else {
                SpanKind::Internal
            };
            let span = self.span(
                place,
                part_id(&action.id, number)?,
                Some(of_work),
                kind,
                part.name.clone(),
                times,
            );
            let attributes = system(part).map(|(system, operation)| {
                vec![
                    KeyValue::new("db.system.name", system.to_owned()),
                    KeyValue::new("db.operation.name", operation.to_owned()),
                ]
            });
            Some(finished(span, attributes.unwrap_or_default(), false))
        });
        std::iter::once(finished(span, Vec::new(), false))
            .chain(parts)
            .collect()
    }

    fn of_firing(&self, place: &Place, row: &Row, firing: &Firing) -> Option<SpanData> {
        let find = |id: &String| row.flow.actions.iter().find(|action| action.id == *id);
        let mut causes: Vec<&Action> = firing.causes.iter().filter_map(find).collect();
        causes.sort_by_key(|action| action.seq);
        let newest = causes.pop()?;
        let calls = firing.frames.iter().flat_map(|frame| &frame.calls).filter_map(find);
        let ended = calls
            .filter_map(|action| action.completed_us)
            .max()
            .unwrap_or(firing.at_us);
        let attributes = vec![
            KeyValue::new("concert.flow", row.flow.flow.clone()),
            KeyValue::new("concert.sync", firing.sync.clone()),
            KeyValue::new("concert.rules", row.flow.rules.clone()),
        ];
        let times = (firing.at_us, ended);
        let parent = span_id(&newest.id);
        let span = self.span(
            place,
            span_id(&firing.id)?,
            parent,
            SpanKind::Internal,
            firing.sync.clone(),
            times,
        );
        let mut links = SpanLinks::default();
        for cause in causes {
            links
                .links
                .push(Link::with_context(context(place.trace, span_id(&cause.id)?)));
        }
        Some(SpanData {
            links,
            ..finished(span, attributes, false)
        })
    }

    fn span(
        &self,
        place: &Place,
        id: SpanId,
        parent: Option<SpanId>,
        kind: SpanKind,
        name: String,
        (from_us, until_us): (u64, u64),
    ) -> SpanData {
        SpanData {
            span_context: context(place.trace, id),
            parent_span_id: parent.unwrap_or(SpanId::INVALID),
            parent_span_is_remote: false,
            span_kind: kind,
            name: name.into(),
            start_time: time(from_us),
            end_time: time(until_us),
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        }
    }
}

fn finished(span: SpanData, attributes: Vec<KeyValue>, failed: bool) -> SpanData {
    let status = if failed { Status::error("") } else { Status::Unset };
    SpanData {
        attributes,
        status,
        ..span
    }
}

fn context(trace: TraceId, span: SpanId) -> SpanContext {
    SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::default())
}

fn time(us: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(us)
}

/// The two halves of an id.
fn halves(id: &str) -> Option<([u8; 8], [u8; 8])> {
    let (first, second) = id.parse::<ActionId>().ok()?.uuid().as_u64_pair();
    Some((first.to_be_bytes(), second.to_be_bytes()))
}

fn span_id(id: &str) -> Option<SpanId> {
    halves(id).map(|(first, _)| SpanId::from_bytes(first))
}

/// The id of a span within that of an action: the other half of the action's id, and which it is.
fn part_id(id: &str, number: u8) -> Option<SpanId> {
    let (_, [rest @ .., last]) = halves(id)?;
    let [a, b, c, d, e, f, g] = rest;
    Some(SpanId::from_bytes([a, b, c, d, e, f, g, last ^ number]))
}

/// The database that did a part, and what it did.
fn system(part: &Part) -> Option<(&str, &str)> {
    part.name.split_once('.').filter(|(system, _)| *system == "mongodb")
}

/// `None` for a flow that is not sampled.
fn place(args: &TraceArgs, row: &Row) -> Option<Place> {
    let of_flow = TraceId::from_bytes(row.flow.flow.parse::<FlowId>().ok()?.uuid().into_bytes());
    let caller = row
        .traceparent
        .as_deref()
        .and_then(|text| text.parse::<Traceparent>().ok());
    let by_ratio = |trace: TraceId| {
        // As the standard has it: by the last bytes of the id.
        let last = u64::from_be_bytes(trace.to_bytes().last_chunk::<8>().copied().unwrap_or_default()) >> 1;
        // Exact enough for a share.
        (last as f64) < args.traces_sampler_arg * (u64::MAX >> 1) as f64
    };
    let trace = caller.map_or(of_flow, |caller| TraceId::from_bytes(caller.trace));
    let parent_says = caller.map(|caller| caller.sampled);
    let sampled = match args.traces_sampler {
        Sampler::AlwaysOn => true,
        Sampler::AlwaysOff => false,
        Sampler::Traceidratio => by_ratio(trace),
        Sampler::ParentbasedAlwaysOn => parent_says.unwrap_or(true),
        Sampler::ParentbasedAlwaysOff => parent_says.unwrap_or(false),
        Sampler::ParentbasedTraceidratio => parent_says.unwrap_or_else(|| by_ratio(trace)),
    };
    sampled.then_some(Place {
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
