//! Live updates: one NATS subscription, and a limited number of event streams to consoles.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, header};
use axum::response::IntoResponse as _;
use axum::response::sse::{Event, KeepAlive, Sse};
use concert_runtime::bus::Bus;
use concert_runtime::nats;
use concert_runtime::process::Shutdown;
use concert_wire::subject::FLOWS_NOTICE;
use concert_wire::value;
use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

use super::Refusal;

/// Maximum number of notices buffered for a console; a slower one is disconnected and reconnects
/// automatically.
const MAX_BACKLOG: usize = 32;
/// Interval between keep-alive comments, below the usual idle timeouts of proxies.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The subscription, and the event streams that it feeds.
pub(super) struct Live {
    notices: broadcast::Sender<Arc<str>>,
    slots: Arc<Semaphore>,
    shutdown: Shutdown,
}

struct Listener {
    notices: broadcast::Receiver<Arc<str>>,
    shutdown: Shutdown,
    _slot: OwnedSemaphorePermit,
}

impl Live {
    pub(super) async fn start(
        bus: &Bus,
        listeners: usize,
        shutdown: Shutdown,
    ) -> Result<Self, nats::Error> {
        let mut subscription = bus.client.subscribe(FLOWS_NOTICE).await?;
        let (notices, _) = broadcast::channel(MAX_BACKLOG);
        let live = Self {
            notices: notices.clone(),
            slots: Arc::new(Semaphore::new(listeners.min(Semaphore::MAX_PERMITS))),
            shutdown: shutdown.clone(),
        };
        tokio::spawn(async move {
            loop {
                let notice = tokio::select! {
                    () = shutdown.requested() => return,
                    notice = subscription.next() => notice,
                };
                let Some(notice) = notice else { return };
                match value::object(&notice.payload) {
                    // Serialized again to remove line breaks: a line break would end the event. The
                    // send fails if no console is connected.
                    Ok(notice) => drop(notices.send(Value::Object(notice).to_string().into())),
                    Err(error) => tracing::debug!(%error, "cannot parse a notice of flows"),
                }
            }
        });
        Ok(live)
    }

    /// An event stream, until the edge shuts down or the console reads too slowly.
    pub(super) fn listen(&self) -> Result<Response<Body>, Refusal> {
        if self.shutdown.begun() {
            return Err(Refusal::Ending);
        }
        let slot = self.slots.clone().try_acquire_owned().map_err(|_| Refusal::Listeners)?;
        let listener = Listener {
            notices: self.notices.subscribe(),
            shutdown: self.shutdown.clone(),
            _slot: slot,
        };
        let events = stream::unfold(listener, |mut listener| async move {
            let notice = tokio::select! {
                () = listener.shutdown.requested() => return None,
                notice = listener.notices.recv() => notice.ok()?,
            };
            let event = Event::default().event("flows").data(&*notice);
            Some((Ok::<_, Infallible>(event), listener))
        });
        let mut response =
            Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // Without this, a buffering proxy would hold the events back.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        Ok(response)
    }
}
