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
use concert_wire::{header, large, subject, value};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::query::{self, QueryError};
use crate::sealing;
use crate::stopwatch::Stopwatch;
use crate::worker::{StartError, Worker};

/// Part of the maximum message size that is reserved for the headers of a reply, in bytes.
const HEADERS_BYTES: usize = 1024;

/// Reason why a request gets a service error instead of an outcome.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    QueryError(#[from] QueryError),
    #[error("timed out waiting for the action; it may still complete")]
    TimedOut,
}

impl Refused {
    const fn code(&self) -> usize {
        match self {
            Self::QueryError(QueryError::Invalid(_)) => 400,
            Self::QueryError(QueryError::Expired) => 410,
            Self::QueryError(QueryError::Broken(_)) => 500,
            Self::QueryError(QueryError::Unavailable(_) | QueryError::Locked) => 503,
            Self::TimedOut => 504,
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
    let endpoints: Vec<Endpoint> = names
        .map(|name| {
            let room = if is_query(name) { &room_of_queries } else { &room_of_actions };
            Endpoint { name: name.to_string(), room: room.clone() }
        })
        .collect();
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
    let outcome = if is_query(name) {
        ask(worker, name, request, &watch).await
    } else {
        inject(worker, name, request).await
    };
    let answer = outcome.and_then(|(flow, body)| {
        let body = encode(&body);
        let most = worker.bus.client.max_payload().saturating_sub(HEADERS_BYTES);
        // The client would not send a larger reply, and the caller would time out.
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
    let input = &request.message.payload;
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

/// Enqueues the action as the root of a new flow, and waits for the output. Its secrets are sealed
/// before they are stored.
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
    if large::is_in(&input) {
        return Err(invalid(large::NOT_ACCEPTED).into());
    }
    spec::check_input(&spec.input, &input).map_err(invalid)?;
    let flow = clock::new_flow();
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
