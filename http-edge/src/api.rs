//! One request, from its arrival to its answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use concert_runtime::bus::Bus;
use concert_runtime::log::{self, PublishError, Published};
use concert_runtime::process::Shutdown;
use concert_runtime::{chaos_point, clock, nats};
use concert_wire::client::ClientTag;
use concert_wire::envelope::{Completion, Object, encode};
use concert_wire::id::FlowId;
use concert_wire::keyring::LiveKeyring;
use concert_wire::routes::Route;
use concert_wire::seal::Sealer;
use concert_wire::subject::{self, CompletionSubject};
use concert_wire::traceparent::Traceparent;
use concert_wire::{REQUEST, REQUESTING, RESPOND, header as wire_header, value};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::admission::{Admission, Admitted};
use crate::client::Clients;
use crate::cookie::{Cookies, Use};
use crate::descriptions::Descriptions;
use crate::error::EdgeError;
use crate::metrics::Metrics;
use crate::page::Page;
use crate::passthrough::{self, Passthrough};
use crate::pending::{Heard, Pending, Place};
use crate::routes::Routes;
use crate::server::EdgeLimits;
use crate::{answer, body, idempotency};

/// What every request needs.
pub(crate) struct Api {
    pub(crate) descriptions: Descriptions,
    pub(crate) bus: Bus,
    pub(crate) routes: Routes,
    pub(crate) pending: Pending,
    pub(crate) sealer: Sealer,
    pub(crate) keys: LiveKeyring,
    pub(crate) limits: EdgeLimits,
    pub(crate) admission: Arc<Admission>,
    /// Room for bodies that are being read.
    pub(crate) bodies: Semaphore,
    pub(crate) metrics: Metrics,
    pub(crate) passthrough: Passthrough,
    pub(crate) clients: Arc<Clients>,
    /// `None` when no cookie is used.
    pub(crate) cookies: Option<Cookies>,
    /// `None` when this edge serves no page.
    pub(crate) page: Option<Arc<Page>>,
    pub(crate) shutdown: Shutdown,
}

/// A request that fits its route.
struct Posted {
    flow: FlowId,
    body: Bytes,
    traceparent: Option<HeaderValue>,
    client: Option<ClientTag>,
    cookie: Use,
    deadline: Instant,
}

/// An answer that was not heard for so long is looked for in the log: the connection may have been
/// away when it came.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long a request waits for a lost connection to NATS before it gets 503: a NATS server that
/// restarts, or another one of its cluster, is back by then.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const IDEMPOTENCY_KEY: &str = "idempotency-key";

impl Api {
    /// Whether a path below the base is one that somebody answers.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.has_route(path) || self.passthrough.get(path).is_some()
    }

    fn has_route(&self, path: &str) -> bool {
        let table = self.routes.borrow();
        table.as_ref().is_some_and(|table| table.routes.contains_key(path))
    }

    /// Answers a request to a path below the base.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        path: &str,
        request: Request<Body>,
    ) -> Response<Body> {
        let began = Instant::now();
        self.metrics.began();
        let answered = self.route(path, request).await;
        let mut response = answered.unwrap_or_else(|error| error.response());
        let known = self.has_route(path);
        if self.shutdown.begun() {
            // The next request of this client belongs to another edge.
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        self.metrics.answered(known.then_some(path), response.status().as_u16(), began.elapsed());
        response
    }

    async fn route(
        self: &Arc<Self>,
        path: &str,
        request: Request<Body>,
    ) -> Result<Response<Body>, EdgeError> {
        if let Some(target) = self.passthrough.get(path) {
            let within = Duration::from_millis(self.limits.deadline_ms);
            let (parts, body) = posted(request)?;
            let body = self.read(&parts.headers, body, Instant::now() + within).await?;
            let _place = self.admission.take(path).ok_or(EdgeError::Overloaded)?;
            self.connected().await?;
            return passthrough::call(&self.bus, &self.sealer, target, &body, within).await;
        }
        let table = self.routes.borrow().clone().ok_or(EdgeError::Unavailable)?;
        let route = table.routes.get(path).ok_or(EdgeError::NotFound)?;
        let deadline = Instant::now() + Duration::from_millis(self.limits.deadline_ms);
        let (parts, body) = posted(request)?;
        if !self.admission.has_room(path) {
            return Err(EdgeError::Overloaded);
        }
        let mut body = self.read(&parts.headers, body, deadline).await?;
        let cookie = match &self.cookies {
            Some(cookies) => cookies.take(path, route, &parts.headers, &mut body)?,
            None => Use::default(),
        };
        let body = body::fit(route, body)?;
        // Not before: a body that comes slowly must not keep a place from others.
        let admitted = self.admission.take(path).ok_or(EdgeError::Overloaded)?;
        self.connected().await?;
        let flow = match parts.headers.get(IDEMPOTENCY_KEY) {
            Some(key) => {
                idempotency::flow(
                    &self.bus,
                    &self.keys.now(),
                    clock::now_ms(),
                    key.as_bytes(),
                    path,
                    &body,
                )
                .await?
            }
            None => clock::new_flow(),
        };
        let request = Posted {
            flow,
            body: self.completion(flow, path, route, body).into(),
            traceparent: parts.headers.get(wire_header::TRACEPARENT).cloned(),
            client: peer(&parts).and_then(|peer| self.clients.tag(peer, &parts.headers)),
            cookie,
            deadline,
        };
        let carried_out = tokio::spawn(self.clone().carry_out(request, admitted));
        carried_out.await.unwrap_or(Err(EdgeError::Failed(flow)))
    }

    /// Goes on when the client goes away: the work is under way all the same, and its place is not
    /// free.
    async fn carry_out(
        self: Arc<Self>,
        request: Posted,
        _place: Admitted,
    ) -> Result<Response<Body>, EdgeError> {
        let (flow, deadline, cookie) = (request.flow, request.deadline, request.cookie);
        // Before the publish: the answer may come before the confirmation.
        let place = self.pending.wait_for(flow);
        chaos_point!("before-request");
        let answer = match self.publish(request).await? {
            Published::Stored => None,
            // A repeated request; its answer may be there already.
            Published::AlreadyThere => self.find_answer(flow).await,
        };
        chaos_point!("after-request");
        let answer = match answer {
            Some(answer) => answer,
            None => self.wait(place, flow, deadline).await?,
        };
        chaos_point!("before-answer");
        let cookie = self.cookies.as_ref().map(|cookies| (cookies, cookie));
        answer::response(&self.sealer, flow, answer, cookie)
    }

    /// Refuses a request while NATS is unreachable: nothing of it is stored yet, so the client can
    /// safely retry.
    async fn connected(&self) -> Result<(), EdgeError> {
        match self.bus.connected_within(RECONNECT_TIMEOUT).await {
            true => Ok(()),
            false => Err(EdgeError::Unavailable),
        }
    }

    async fn read(
        &self,
        headers: &HeaderMap,
        body: Body,
        deadline: Instant,
    ) -> Result<Object, EdgeError> {
        if !is_json(headers) {
            return Err(EdgeError::ContentType);
        }
        let _room = self.bodies.try_acquire().map_err(|_| EdgeError::Overloaded)?;
        let limit = self.limits.body_limit_bytes;
        let announced = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > u64::try_from(limit).unwrap_or(u64::MAX)) {
            return Err(EdgeError::TooLarge(limit));
        }
        let read = tokio::time::timeout_at(deadline, to_bytes(body, limit))
            .await
            .map_err(|_| EdgeError::SlowBody)?;
        let bytes = read.map_err(|error| match is_length_limit(&error) {
            true => EdgeError::TooLarge(limit),
            false => EdgeError::BadRequest("the body cannot be read".to_owned()),
        })?;
        value::object(&bytes).map_err(|error| EdgeError::BadRequest(error.to_string()))
    }

    /// The completion that the request is, with its secrets sealed.
    fn completion(&self, flow: FlowId, path: &str, route: &Route, mut input: Object) -> Vec<u8> {
        body::seal(route, &self.sealer, flow, &mut input);
        input.insert("path".to_owned(), Value::String(path.to_owned()));
        let output = Object::from_iter([("request".to_owned(), Value::String(flow.to_string()))]);
        encode(&Completion { input, output })
    }

    /// Publishes the root of the flow. When no confirmation comes it may be stored all the same, so
    /// that the answer is waited for.
    async fn publish(&self, request: Posted) -> Result<Published, EdgeError> {
        let Posted { flow, body, traceparent, client, deadline, .. } = request;
        let mut headers = nats::HeaderMap::new();
        headers
            .insert(wire_header::DEADLINE, (clock::now_ms() + self.limits.deadline_ms).to_string());
        if let Some(traceparent) = traceparent
            .as_ref()
            .and_then(|value| value.to_str().ok())
            .filter(|value| value.parse::<Traceparent>().is_ok())
        {
            headers.insert(wire_header::TRACEPARENT, traceparent);
        }
        if let Some(client) = client {
            headers.insert(wire_header::CLIENT, client.as_str());
        }
        let subject = subject::completion(flow, REQUESTING, REQUEST, flow.root());
        match log::publish_until(&self.bus, subject, headers, body, deadline).await {
            Ok(published) => Ok(published),
            Err(PublishError::NotConfirmed(why)) => {
                tracing::warn!(%flow, why, "a request is not confirmed");
                Ok(Published::Stored)
            }
            Err(PublishError::TooLarge) => Err(EdgeError::TooLarge(self.limits.body_limit_bytes)),
            Err(error) => {
                tracing::warn!(%flow, %error, "a request cannot be stored");
                Err(EdgeError::Unavailable)
            }
        }
    }

    async fn wait(
        &self,
        mut place: Place,
        flow: FlowId,
        deadline: Instant,
    ) -> Result<Object, EdgeError> {
        loop {
            let look_at = (Instant::now() + LOOK_EVERY).min(deadline);
            match tokio::time::timeout_at(look_at, &mut place.heard).await {
                Ok(Ok(Heard::Answer(answer))) => return Ok(answer),
                Ok(Ok(Heard::DeadLetter) | Err(_)) => {
                    return self.find_answer(flow).await.ok_or(EdgeError::Failed(flow));
                }
                Err(_) => {
                    if let Some(answer) = self.find_answer(flow).await {
                        return Ok(answer);
                    }
                    if look_at == deadline {
                        return Err(EdgeError::Deadline(flow));
                    }
                }
            }
        }
    }

    /// Looks for the answer in the log: the first one there is the answer, whoever asks.
    async fn find_answer(&self, flow: FlowId) -> Option<Object> {
        let answers = subject::completions_of(flow, REQUESTING, RESPOND);
        let (_, mut stored) = match log::read(&self.bus, &answers).await {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(%flow, %error, "an answer cannot be looked for");
                return None;
            }
        };
        stored.sort_unstable_by_key(|stored| stored.seq);
        stored.into_iter().find_map(|stored| {
            // Under the id of an action, as whoever hears of it takes it.
            CompletionSubject::parse(&stored.subject).ok()?;
            let completion = Completion::decode(&stored.body).ok()?;
            (!completion.is_failure()).then_some(completion.input)
        })
    }
}

fn posted(request: Request<Body>) -> Result<(Parts, Body), EdgeError> {
    if request.method() == Method::POST { Ok(request.into_parts()) } else { Err(EdgeError::Method) }
}

/// Who is at the other end of the connection.
fn peer(parts: &Parts) -> Option<SocketAddr> {
    let ConnectInfo(peer) = parts.extensions.get::<ConnectInfo<SocketAddr>>()?;
    Some(*peer)
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(content_type) =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok())
    else {
        return false;
    };
    content_type
        .split(';')
        .next()
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

fn is_length_limit(error: &(dyn std::error::Error + 'static)) -> bool {
    error.is::<http_body_util::LengthLimitError>() || error.source().is_some_and(is_length_limit)
}
