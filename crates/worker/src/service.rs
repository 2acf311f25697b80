//! The concept as a NATS micro service. `concept.<Concept>.<name>` answers a query, or executes an
//! action durably and replies with its output.

use std::sync::Arc;
use std::time::Duration;

use concert_lang::spec;
use concert_runtime::nats::service::{Request, error::Error as ServiceError};
use concert_runtime::nats::{HeaderMap, one_line};
use concert_runtime::process::Shutdown;
use concert_runtime::service::{self, Endpoint};
use concert_runtime::{clock, log};
use concert_wire::envelope::{ERROR, Object, encode};
use concert_wire::id::FlowId;
use concert_wire::subject::QUERY_BATCH;
use concert_wire::{header, large, subject, value};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::concept::Rows;
use crate::query::{self, QueryError};
use crate::sealing;
use crate::stopwatch::Stopwatch;
use crate::worker::{StartError, Worker};

/// Maximum number of a batch's inputs that run concurrently.
const BATCH_CONCURRENCY: usize = 32;
/// Part of the maximum message size that is reserved for the headers of a reply, in bytes.
const HEADERS_BYTES: usize = 1024;

/// Reason why a request gets a service error instead of an outcome.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    QueryError(#[from] QueryError),
    #[error("timed out waiting for the action; it may still complete")]
    TimedOut,
    #[error("the results of the batch are too large for one message")]
    TooLarge,
}

impl Refused {
    const fn code(&self) -> usize {
        match self {
            Self::QueryError(QueryError::Invalid(_)) => 400,
            Self::QueryError(QueryError::Expired) => 410,
            Self::QueryError(QueryError::Broken(_)) => 500,
            Self::QueryError(QueryError::Unavailable(_) | QueryError::Locked) => 503,
            Self::TimedOut => 504,
            // The caller runs the query once for each input.
            Self::TooLarge => 413,
        }
    }
}

fn invalid(why: impl std::fmt::Display) -> QueryError {
    QueryError::Invalid(why.to_string())
}

fn unavailable(why: impl std::fmt::Display) -> QueryError {
    QueryError::Unavailable(why.to_string())
}

/// Registers the endpoints.
pub(crate) async fn start(worker: Arc<Worker>, shutdown: &Shutdown) -> Result<(), StartError> {
    let concept = worker.concept.name.to_string();
    // Actions and queries have separate limits: callers that wait for an action must not block the
    // queries of rules.
    let [room_of_actions, room_of_queries] =
        std::array::from_fn(|_| Arc::new(Semaphore::new(worker.limits.worker_concurrency)));
    let spec = worker.concept.spec.clone();
    let names = spec
        .actions
        .iter()
        .map(|spec| &spec.name)
        .chain(spec.queries.iter().map(|spec| &spec.name));
    let mut endpoints: Vec<Endpoint> = names
        .map(|name| {
            let room = if is_query(name) { &room_of_queries } else { &room_of_actions };
            Endpoint { name: name.to_string(), room: room.clone() }
        })
        .collect();
    if !spec.queries.is_empty() {
        endpoints.push(Endpoint { name: QUERY_BATCH.to_owned(), room: room_of_queries });
    }
    let promised = Duration::from_millis(worker.limits.request_timeout_ms);
    let metadata = service::worker_metadata(spec.hash()).into_iter();
    let metadata = metadata.chain([service::promise(promised)]).collect();
    let bus = worker.bus.clone();
    let about = (&*concept, first_line(&spec.purpose), env!("CARGO_PKG_VERSION"));
    let answer = move |name: Arc<str>, request: Request| {
        let worker = worker.clone();
        async move { answer(&worker, &name, &request).await }
    };
    let offered = service::offer(&bus, about, metadata, endpoints, shutdown, answer).await;
    offered.map_err(|source| StartError::Service { concept: concept.clone(), source })
}

async fn answer(worker: &Worker, name: &str, request: &Request) {
    let watch = Stopwatch::begin();
    let outcome = if name == QUERY_BATCH {
        ask_each(worker, request, &watch).await
    } else if is_query(name) {
        ask(worker, name, request, &watch).await
    } else {
        inject(worker, name, request).await
    };
    let answer = outcome.and_then(|(flow, body)| {
        let body = encode(&body);
        let most = worker.bus.client.max_payload().saturating_sub(HEADERS_BYTES);
        // The client would not send a larger reply, and the caller would time out.
        if body.len() > most && name == QUERY_BATCH {
            return Err(Refused::TooLarge);
        }
        if body.len() > most {
            let why =
                format!("the response of {name} has {} bytes; the maximum is {most}", body.len());
            return Err(QueryError::Broken(why).into());
        }
        Ok((flow, body))
    });
    let sent = match answer {
        Ok((flow, body)) => {
            // Holders of the seal key can decrypt secrets that are sealed for this flow.
            let mut headers = HeaderMap::new();
            headers.insert(header::FLOW, flow.to_string());
            headers.insert(header::WORK, watch.work().to_string());
            request.respond_with_headers(Ok(body.into()), headers).await
        }
        Err(refused) => {
            if matches!(refused, Refused::QueryError(QueryError::Broken(_))) {
                let concept = &worker.concept.name;
                tracing::error!(%concept, name, why = %refused, "request failed: internal error");
            }
            let error =
                ServiceError { status: one_line(&refused.to_string()), code: refused.code() };
            request.respond(Err(error)).await
        }
    };
    if let Err(error) = sent {
        tracing::debug!(%error, name, "cannot reply to the request");
    }
}

fn is_query(name: &str) -> bool {
    name.starts_with('_')
}

/// The flow for which the request's secrets are sealed. A manual request has no flow, and its
/// secrets are in clear.
fn flow_of(request: &Request) -> Result<Option<FlowId>, QueryError> {
    let header = request.message.headers.as_ref().and_then(|headers| headers.get(header::FLOW));
    header
        .map(|text| text.as_str().parse())
        .transpose()
        .map_err(|_| invalid(format!("the header {} is not a UUID", header::FLOW)))
}

async fn ask(
    worker: &Worker,
    name: &str,
    request: &Request,
    watch: &Stopwatch,
) -> Result<(FlowId, Object), Refused> {
    let named = flow_of(request)?;
    let flow = named.unwrap_or_else(clock::new_flow);
    let within = Duration::from_millis(worker.limits.request_timeout_ms);
    let input = value::object(&request.message.payload).map_err(invalid)?;
    // A manual request gets its rows whole, as it gets its secrets in clear.
    let large = named.is_some().then_some(&worker.large);
    let context = query::Context { concept: &worker.concept, sealer: &worker.sealer, large, flow };
    let asked = query::ask(context, name, input, within, watch).await;
    let rows = asked.map_err(|error| match error {
        // Nothing can be sealed for a flow that starts here.
        QueryError::Locked if named.is_none() => invalid(error),
        error => error,
    })?;
    Ok((flow, Object::from_iter([("rows".to_owned(), json!(rows))])))
}

/// A query with several inputs.
#[derive(Deserialize)]
struct Batch {
    query: String,
    inputs: Vec<Object>,
}

impl Batch {
    fn read(payload: &[u8]) -> Result<Self, QueryError> {
        let body = value::object(payload).map_err(invalid)?;
        serde_json::from_value(Value::Object(body))
            .map_err(|error| invalid(format!("not a batch of a query's inputs: {error}")))
    }
}

/// Runs a query for each input of a batch. One that fails fails the batch. The reported parts are
/// those of the first input.
async fn ask_each(
    worker: &Worker,
    request: &Request,
    watch: &Stopwatch,
) -> Result<(FlowId, Object), Refused> {
    let flow = flow_of(request)?.ok_or_else(|| {
        invalid(format!("a batch needs the header {}; send one input to the query", header::FLOW))
    })?;
    let Batch { query, inputs } = Batch::read(&request.message.payload)?;
    let within = Duration::from_millis(worker.limits.request_timeout_ms);
    let context = query::Context {
        concept: &worker.concept,
        sealer: &worker.sealer,
        large: Some(&worker.large),
        flow,
    };
    let watches = std::iter::once(watch.clone()).chain(std::iter::repeat_with(Stopwatch::begin));
    let query = query.as_str();
    let run = |(input, watch): (Object, Stopwatch)| async move {
        query::ask(context, query, input, within, &watch).await
    };
    let results: Vec<Rows> = stream::iter(inputs.into_iter().zip(watches))
        .map(run)
        .buffered(BATCH_CONCURRENCY)
        .try_collect()
        .await?;
    Ok((flow, Object::from_iter([("results".to_owned(), json!(results))])))
}

/// Enqueues the action as the root of the flow that the caller names, or of a new one, and waits
/// for the output. Its secrets are sealed before they are stored.
async fn inject(
    worker: &Worker,
    name: &str,
    request: &Request,
) -> Result<(FlowId, Object), Refused> {
    let (spec, _) = worker
        .concept
        .action(name)
        .ok_or_else(|| invalid(format!("`{name}` cannot be invoked")))?;
    let input = value::object(&request.message.payload).map_err(invalid)?;
    let flow = flow_of(request)?.unwrap_or_else(clock::new_flow);
    if large::is_other_in(&input, &|reference| worker.sealer.is_of_root(flow, reference)) {
        return Err(invalid(large::NOT_ACCEPTED).into());
    }
    spec::check_input(&spec.input, &input).map_err(invalid)?;
    let sealed = sealing::record(&worker.sealer, flow, true, &spec.input, &input);
    let client = &worker.bus.client;
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.map_err(unavailable)?;
    let mut headers = HeaderMap::new();
    headers.insert(header::FLOW, flow.to_string());
    headers.insert(header::REPLY, inbox);
    let subject = subject::invocation(worker.concept.name.as_str(), name, flow.root());
    log::publish_once(&worker.bus, subject, headers, encode(&sealed).into())
        .await
        .map_err(unavailable)?;
    let wait = Duration::from_millis(worker.limits.request_timeout_ms);
    let answer = tokio::time::timeout(wait, answers.next())
        .await
        .map_err(|_| Refused::TimedOut)?
        .ok_or(Refused::TimedOut)?;
    match value::object(&answer.payload) {
        Ok(output) => Ok((flow, output)),
        Err(error) => {
            Ok((flow, Object::from_iter([(ERROR.to_owned(), Value::String(error.to_string()))])))
        }
    }
}

fn first_line(text: &str) -> &str {
    text.trim().lines().next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_is_read_as_strictly_as_one_input() {
        let read = |text: &str| {
            let batch = Batch::read(text.as_bytes())?;
            Ok((batch.query, json!(batch.inputs)))
        };
        let two = json!([{ "a": 1 }, {}]);
        assert_eq!(
            read(r#"{"query":"_q","inputs":[{"a":1},{}]}"#),
            Ok::<_, QueryError>(("_q".to_owned(), two))
        );
        for wrong in [
            r#"{"query":"_q","inputs":[{"a":1,"a":2}]}"#,
            r#"{"query":"_q","inputs":[{"a":9007199254740993}]}"#,
            r#"{"query":"_q","query":"_r","inputs":[]}"#,
            r#"{"query":"_q","inputs":[1]}"#,
            r#"{"query":"_q"}"#,
            "[]",
        ] {
            assert!(matches!(read(wrong), Err(QueryError::Invalid(_))), "{wrong}");
        }
    }
}
