//! Micro services: offering one, and asking a concept over its own, a query or an action that is
//! carried out durably.

use std::sync::Arc;
use std::time::Duration;

use async_nats::service::{self as nats_service, ServiceExt as _};
use async_nats::{HeaderMap, Request};
use concert_wire::envelope::{Object, encode};
use concert_wire::id::FlowId;
use concert_wire::work::Work;
use concert_wire::{header, subject, value};
use futures_util::StreamExt as _;
use tokio::sync::Semaphore;

use crate::bus::Bus;
use crate::process::Shutdown;

/// What a concept answers.
#[derive(Debug)]
pub struct Answer {
    /// The flow that secrets in the body are sealed for, if the concept names one.
    pub flow: Option<FlowId>,
    /// The output of an action, or the rows of a query.
    pub body: Object,
    /// How long the worker took, if it says so.
    pub work: Option<Work>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// None came in time.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// Nobody could be asked.
    #[error("no answer: {0}")]
    Unreachable(String),
    /// The worker says why not, with a code as HTTP has it.
    #[error("the worker says: {why}")]
    Refused {
        /// `400`: the input is wrong. `500`: the worker is at fault. `503`: not now. `504`: no
        /// outcome yet.
        code: String,
        /// In words.
        why: String,
    },
    /// The answer is no JSON object.
    #[error("the answer cannot be read: {0}")]
    Unreadable(String),
}

/// Asks a concept, and waits for its answer. Secrets in the input may be sealed for `flow`.
///
/// # Errors
/// See [`NoAnswer`].
pub async fn ask(
    bus: &Bus,
    (concept, name): (&str, &str),
    flow: Option<FlowId>,
    input: &Object,
    within: Duration,
) -> Result<Answer, NoAnswer> {
    // How long is the caller's to say, and not the client's, which gives up sooner.
    let mut request = Request::new().payload(encode(input).into()).timeout(None);
    if let Some(flow) = flow {
        let mut headers = HeaderMap::new();
        headers.insert(header::FLOW, flow.to_string());
        request = request.headers(headers);
    }
    let asked = bus.client.send_request(subject::service(concept, name), request);
    let answer = tokio::time::timeout(within, asked)
        .await
        .map_err(|_| NoAnswer::TimedOut(within))?
        .map_err(|error| NoAnswer::Unreachable(error.to_string()))?;
    let header = |name| Some(answer.headers.as_ref()?.get(name)?.as_str());
    if let Some(code) = header(header::SERVICE_ERROR_CODE) {
        return Err(NoAnswer::Refused {
            code: code.to_owned(),
            why: header(header::SERVICE_ERROR).unwrap_or_default().to_owned(),
        });
    }
    Ok(Answer {
        flow: header(header::FLOW).and_then(|flow| flow.parse().ok()),
        work: header(header::WORK).and_then(|work| work.parse().ok()),
        body: value::object(&answer.payload)
            .map_err(|error| NoAnswer::Unreadable(error.to_string()))?,
    })
}

/// Something that a micro service is asked.
pub struct Endpoint {
    /// Its name: `concept.<service>.<name>` is where it is asked.
    pub name: String,
    /// Room for requests that are answered at once; further ones wait. Endpoints may share it.
    pub room: Arc<Semaphore>,
}

/// Offers a micro service until shutdown; every request is answered on a task of its own, which
/// shutdown waits for.
///
/// # Errors
/// The endpoints cannot be listened for.
pub async fn offer<F, A>(
    bus: &Bus,
    (name, description, version): (&str, &str, &str),
    endpoints: impl IntoIterator<Item = Endpoint>,
    shutdown: &Shutdown,
    answer: F,
) -> Result<(), async_nats::Error>
where
    F: Fn(Arc<str>, nats_service::Request) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = ()> + Send,
{
    let builder = bus.client.service_builder().description(description);
    let service = builder.start(name, version).await?;
    for Endpoint { name: of, room } in endpoints {
        let subject = subject::service(name, &of);
        let mut requests = service.endpoint_builder().name(&of).add(subject).await?;
        let (of, answer, shutdown): (Arc<str>, _, _) =
            (of.into(), answer.clone(), shutdown.clone());
        tokio::spawn(async move {
            loop {
                let request = tokio::select! {
                    () = shutdown.requested() => return,
                    request = requests.next() => request,
                };
                let Some(request) = request else { return };
                let Ok(permit) = room.clone().acquire_owned().await else {
                    return;
                };
                let (of, answer) = (of.clone(), answer.clone());
                shutdown.tasks().spawn(async move {
                    answer(of, request).await;
                    drop(permit);
                });
            }
        });
    }
    // The service lives as long as one of its handles does.
    let stop = shutdown.clone();
    tokio::spawn(async move {
        stop.requested().await;
        if let Err(error) = service.stop().await {
            tracing::debug!(%error, "the endpoints could not be taken back");
        }
    });
    Ok(())
}
