//! Processes one request, from its arrival to its response.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use concert_runtime::bus::Bus;
use concert_runtime::log::{self, PublishError, Published, ReadError};
use concert_runtime::process::Shutdown;
use concert_runtime::setting::DAY_MS;
use concert_runtime::{chaos_point, clock, nats};
use concert_wire::envelope::{Completion, Object, encode};
use concert_wire::id::FlowId;
use concert_wire::keyring::LiveKeyring;
use concert_wire::large::Place;
use concert_wire::routes::{self, Route};
use concert_wire::seal::Sealer;
use concert_wire::subject::{self, CompletionSubject};
use concert_wire::traceparent::Traceparent;
use concert_wire::{REQUEST, REQUESTING, RESPOND, RESPOND_WITH, header as wire_header};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::admission::{Admission, Admitted};
use crate::answer::Refusals;
use crate::bodies::{Bodies, Received};
use crate::client::{Clients, Holder};
use crate::cookie::{Cookies, Use};
use crate::descriptions::Descriptions;
use crate::device::device;
use crate::error::{EdgeError, ErrorArgs, FLOW};
use crate::files::Files;
use crate::keys::ReadableHeader;
use crate::metrics::Metrics;
use crate::page::Link;
use crate::passthrough::{self, Passthrough};
use crate::pending::{Pending, PendingReply, PendingRequest, Respond};
use crate::rates::{Counted, Rates};
use crate::repeats::{self, UsedSecrets};
use crate::routes::{ActiveRoutes, Routes, Target};
use crate::server::EdgeLimits;
use crate::splice::Splicer;
use crate::{answer, body, idempotency, keys};

/// Shared state of all requests.
pub(crate) struct Api {
    pub(crate) descriptions: Descriptions,
    pub(crate) bus: Bus,
    pub(crate) routes: Routes,
    pub(crate) pending: Pending,
    pub(crate) sealer: Sealer,
    pub(crate) keys: LiveKeyring,
    pub(crate) limits: EdgeLimits,
    pub(crate) refusals: Refusals,
    pub(crate) errors: ErrorArgs,
    pub(crate) admission: Arc<Admission>,
    pub(crate) bodies: Bodies,
    pub(crate) splicer: Splicer,
    pub(crate) rates: Arc<Rates>,
    pub(crate) used_secrets: UsedSecrets,
    pub(crate) metrics: Metrics,
    pub(crate) passthrough: Passthrough,
    pub(crate) clients: Arc<Clients>,
    /// `None` if cookie mode is off.
    pub(crate) cookies: Option<Cookies>,
    pub(crate) readable_headers: Vec<ReadableHeader>,
    /// `None` without static files.
    pub(crate) files: Option<Files>,
    /// `None` if the console is off.
    pub(crate) console_link: Option<Link>,
    pub(crate) shutdown: Shutdown,
}

/// A valid request.
struct Posted {
    flow: FlowId,
    body: Bytes,
    traceparent: Option<HeaderValue>,
    client: Option<Holder>,
    counted: Option<Counted>,
    device: Option<String>,
    cookie: Use,
    deadline: Instant,
    /// Hashes of its secrets.
    own_secrets: Vec<u64>,
}

/// Delay before the log is searched again for a response, if a search failed.
const SEARCH_RETRY: Duration = Duration::from_secs(2);
/// Maximum wait for a lost connection to NATS before a request gets 503. A restarted NATS server,
/// or another one of the cluster, is reachable by then.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const IDEMPOTENCY_KEY: &str = "idempotency-key";

impl Api {
    /// True if a path, without the base, has a rule or is exposed.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.has_route(path) || self.passthrough.get(path).is_some()
    }

    fn has_route(&self, path: &str) -> bool {
        !self.methods(path).is_empty()
    }

    /// The methods with which a path, without the base, has a route.
    pub(crate) fn methods(&self, path: &str) -> Vec<routes::Method> {
        let active = self.routes.borrow();
        active.as_ref().map(|active| active.methods(path)).unwrap_or_default()
    }

    /// Names of the headers that the rules declare.
    pub(crate) fn declared_headers(&self) -> Vec<HeaderValue> {
        let active = self.routes.borrow();
        let headers = active.iter().flat_map(|active| &active.table.headers);
        let mut names: Vec<&str> = headers.map(|header| header.name.as_str()).collect();
        names.dedup();
        names.into_iter().filter_map(|name| HeaderValue::from_str(name).ok()).collect()
    }

    /// Responds to a request for a path, without the base.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        path: &str,
        request: Request<Body>,
    ) -> Response<Body> {
        let began = Instant::now();
        self.metrics.began();
        let active = self.routes.borrow().clone();
        let found = active.as_deref().map(|active| (active, active.find(request.method(), path)));
        let pattern = found.as_ref().and_then(|(active, found)| active.pattern(path, found));
        let answered = self.route(path, found, request).await;
        let mut response = answered.unwrap_or_else(|error| error.response(self.errors));
        if self.shutdown.begun() {
            // The client must send its next request to another edge.
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        let status = response.status().as_u16();
        self.metrics.answered(pattern.as_deref(), status, began.elapsed());
        self.refusals.apply(&mut response);
        response
    }

    async fn route(
        self: &Arc<Self>,
        path: &str,
        found: Option<(&ActiveRoutes, Result<Target<'_>, EdgeError>)>,
        request: Request<Body>,
    ) -> Result<Response<Body>, EdgeError> {
        if let Some(target) = self.passthrough.get(path) {
            let within = Duration::from_millis(self.limits.deadline_ms);
            let (parts, body) = posted(request)?;
            let client = self.client(&parts);
            let deadline = Instant::now() + within;
            let flow = clock::new_flow();
            // The edge does not know the keys of the action.
            let place = (None, self.sealer.root_place(flow));
            let received = self.bodies.read(client, &parts.headers, body, deadline, place).await?;
            let Received { object: body, large_bytes } = received;
            let _other = self.bodies.other(large_bytes);
            let _admitted = self.admission.take(path).ok_or(EdgeError::Overloaded)?;
            let counted = self.count(client, encode(&body).len() + counted_bytes(large_bytes))?;
            self.connected().await?;
            let called = (target, flow);
            let result = passthrough::call(&self.bus, &self.sealer, called, &body, within).await;
            settle(counted, &result);
            let response = result?;
            let flow = flow_of(&response);
            return self.splicer.splice(flow, response).await;
        }
        let (active, target) = found.ok_or(EdgeError::Unavailable)?;
        let target = target?;
        let (route, pattern) = (target.route, &*target.pattern);
        if let Some(why) = active.table.unavailable.get(pattern) {
            return Err(EdgeError::Worker(why.clone()));
        }
        let within = Duration::from_millis(self.limits.deadline_ms);
        let mut deadline = Instant::now() + within;
        let (parts, body) = request.into_parts();
        if !self.admission.has_room(pattern) {
            return Err(EdgeError::Overloaded);
        }
        let client = self.client(&parts);
        let received = match target.method.takes_body() {
            true => {
                let place = (Some(route), self.place(client, path, &parts.headers)?);
                self.bodies.read(client, &parts.headers, body, deadline, place).await?
            }
            false => Received::default(),
        };
        let Received { object: mut body, large_bytes } = received;
        let _other = self.bodies.other(large_bytes);
        if large_bytes > 0 {
            // The minimum rate has limited the time so far.
            deadline = Instant::now() + within;
        }
        let declared = (&*active.table.headers, &*self.readable_headers);
        keys::add(&target, (&parts.uri, &parts.headers), declared, &mut body)?;
        let cookie = match &self.cookies {
            Some(cookies) => cookies.take(pattern, route, &parts.headers, &mut body)?,
            None => Use::default(),
        };
        let body = body::fit(route, body, self.bodies.max_chars())?;
        // Not earlier: a slow body must not occupy a slot.
        let admitted = self.admission.take(pattern).ok_or(EdgeError::Overloaded)?;
        let own_secrets = self.used_secrets.remember(route, &body);
        self.connected().await?;
        let flow = match parts.headers.get(IDEMPOTENCY_KEY) {
            Some(key) => {
                idempotency::flow(
                    &self.bus,
                    &self.keys.now(),
                    clock::now_ms(),
                    key.as_bytes(),
                    pattern,
                    &body,
                )
                .await?
            }
            None => clock::new_flow(),
        };
        let body: Bytes = self.completion(flow, pattern, route, body).into();
        let counted = self.count(client, body.len() + counted_bytes(large_bytes))?;
        let request = Posted {
            flow,
            body,
            traceparent: parts.headers.get(wire_header::TRACEPARENT).cloned(),
            client,
            counted,
            device: device(&parts.headers),
            cookie,
            deadline,
            own_secrets,
        };
        let executed = tokio::spawn(self.clone().execute(request, admitted));
        executed.await.unwrap_or(Err(EdgeError::Failed(flow)))
    }

    /// Runs a request. It continues after the client disconnects, because the flow continues and
    /// its slot stays occupied.
    async fn execute(
        self: Arc<Self>,
        mut request: Posted,
        _admitted: Admitted,
    ) -> Result<Response<Body>, EdgeError> {
        let counted = request.counted.take();
        let result = self.respond(request).await;
        settle(counted, &result);
        result
    }

    async fn respond(&self, mut request: Posted) -> Result<Response<Body>, EdgeError> {
        let (flow, deadline, cookie) = (request.flow, request.deadline, request.cookie);
        let client = request.client;
        let own_secrets = std::mem::take(&mut request.own_secrets);
        // Before the publish: the response may arrive before the publish acknowledgement.
        let pending = self.pending.wait_for(flow);
        let connections = self.bus.connections();
        chaos_point!("before-request");
        let published = self.publish(request).await?;
        let search_at = match published {
            Published::Stored => deadline,
            // A repeated request; its response may exist.
            Published::AlreadyThere => Instant::now(),
        };
        chaos_point!("after-request");
        let until = (search_at, deadline);
        let (response, age) = self.wait(pending, connections, flow, until).await?;
        if published == Published::AlreadyThere {
            self.check_repeat(flow, &response.input, age, client, &own_secrets).await?;
        }
        chaos_point!("before-answer");
        let cookie = self.cookies.as_ref().map(|cookies| (cookies, cookie));
        let response = answer::response(&self.sealer, flow, response, cookie)?;
        self.splicer.splice(Some(flow), response).await
    }

    /// Place of the large values of a request. A repetition with the same `Idempotency-Key` has the
    /// same place, so it stores nothing again.
    fn place(
        &self,
        client: Option<Holder>,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Place, EdgeError> {
        let Some(key) = headers.get(IDEMPOTENCY_KEY) else {
            let mut bytes = [0; 16];
            getrandom::fill(&mut bytes).map_err(|_| EdgeError::Unavailable)?;
            return Ok(Place::new(bytes));
        };
        let day = clock::now_ms() / DAY_MS;
        let client = client.and_then(|client| self.clients.tag(client));
        let client = client.as_ref().map_or("", |tag| tag.as_str());
        let parts = [&day.to_be_bytes()[..], client.as_bytes(), path.as_bytes(), key.as_bytes()];
        Ok(Place::derived(self.keys.now().current(), &parts))
    }

    /// Client of a request.
    fn client(&self, parts: &Parts) -> Option<Holder> {
        peer(parts).map(|peer| self.clients.client(peer, &parts.headers))
    }

    /// Counts a request of a client.
    fn count(&self, client: Option<Holder>, bytes: usize) -> Result<Option<Counted>, EdgeError> {
        let Some(client) = client else { return Ok(None) };
        self.rates.take(client, bytes).map_err(|wait| EdgeError::Rate(wait.as_secs() + 1))
    }

    /// Rejects the repetition of a response with a secret, unless [`repeats`] allows it.
    async fn check_repeat(
        &self,
        flow: FlowId,
        response: &Object,
        age: Duration,
        client: Option<Holder>,
        own: &[u64],
    ) -> Result<(), EdgeError> {
        if !repeats::has_secret(&self.sealer, flow, response) {
            return Ok(());
        }
        let root = subject::completion(flow, REQUESTING, REQUEST, flow.root());
        let root = log::find(&self.bus, &root).await.map_err(|error| {
            tracing::warn!(%flow, %error, "cannot read the first request from the log");
            EdgeError::Unavailable
        })?;
        let first = root.as_ref().and_then(|root| root.headers.get(wire_header::CLIENT));
        let same_client = client
            .zip(first)
            .is_some_and(|(client, first)| self.clients.is_tag_of(first.as_str(), client));
        let sealed = (&self.sealer, flow);
        match self.used_secrets.allow_repeat(sealed, response, age, same_client, own) {
            true => Ok(()),
            false => Err(EdgeError::Repeated(flow)),
        }
    }

    /// Rejects a request while NATS is unreachable. Nothing is stored yet, so the client can safely
    /// retry.
    async fn connected(&self) -> Result<(), EdgeError> {
        match self.bus.connected_within(RECONNECT_TIMEOUT).await {
            true => Ok(()),
            false => Err(EdgeError::Unavailable),
        }
    }

    /// The request as a completion, with its secrets sealed (encrypted).
    fn completion(&self, flow: FlowId, path: &str, route: &Route, mut input: Object) -> Vec<u8> {
        body::seal(route, &self.sealer, flow, &mut input);
        input.insert("path".to_owned(), Value::String(path.to_owned()));
        let output = Object::from_iter([("request".to_owned(), Value::String(flow.to_string()))]);
        encode(&Completion { input, output })
    }

    /// Publishes the root of the flow. Without a publish acknowledgement it may still be stored, so
    /// the request then waits for its response.
    async fn publish(&self, request: Posted) -> Result<Published, EdgeError> {
        let Posted { flow, body, traceparent, client, device, deadline, .. } = request;
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
        if let Some(client) = client.and_then(|client| self.clients.tag(client)) {
            headers.insert(wire_header::CLIENT, client.as_str());
        }
        if let Some(device) = device {
            headers.insert(wire_header::DEVICE, device);
        }
        let subject = subject::completion(flow, REQUESTING, REQUEST, flow.root());
        match log::publish_until(&self.bus, subject, headers, body, deadline).await {
            Ok(published) => Ok(published),
            Err(PublishError::NotConfirmed(why)) => {
                tracing::warn!(%flow, why, "no publish acknowledgement; waiting for the response");
                // The log may have the request, from this attempt or an earlier one.
                Ok(Published::AlreadyThere)
            }
            Err(PublishError::TooLarge) => Err(EdgeError::Unstorable),
            Err(error) => {
                tracing::warn!(%flow, %error, "cannot publish a request");
                Err(EdgeError::Unavailable)
            }
        }
    }

    /// Waits for the response of a flow, and returns it with its age. Searches the log at
    /// `search_at`, after a reconnection, because notifications may be lost, and before a 504.
    async fn wait(
        &self,
        mut pending: PendingRequest,
        mut connections: watch::Receiver<u64>,
        flow: FlowId,
        (mut search_at, deadline): (Instant, Instant),
    ) -> Result<(Respond, Duration), EdgeError> {
        loop {
            let found = tokio::select! {
                biased;
                () = tokio::time::sleep_until(search_at) => self.find_response(flow).await,
                Ok(()) = connections.changed() => self.find_response(flow).await,
                reply = &mut pending.reply => return match reply {
                    Ok(PendingReply::Response(response)) => Ok((response, Duration::ZERO)),
                    Ok(PendingReply::DeadLetter) | Err(_) => {
                        let found = self.find_response(flow).await.ok().flatten();
                        found.ok_or(EdgeError::Failed(flow))
                    }
                },
            };
            match found {
                Ok(Some(found)) => return Ok(found),
                _ if Instant::now() >= deadline => return Err(EdgeError::Deadline(flow)),
                Ok(None) => search_at = deadline,
                Err(error) => {
                    tracing::warn!(%flow, %error, "cannot search the log for a response");
                    search_at = (Instant::now() + SEARCH_RETRY).min(deadline);
                }
            }
        }
    }

    /// Searches the log for the response, and returns it with its age. If there are several, the
    /// first one counts.
    async fn find_response(&self, flow: FlowId) -> Result<Option<(Respond, Duration)>, ReadError> {
        let responses =
            [RESPOND, RESPOND_WITH].map(|action| subject::completions_of(flow, REQUESTING, action));
        let (_, mut stored) = log::read(&self.bus, &responses).await?;
        stored.sort_unstable_by_key(|stored| stored.seq);
        Ok(stored.into_iter().find_map(|stored| {
            // Only subjects of actions count, as for the subscription.
            let subject = CompletionSubject::parse(&stored.subject).ok()?;
            let completion = Completion::decode(&stored.body).ok()?;
            let age_us = (clock::now_ms() * 1000).saturating_sub(stored.time_us());
            let age = Duration::from_micros(age_us);
            let is_success = !completion.is_failure();
            is_success.then(|| (Respond::new(&subject, Some(&stored.headers), completion), age))
        }))
    }
}

fn posted(request: Request<Body>) -> Result<(Parts, Body), EdgeError> {
    match request.method() {
        &Method::POST => Ok(request.into_parts()),
        _ => Err(EdgeError::Method(vec![routes::Method::Post])),
    }
}

/// Address of the peer of the connection.
fn peer(parts: &Parts) -> Option<SocketAddr> {
    let ConnectInfo(peer) = parts.extensions.get::<ConnectInfo<SocketAddr>>()?;
    Some(*peer)
}

/// Flow that a response names.
fn flow_of<B>(response: &Response<B>) -> Option<FlowId> {
    response.headers().get(FLOW)?.to_str().ok()?.parse().ok()
}

/// Large values count less than the rest of a body, because they leave no trace in the log.
fn counted_bytes(large_bytes: u64) -> usize {
    usize::try_from(large_bytes / 256).unwrap_or(usize::MAX)
}

/// Returns a request to the budget of its client if it succeeded or was not stored.
fn settle<B>(counted: Option<Counted>, result: &Result<Response<B>, EdgeError>) {
    let is_returned = match result {
        Ok(response) => response.status().as_u16() < 400,
        Err(error) => *error == EdgeError::Unavailable,
    };
    if is_returned && let Some(counted) = counted {
        counted.give_back();
    }
}
