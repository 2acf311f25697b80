//! The concept as a NATS micro service: `concept.<Concept>.<name>` answers a query, or carries out
//! an action durably and answers with its output.

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
use concert_wire::{header, subject, value};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::query::{self, NoAnswer};
use crate::sealing;
use crate::stopwatch::Stopwatch;
use crate::worker::{StartError, Worker};

/// What the headers of an answer may take of the size that the server allows.
const HEADERS_BYTES: usize = 1024;

/// Why a request is answered with an error of the service, beside an outcome of the action.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
    #[error("no outcome within the time that this request may wait; the action may still happen")]
    TimedOut,
}

impl Refused {
    const fn code(&self) -> usize {
        match self {
            Self::NoAnswer(NoAnswer::Invalid(_)) => 400,
            Self::NoAnswer(NoAnswer::Broken(_)) => 500,
            Self::NoAnswer(NoAnswer::Unavailable(_) | NoAnswer::Locked) => 503,
            Self::TimedOut => 504,
        }
    }
}

fn invalid(why: impl std::fmt::Display) -> NoAnswer {
    NoAnswer::Invalid(why.to_string())
}

fn unavailable(why: impl std::fmt::Display) -> NoAnswer {
    NoAnswer::Unavailable(why.to_string())
}

/// Registers the endpoints.
pub(crate) async fn start(worker: Arc<Worker>, shutdown: &Shutdown) -> Result<(), StartError> {
    let concept = worker.concept.name.to_string();
    // Whoever waits for an action's outcome takes no room from the queries, which rules wait for.
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
    let worker_limit_ms = worker.limits.request_timeout_ms;
    let bus = worker.bus.clone();
    let about = (&*concept, first_line(&spec.purpose), env!("CARGO_PKG_VERSION"));
    let answer = move |name: Arc<str>, request: Request| {
        let worker = worker.clone();
        async move { answer(&worker, &name, &request).await }
    };
    let limit = Some(Duration::from_millis(worker_limit_ms));
    let offered = service::offer(&bus, about, limit, endpoints, shutdown, answer).await;
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
        // The client would not send it, and the asker would wait for nothing.
        if body.len() > most {
            let why = format!(
                "the answer of {name} has {} bytes, more than the {most} that the server takes",
                body.len()
            );
            return Err(NoAnswer::Broken(why).into());
        }
        Ok((flow, body))
    });
    let sent = match answer {
        Ok((flow, body)) => {
            // Whoever holds the seal key can open what was sealed for this flow.
            let mut headers = HeaderMap::new();
            headers.insert(header::FLOW, flow.to_string());
            headers.insert(header::WORK, watch.work().to_string());
            request.respond_with_headers(Ok(body.into()), headers).await
        }
        Err(refused) => {
            if matches!(refused, Refused::NoAnswer(NoAnswer::Broken(_))) {
                tracing::error!(concept = %worker.concept.name, name, why = %refused, "a request is answered with an error of the worker's own");
            }
            let error =
                ServiceError { status: one_line(&refused.to_string()), code: refused.code() };
            request.respond(Err(error)).await
        }
    };
    if let Err(error) = sent {
        tracing::debug!(%error, name, "a request could not be answered");
    }
}

fn is_query(name: &str) -> bool {
    name.starts_with('_')
}

/// The flow whose secrets a request carries sealed; a request by hand has none, and its secrets
/// come in clear.
fn flow_of(request: &Request) -> Result<Option<FlowId>, NoAnswer> {
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
    let asked = query::ask(&worker.concept, &worker.sealer, flow, name, input, within, watch).await;
    let rows = asked.map_err(|error| match error {
        // Nothing can have been sealed for a flow that begins here.
        NoAnswer::Locked if named.is_none() => invalid(error),
        error => error,
    })?;
    Ok((flow, Object::from_iter([("rows".to_owned(), json!(rows))])))
}

/// Enqueues the action as the root of a flow of its own, with its secrets sealed before they are
/// stored, and waits for the output.
async fn inject(
    worker: &Worker,
    name: &str,
    request: &Request,
) -> Result<(FlowId, Object), Refused> {
    let (spec, _) = worker
        .concept
        .action(name)
        .ok_or_else(|| invalid(format!("`{name}` cannot be asked for")))?;
    let input = value::object(&request.message.payload).map_err(invalid)?;
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
