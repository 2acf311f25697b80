//! What happens, told to the pages that are open: one ear on the bus, as many streams of events as
//! there is room for.

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

/// So many notices may wait for a page that takes them slowly; one that is further behind is let
/// go, and comes back by itself.
const BEHIND_AT_MOST: usize = 32;
/// How often a stream in which nothing happens says that it is there: often enough for whatever
/// stands between.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The ear, and who is told.
pub(super) struct Live {
    told: broadcast::Sender<Arc<str>>,
    room: Arc<Semaphore>,
    shutdown: Shutdown,
}

struct Listener {
    heard: broadcast::Receiver<Arc<str>>,
    shutdown: Shutdown,
    _place: OwnedSemaphorePermit,
}

impl Live {
    pub(super) async fn start(
        bus: &Bus,
        listeners: usize,
        shutdown: Shutdown,
    ) -> Result<Self, nats::Error> {
        let mut notices = bus.client.subscribe(FLOWS_NOTICE).await?;
        let (told, _) = broadcast::channel(BEHIND_AT_MOST);
        let live = Self {
            told: told.clone(),
            room: Arc::new(Semaphore::new(listeners.min(Semaphore::MAX_PERMITS))),
            shutdown: shutdown.clone(),
        };
        tokio::spawn(async move {
            loop {
                let notice = tokio::select! {
                    () = shutdown.requested() => return,
                    notice = notices.next() => notice,
                };
                let Some(notice) = notice else { return };
                match value::object(&notice.payload) {
                    // Written anew, so that no line break in it ends the event. Nobody may be
                    // listening.
                    Ok(notice) => drop(told.send(Value::Object(notice).to_string().into())),
                    Err(error) => tracing::debug!(%error, "a notice of flows cannot be read"),
                }
            }
        });
        Ok(live)
    }

    /// A stream of events, until the edge ends or the page is too slow for it.
    pub(super) fn listen(&self) -> Result<Response<Body>, Refusal> {
        if self.shutdown.begun() {
            return Err(Refusal::Ending);
        }
        let place = self.room.clone().try_acquire_owned().map_err(|_| Refusal::Listeners)?;
        let listener = Listener {
            heard: self.told.subscribe(),
            shutdown: self.shutdown.clone(),
            _place: place,
        };
        let events = stream::unfold(listener, |mut listener| async move {
            let notice = tokio::select! {
                () = listener.shutdown.requested() => return None,
                notice = listener.heard.recv() => notice.ok()?,
            };
            let event = Event::default().event("flows").data(&*notice);
            Some((Ok::<_, Infallible>(event), listener))
        });
        let mut response =
            Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // Proxies that gather answers before they pass them on would hold this one for ever.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        Ok(response)
    }
}
