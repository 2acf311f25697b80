//! Builds the spans of a flow: actions, the work on them, firings and their queries.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use concert_engine::provenance::{Action, Firing, RootKind};
use concert_wire::id::ActionId;
use concert_wire::routes::split;
use concert_wire::subject;
use concert_wire::work::{Part, QueryPart, Work};
use opentelemetry::KeyValue;
use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::{TraceContext, Traces};
use crate::repository::Row;

impl Traces {
    pub(super) fn of_action(
        &self,
        place: &TraceContext,
        row: &Row,
        action: &Action,
    ) -> Option<SpanData> {
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
            let (method, route) = split(&path);
            attributes.push(KeyValue::new("http.request.method", method.name()));
            attributes.push(KeyValue::new("http.route", route.to_owned()));
            if let Some(status) = flow.status {
                attributes.push(KeyValue::new("http.response.status_code", i64::from(status)));
            }
            let ended = row.summary.began_us + row.summary.took_us;
            let failed = is_fault || flow.status.is_some_and(|status| status >= 500);
            let name = format!("{method} {route}");
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
            // An injected action has the caller's span as parent if it is the root.
            None if action.id == flow.root => place.parent,
            None => span_id(&flow.root),
        };
        let times = (action.asked_us, action.completed_us.unwrap_or(action.asked_us));
        let span = self.span(place, span_id(&action.id)?, parent, SpanKind::Consumer, name, times);
        Some(finished(span, attributes, is_fault))
    }

    /// Spans of the work on an action and of its parts. The action's own span begins with the wait
    /// in the queue.
    pub(super) fn of_work(&self, place: &TraceContext, action: &Action) -> Vec<SpanData> {
        let (Some(work), Some(waited_us), Some(ended_us)) =
            (&action.work, action.waited_us(), action.completed_us)
        else {
            return Vec::new();
        };
        let (Some(of_action), Some(of_work)) = (span_id(&action.id), part_id(&action.id, 0)) else {
            return Vec::new();
        };
        // Clocks of workers are not compared: the work ends when the completion is stored.
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
        std::iter::once(finished(span, Vec::new(), false))
            .chain(self.of_parts(place, &action.id, of_work, work, (began_us, ended_us)))
            .collect()
    }

    /// Spans of the parts of an action or a firing. The parts after a query belong to the worker
    /// that executed it.
    fn of_parts(
        &self,
        place: &TraceContext,
        id: &str,
        within: SpanId,
        work: &Work,
        (began_us, ended_us): (u64, u64),
    ) -> Vec<SpanData> {
        let mut parent = within;
        let parts = work.parts.iter().zip(1..).filter_map(|(part, number)| {
            let after = |us: u64, more: u64| us.saturating_add(more).min(ended_us);
            let from_us = after(began_us, part.at_us);
            let times = (from_us, after(from_us, part.took_us));
            let own = part_id(id, number)?;
            let (question, database) = (part.query(), system(part));
            let kind = if question.is_some() || database.is_some() {
                SpanKind::Client
            } else {
                SpanKind::Internal
            };
            let above = if question.is_some() {
                parent = own;
                within
            } else {
                parent
            };
            let span = self.span(place, own, Some(above), kind, part.name.clone(), times);
            let attributes = match (question, database) {
                (Some(QueryPart { concept, query, inputs }), _) => {
                    let endpoint = if inputs == 1 { query } else { subject::QUERY_BATCH };
                    vec![
                        KeyValue::new("messaging.system", "nats"),
                        KeyValue::new(
                            "messaging.destination.name",
                            subject::service(concept, endpoint),
                        ),
                        KeyValue::new("concert.concept", concept.to_owned()),
                        KeyValue::new("concert.query", query.to_owned()),
                        KeyValue::new(
                            "messaging.batch.message_count",
                            i64::try_from(inputs).unwrap_or(i64::MAX),
                        ),
                    ]
                }
                (None, Some((system, operation))) => vec![
                    KeyValue::new("db.system.name", system.to_owned()),
                    KeyValue::new("db.operation.name", operation.to_owned()),
                ],
                (None, None) => Vec::new(),
            };
            Some(finished(span, attributes, false))
        });
        parts.collect()
    }

    /// Spans of a firing, from its first query on, and of its queries.
    pub(super) fn of_firing(
        &self,
        place: &TraceContext,
        row: &Row,
        firing: &Firing,
    ) -> Option<Vec<SpanData>> {
        let find = |id: &String| row.flow.actions.iter().find(|action| action.id == *id);
        let mut causes: Vec<&Action> = firing.causes.iter().filter_map(find).collect();
        causes.sort_by_key(|action| action.seq);
        let newest = causes.pop()?;
        let calls = firing.frames.iter().flat_map(|frame| &frame.calls).filter_map(find);
        let ended = calls.filter_map(|action| action.completed_us).max().unwrap_or(firing.at_us);
        let attributes = vec![
            KeyValue::new("concert.flow", row.flow.flow.clone()),
            KeyValue::new("concert.sync", firing.sync.clone()),
            KeyValue::new("concert.rules", row.flow.rules.clone()),
        ];
        let asked_us = firing.work.as_ref().map_or(0, |work| work.took_us);
        let began_us = firing.at_us.saturating_sub(asked_us);
        let times = (began_us, ended);
        let (own, parent) = (span_id(&firing.id)?, span_id(&newest.id));
        let span = self.span(place, own, parent, SpanKind::Internal, firing.sync.clone(), times);
        let mut links = SpanLinks::default();
        for cause in causes {
            links.links.push(Link::with_context(context(place.trace, span_id(&cause.id)?)));
        }
        let span = SpanData { links, ..finished(span, attributes, false) };
        let mut spans = vec![span];
        if let Some(work) = &firing.work {
            spans.extend(self.of_parts(place, &firing.id, own, work, (began_us, firing.at_us)));
        }
        Some(spans)
    }

    fn span(
        &self,
        place: &TraceContext,
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
    SpanData { attributes, status, ..span }
}

fn context(trace: TraceId, span: SpanId) -> SpanContext {
    SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::default())
}

pub(super) fn time(us: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(us)
}

/// Both halves of an id.
fn halves(id: &str) -> Option<([u8; 8], [u8; 8])> {
    let (first, second) = id.parse::<ActionId>().ok()?.uuid().as_u64_pair();
    Some((first.to_be_bytes(), second.to_be_bytes()))
}

/// Span id: the XOR of both halves of the id. The first half alone is similar in requests of the
/// same millisecond.
pub(super) fn span_id(id: &str) -> Option<SpanId> {
    let (first, second) = halves(id)?;
    let mixed = u64::from_be_bytes(first) ^ u64::from_be_bytes(second);
    Some(SpanId::from_bytes(mixed.to_be_bytes()))
}

/// Id of a child span of an action or a firing: the other half of its id, XOR the number of the
/// child.
pub(super) fn part_id(id: &str, number: u8) -> Option<SpanId> {
    let (_, [rest @ .., last]) = halves(id)?;
    let [a, b, c, d, e, f, g] = rest;
    Some(SpanId::from_bytes([a, b, c, d, e, f, g, last ^ number]))
}

/// Database and operation of a part.
fn system(part: &Part) -> Option<(&str, &str)> {
    part.name.split_once('.').filter(|(system, _)| *system == "mongodb")
}
