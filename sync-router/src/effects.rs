//! Converts between the engine and NATS: messages become events, effects become publishes.

use std::sync::Arc;

use concert_engine::{Context, Effect, Event, Invocation, Logged, Record};
use concert_runtime::bus::Bus;
use concert_runtime::chaos_point;
use concert_runtime::log::{self, PublishError, ReadError, Stored};
use concert_runtime::nats::{HeaderMap, Message};
use concert_wire::envelope::Completion;
use concert_wire::id::FlowId;
use concert_wire::subject::{self, CompletionSubject};
use concert_wire::work::Work;
use concert_wire::{FIRED, RESERVED_CONCEPT, header, is_of_router};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::active_rules::ActiveRules;
use crate::queries::{Queries, Request};

/// Performs the effects that end with an event. Shared, because a clone of each connection for each
/// effect would cost more than many effects.
pub(crate) struct Performer {
    pub(crate) bus: Bus,
    pub(crate) active_rules: ActiveRules,
    pub(crate) queries: Queries,
}

impl Performer {
    /// Starts an effect of a completion with this storage time. Returns effects on the message
    /// itself, such as its acknowledgement.
    #[expect(clippy::result_large_err, reason = "the effect is moved out of the engine's list")]
    pub(crate) fn start(
        self: &Arc<Self>,
        effect: Effect,
        stored_ms: u64,
    ) -> Result<BoxFuture<'static, Event>, Effect> {
        let own = self.clone();
        Ok(match effect {
            Effect::ReadFlow { flow, at_least } => {
                async move { read_flow(&own.bus, flow, at_least).await }.boxed()
            }
            Effect::ReadRules { .. } => async move { own.active_rules.read().await }.boxed(),
            Effect::FetchRules { version } => {
                async move { own.active_rules.fetch(&version).await }.boxed()
            }
            Effect::Adopt { seq, version } => async move {
                match own.active_rules.adopt(seq, &version).await {
                    Ok(()) => Event::Stored { seq },
                    Err(error) => {
                        tracing::warn!(
                            %error, %version,
                            "cannot store a rule activation; retrying"
                        );
                        Event::NotStored { seq }
                    }
                }
            }
            .boxed(),
            Effect::Invoke { seq, invocation } => {
                async move { invoke(&own.bus, seq, invocation).await }.boxed()
            }
            Effect::Complete { seq, invocation, body } => {
                async move { complete(&own.bus, seq, invocation, body).await }.boxed()
            }
            Effect::Ask { seq, flow, deadline_ms, batch } => {
                own.queries.timings().begin(seq);
                let request = Request { seq, flow, deadline_ms, stored_ms, batch };
                async move { own.queries.run(request).await }.boxed()
            }
            Effect::Record { seq, record: content } => {
                let work = own.queries.timings().work(seq);
                async move { record(&own.bus, seq, content, work).await }.boxed()
            }
            Effect::Ack { .. } | Effect::Retry { .. } | Effect::DeadLetter { .. } => {
                return Err(effect);
            }
        })
    }
}

/// Converts a delivered message to an event.
pub(crate) fn delivered(seq: u64, message: &Message) -> Event {
    match logged(seq, &message.subject, message.headers.as_ref(), &message.payload) {
        Ok(logged) => Event::Delivered(logged),
        Err(reason) => Event::Undecodable { seq, reason },
    }
}

pub(crate) fn logged(
    seq: u64,
    subject: &str,
    headers: Option<&HeaderMap>,
    body: &[u8],
) -> Result<Logged, String> {
    let subject = CompletionSubject::parse(subject).map_err(|error| error.to_string())?;
    let bytes = body.len();
    let body = Completion::decode(body).map_err(|error| error.to_string())?;
    let header = |name| headers.and_then(|headers| headers.get(name)).map(|value| value.as_str());
    Ok(Logged {
        seq,
        flow: subject.flow,
        concept: subject.concept.as_str().into(),
        action: subject.action.as_str().into(),
        id: subject.id,
        body,
        bytes,
        context: Context {
            deadline_ms: header(header::DEADLINE).and_then(|text| text.parse().ok()),
            traceparent: header(header::TRACEPARENT).map(Arc::from),
            client: header(header::CLIENT).and_then(|text| text.parse().ok()),
            device: header(header::DEVICE).map(Arc::from),
        },
    })
}

/// Reads a flow from the log. Skips messages that cannot be decoded; they are dead-lettered on
/// delivery.
pub(crate) async fn read_flow(bus: &Bus, flow: FlowId, at_least: u64) -> Event {
    let read = match log::read_flow(bus, flow).await {
        // The leader has every message that was ever delivered. Later messages are complete up to
        // the last one that it returns.
        Err(ReadError::TooLong) => log::read_long_flow(bus, flow).await.map(|stored| {
            let last = stored.last().map_or(0, |last| last.seq);
            (last.max(at_least), stored)
        }),
        read => read,
    };
    match read {
        Ok((through, stored)) => {
            let decode = |stored: &Stored| {
                logged(stored.seq, &stored.subject, Some(&stored.headers), &stored.body).ok()
            };
            Event::FlowRead { flow, through, log: stored.iter().filter_map(decode).collect() }
        }
        Err(error @ ReadError::TooLong) => {
            tracing::error!(%flow, %error, "the flow is too long; its messages are dead-lettered");
            Event::FlowTooLong { flow }
        }
        Err(error) => {
            tracing::warn!(%flow, %error, "cannot read a flow; retrying");
            Event::FlowUnreadable { flow }
        }
    }
}

/// Publishes a firing record with the timing of its queries. Waits until it, or an earlier record
/// of another router, is stored.
pub(crate) async fn record(bus: &Bus, seq: u64, record: Record, work: Option<Work>) -> Event {
    let Record { flow, id, body, context } = record;
    let subject = subject::completion(flow, RESERVED_CONCEPT, FIRED, id);
    let mut headers = flow_headers(flow, &context);
    if let Some(work) = work {
        headers.insert(header::WORK, work.to_string());
    }
    chaos_point!("before-record");
    match log::publish_once(bus, subject, headers, body.into()).await {
        Ok(_) => Event::Stored { seq },
        Err(error) => {
            tracing::warn!(%flow, action = %id, %error, "cannot store a firing record; retrying");
            Event::NotStored { seq }
        }
    }
}

/// Publishes the completion of an action of Requesting, and waits until it is stored. A completion
/// that was stored earlier counts as stored.
pub(crate) async fn complete(bus: &Bus, seq: u64, invocation: Invocation, body: Vec<u8>) -> Event {
    let Invocation { flow, concept, action, id, sync, .. } = invocation;
    let subject = subject::completion(flow, &concept, &action, id);
    let mut headers = HeaderMap::new();
    if is_of_router(&sync) {
        // The edge gives these responses the shape of its own errors.
        headers.insert(header::SYNC, &*sync);
    }
    chaos_point!("before-respond");
    match log::publish_once(bus, subject, headers, body.into()).await {
        Ok(_) => {
            tracing::debug!(%flow, action = %id, %concept, name = %action, %sync, "completed");
            Event::Stored { seq }
        }
        Err(error) => {
            tracing::warn!(
                %flow, action = %id, %concept, name = %action, %error,
                "cannot store a completion"
            );
            Event::NotStored { seq }
        }
    }
}

/// Headers that every message of a flow has.
fn flow_headers(flow: FlowId, context: &Context) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::FLOW, flow.to_string());
    if let Some(deadline_ms) = context.deadline_ms {
        headers.insert(header::DEADLINE, deadline_ms.to_string());
    }
    if let Some(traceparent) = &context.traceparent {
        headers.insert(header::TRACEPARENT, &**traceparent);
    }
    if let Some(client) = &context.client {
        headers.insert(header::CLIENT, client.as_str());
    }
    if let Some(device) = &context.device {
        headers.insert(header::DEVICE, &**device);
    }
    headers
}

/// Publishes an invocation and waits until it is stored. An invocation that was stored earlier
/// counts as stored.
pub(crate) async fn invoke(bus: &Bus, seq: u64, invocation: Invocation) -> Event {
    let Invocation { flow, concept, action, id, body, sync, rules, causes, position, context } =
        invocation;
    let mut headers = flow_headers(flow, &context);
    headers.insert(header::SYNC, &*sync);
    headers.insert(header::RULES, &*rules);
    headers.insert(
        header::CAUSE,
        causes.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    );
    if let Some(position) = position {
        headers.insert(header::POSITION, position.to_string());
    }
    chaos_point!("before-invoke");
    match log::publish_once(bus, subject::invocation(&concept, &action, id), headers, body.into())
        .await
    {
        Ok(_) => {
            tracing::debug!(%flow, action = %id, %concept, name = %action, %sync, "invoked");
            Event::Stored { seq }
        }
        Err(error) => {
            match error {
                PublishError::NotConfirmed(_) => {
                    tracing::warn!(
                        %flow,
                        action = %id,
                        %concept,
                        name = %action,
                        %error,
                        "an invocation is not confirmed; retrying"
                    )
                }
                _ => {
                    tracing::warn!(
                        %flow,
                        action = %id,
                        %concept,
                        name = %action,
                        %error,
                        "an invocation is rejected; retrying"
                    )
                }
            }
            Event::NotStored { seq }
        }
    }
}
