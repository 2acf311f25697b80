//! NATS micro services: offering one, and calling a concept's own service for a query or a durable
//! action.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::service::{self as nats_service, ServiceExt as _};
use async_nats::{HeaderMap, Request};
use bytes::Bytes;
use concert_wire::envelope::{Object, encode};
use concert_wire::id::FlowId;
use concert_wire::work::Work;
use concert_wire::{header, subject, value};
use futures_util::StreamExt as _;
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::bus::Bus;
use crate::process::Shutdown;

/// Response of a concept.
#[derive(Debug)]
pub struct Answer {
    /// Flow for which secrets in the body are encrypted (sealed), if the response names one.
    pub flow: Option<FlowId>,
    /// Output of an action, or rows of a query.
    pub body: Object,
    /// Processing time of the worker, if it reports it.
    pub work: Option<Work>,
}

/// Error of a call.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// No response in time.
    #[error("no response within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The request could not be sent, or no worker is subscribed.
    #[error("no response: {0}; check that the worker runs")]
    Unreachable(String),
    /// The worker returned an error, with an HTTP-like code.
    #[error("the worker returned the error {code}: {why}")]
    Refused {
        /// `400`: invalid input. `500`: error in the worker. `503`: temporarily unavailable. `504`:
        /// no outcome yet.
        code: String,
        /// Message.
        why: String,
    },
    /// The response is not a JSON object.
    #[error("the response is invalid: {0}")]
    Unreadable(String),
}

/// Calls a concept, and waits for the response. Secrets in the input may be encrypted (sealed) for
/// `flow`.
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
    // The caller sets the timeout; the client's own timeout is shorter.
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

/// An endpoint of a micro service.
pub struct Endpoint {
    /// Its name; its subject is `concept.<service>.<name>`.
    pub name: String,
    /// Permits for concurrent requests; further requests wait. Endpoints may share them.
    pub room: Arc<Semaphore>,
}

/// Key of the metadata with the response time that an instance promises, in milliseconds.
const LIMIT_KEY: &str = "concert-timeout-ms";

/// A running instance of a micro service.
#[derive(Debug, Clone, Deserialize)]
pub struct Instance {
    /// Its id, which a restart changes.
    pub id: String,
    #[serde(default)]
    metadata: Option<HashMap<String, String>>,
}

impl Instance {
    /// An instance with the response time that it promises.
    pub fn new(id: impl Into<String>, limit: Option<Duration>) -> Self {
        Self { id: id.into(), metadata: limit.map(|limit| HashMap::from([promise(limit)])) }
    }

    /// Hash of the spec that it implements, if it announces one.
    pub fn spec(&self) -> Option<&String> {
        self.metadata.as_ref()?.get(SPEC_KEY)
    }

    /// Time within which it responds to each query, if it promises one.
    pub fn limit(&self) -> Option<Duration> {
        let limit = self.metadata.as_ref()?.get(LIMIT_KEY)?;
        limit.parse().ok().map(Duration::from_millis)
    }
}

/// Metadata that promise a response to each query within this time.
pub fn promise(limit: Duration) -> (String, String) {
    (LIMIT_KEY.to_owned(), limit.as_millis().to_string())
}

/// Version of the worker protocol of `docs/wire.md` that this program implements.
pub const PROTOCOL: u32 = 1;

/// Key of the metadata with the hash of the spec.
const SPEC_KEY: &str = "concert-spec";

/// Metadata of a worker: the protocol version, and the hash of its concept's spec.
pub fn worker_metadata(spec_hash: String) -> [(String, String); 2] {
    [("concert-protocol".to_owned(), PROTOCOL.to_string()), (SPEC_KEY.to_owned(), spec_hash)]
}

/// Finds the instances of a concept's micro service that respond to a ping in time.
pub async fn instances(bus: &Bus, concept: &str, within: Duration) -> Vec<Instance> {
    let mut found = Vec::new();
    let collect = async {
        let inbox = bus.client.new_inbox();
        let mut responses = bus.client.subscribe(inbox.clone()).await.ok()?;
        let subject = format!("$SRV.PING.{concept}");
        bus.client.publish_with_reply(subject, inbox, Bytes::new()).await.ok()?;
        while let Some(response) = responses.next().await.filter(|of| of.status.is_none()) {
            found.extend(serde_json::from_slice::<Instance>(&response.payload));
        }
        Some(())
    };
    // After the timeout, the instances that responded are known.
    let _timeout = tokio::time::timeout(within, collect).await;
    found
}

/// Offers a micro service until shutdown. Each request runs in its own task, and shutdown waits for
/// these tasks. `metadata` are returned to clients that search for services.
///
/// # Errors
/// The subscriptions of the endpoints fail.
pub async fn offer<F, A>(
    bus: &Bus,
    (name, description, version): (&str, &str, &str),
    metadata: HashMap<String, String>,
    endpoints: impl IntoIterator<Item = Endpoint>,
    shutdown: &Shutdown,
    answer: F,
) -> Result<(), async_nats::Error>
where
    F: Fn(Arc<str>, nats_service::Request) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = ()> + Send,
{
    let builder = bus.client.service_builder().description(description);
    let builder = builder.metadata(metadata);
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
    // The service runs as long as one of its handles exists.
    let stop = shutdown.clone();
    tokio::spawn(async move {
        stop.requested().await;
        if let Err(error) = service.stop().await {
            tracing::debug!(%error, "cannot unsubscribe the endpoints");
        }
    });
    Ok(())
}
