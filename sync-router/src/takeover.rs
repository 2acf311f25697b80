//! Takes over quickly from an active router whose process has exited.
//!
//! The server delivers to one pinned router. It waits some seconds before it pins another, and then
//! for the ack deadline of the messages that the first one held. But it closes the connection of a
//! killed process immediately. So the pinned router serves a subject of its own, and if the server
//! reports that no process serves it, another router releases the pin and those messages.
//!
//! A router that is only disconnected has no responders either. It may then work beside the new
//! one, which is safe: repeated work of a router has no effect.

use std::time::Duration;

use concert_runtime::bus::Bus;
use concert_runtime::nats::{CoreMessage, Message, Subscriber};
use concert_runtime::process::Shutdown;
use concert_runtime::streams::{self, Pinned};
use concert_wire::header::PIN_ID;
use concert_wire::subject::{self, ROUTERS};
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::time::Instant;

/// Interval between checks of the pinned router.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// Interval between checks of the pinned router by itself, which has nothing to take over.
const OWN_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Time for which a router is pinned before the others judge it: it subscribes when it receives its
/// first message.
const GRACE: Duration = Duration::from_millis(600);
/// Number of consecutive checks without a responder.
const CHECKS: u32 = 2;

/// The id under which the server delivers to this router, from its last message.
#[derive(Debug, Default)]
pub(crate) struct OwnPin(watch::Sender<Option<String>>);

impl OwnPin {
    /// Takes the id of a received message.
    pub(crate) fn received(&self, message: &Message) {
        // The last one is the server's.
        let id = message.headers.as_ref().and_then(|headers| headers.get_last(PIN_ID));
        let Some(id) = id.map(|id| id.as_str()) else { return };
        self.0.send_if_modified(|own| {
            let is_new = own.as_deref() != Some(id);
            if is_new {
                *own = Some(id.to_owned());
            }
            is_new
        });
    }

    /// The role of this router: active or standby.
    pub(crate) fn activity(&self, bus: &Bus) -> Activity {
        Activity { own: self.0.subscribe(), bus: bus.clone() }
    }

    /// Starts to serve this router's subject, and to check the other routers, until shutdown.
    pub(crate) fn start(&self, bus: &Bus, shutdown: &Shutdown) {
        tokio::spawn(serve(bus.clone(), self.0.subscribe(), shutdown.clone()));
        tokio::spawn(check(bus.clone(), self.0.subscribe(), shutdown.clone()));
    }
}

/// The role of a router: active or standby.
pub(crate) struct Activity {
    own: watch::Receiver<Option<String>>,
    bus: Bus,
}

impl Activity {
    /// Returns whether the server delivers to this router, or to none that has received a message.
    pub(crate) async fn is_active(&self) -> bool {
        match Pinned::router(&self.bus).await {
            Ok(Some(pinned)) if self.own.borrow().as_ref() == Some(&pinned.id) => true,
            // A router that has received no message does not know that it is pinned.
            Ok(Some(pinned)) => {
                !self.bus.has_responder(subject::router_pin(&pinned.id), CHECK_INTERVAL).await
            }
            Ok(None) => true,
            Err(_) => false,
        }
    }
}

/// Responds on the subject of the own pin.
async fn serve(bus: Bus, mut own: watch::Receiver<Option<String>>, shutdown: Shutdown) {
    let mut requests: Option<Subscriber> = None;
    loop {
        tokio::select! {
            () = shutdown.requested() => return,
            changed = own.changed() => {
                let id = own.borrow_and_update().clone();
                let (Ok(()), Some(id)) = (changed, id) else { return };
                requests = bus.client.subscribe(subject::router_pin(&id)).await.ok();
            }
            Some(request) = next(&mut requests) => {
                if let Some(reply) = request.reply
                    && let Err(error) = bus.client.publish(reply, "".into()).await
                {
                    tracing::debug!(%error, "cannot respond to another router");
                }
            }
        }
    }
}

async fn next(requests: &mut Option<Subscriber>) -> Option<CoreMessage> {
    match requests {
        Some(requests) => requests.next().await,
        None => std::future::pending().await,
    }
}

/// The pinned router as this one has seen it.
struct Seen {
    id: String,
    since: Instant,
    /// Consecutive checks without a responder.
    silent: u32,
}

async fn check(bus: Bus, own: watch::Receiver<Option<String>>, shutdown: Shutdown) {
    let mut seen: Option<Seen> = None;
    let mut interval = CHECK_INTERVAL;
    loop {
        tokio::select! {
            () = shutdown.requested() => return,
            () = tokio::time::sleep(interval) => {}
        }
        interval = CHECK_INTERVAL;
        let pinned = match Pinned::router(&bus).await {
            Ok(Some(pinned)) => pinned,
            Ok(None) => continue,
            Err(error) => {
                tracing::debug!(%error, "cannot check the active router; retrying");
                continue;
            }
        };
        if own.borrow().as_ref() == Some(&pinned.id) {
            seen = None;
            interval = OWN_CHECK_INTERVAL;
            continue;
        }
        let seen = match &mut seen {
            Some(seen) if seen.id == pinned.id => seen,
            other => other.insert(Seen { id: pinned.id, since: Instant::now(), silent: 0 }),
        };
        if bus.has_responder(subject::router_pin(&seen.id), CHECK_INTERVAL).await {
            seen.silent = 0;
            continue;
        }
        seen.silent += 1;
        if seen.silent >= CHECKS && seen.since.elapsed() >= GRACE {
            take_over(&bus, &seen.id).await;
            seen.silent = 0;
        }
    }
}

/// Releases the pin of a router that has exited, and its messages.
async fn take_over(bus: &Bus, id: &str) {
    // Read after the router exited, so this covers everything that was delivered to it.
    let pinned = match Pinned::router(bus).await {
        Ok(Some(pinned)) if pinned.id == id => pinned,
        _ => return,
    };
    tracing::info!("the active router has exited; a standby router takes over");
    let released = match streams::unpin(bus, ROUTERS).await {
        Ok(()) => pinned.release(bus).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = released {
        tracing::warn!(error, "cannot take over; the server hands over after some seconds");
    }
}
