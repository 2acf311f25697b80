//! The right of a delivery to write. The handler requests it, and the delivery's state machine
//! decides.

use std::sync::{Arc, Mutex, PoisonError};

use concert_runtime::bus::Bus;
use concert_runtime::guard_disabled;
use concert_runtime::log;
use concert_runtime::streams::{self, SetupError};
use concert_wire::envelope::Completion;
use tokio::time::Instant;

pub(crate) use crate::order::NoPermit as MayNotWrite;
use crate::order::{Delivery, Effects, Event, Found, Permit};
use crate::stopwatch::part;

/// The right of a delivery to change the state, until half a second before its ack deadline. All
/// writes of `store` require it, except `Documents::raise`.
#[derive(Debug, Clone)]
pub(crate) struct Lease(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `None` for an action without a log.
    order: Option<Order>,
    /// The subject of the action's completion.
    completion: String,
    is_repeated: bool,
}

/// The state machine, which the delivery's task and its handler share.
#[derive(Debug)]
struct Order {
    delivery: Mutex<Delivery>,
    received: Instant,
    bus: Bus,
    /// Serializes requests of concurrent writes.
    requests: tokio::sync::Mutex<()>,
}

impl Order {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.received.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn decide<T>(&self, decide: impl FnOnce(&mut Delivery, u64) -> T) -> T {
        let mut delivery = self.delivery.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock, so the times of successive calls never decrease.
        let now_ms = self.now_ms();
        decide(&mut delivery, now_ms)
    }
}

impl Lease {
    /// The lease of a delivery. The state machine counts its times from `received`.
    pub(crate) fn new(
        delivery: Delivery,
        received: Instant,
        bus: Bus,
        completion: String,
        is_repeated: bool,
    ) -> Self {
        let order = Order {
            delivery: Mutex::new(delivery),
            received,
            bus,
            requests: tokio::sync::Mutex::new(()),
        };
        Self(Arc::new(Inner { order: Some(order), completion, is_repeated }))
    }

    /// The lease of an action without a log: an import, or a handler that a test calls directly.
    pub(crate) fn without_log() -> Self {
        Self(Arc::new(Inner { order: None, completion: String::new(), is_repeated: false }))
    }

    /// Checks whether the delivery may write now.
    ///
    /// The first check reads the log, because an earlier delivery may have refused the action: a
    /// refusal leaves no stamp in the state. An outcome that writes nothing needs no check, because
    /// the log rejects a second completion.
    ///
    /// # Errors
    /// The delivery must not write: see [`MayNotWrite`].
    pub(crate) async fn may_write(&self) -> Result<(), MayNotWrite> {
        let Some(order) = &self.0.order else { return Ok(()) };
        let _one = order.requests.lock().await;
        let mut permit = order.decide(Delivery::may_write);
        loop {
            match permit {
                Permit::Granted => return Ok(()),
                Permit::Refused(why) => return Err(why),
                Permit::Look => {
                    let found = look(&order.bus, &self.0.completion).await;
                    permit = order.decide(|delivery, now_ms| delivery.looked(found, now_ms));
                }
            }
        }
    }

    /// The subject of the action's completion.
    pub(crate) fn completion(&self) -> &str {
        &self.0.completion
    }

    /// See [`Call::is_repeated`](crate::Call::is_repeated).
    pub(crate) fn is_repeated(&self) -> bool {
        self.0.is_repeated
    }

    /// The position of the log's last message; 0 without a log.
    pub(crate) async fn log_end(&self) -> Result<u64, SetupError> {
        let Some(order) = &self.0.order else { return Ok(0) };
        let log = part("nats.info", streams::existing_log(&order.bus)).await?;
        Ok(log.cached_info().state.last_sequence)
    }

    /// Passes an event to the state machine, and returns the effects that the shell executes next;
    /// none without a log.
    pub(crate) fn on(&self, event: Event) -> Effects {
        let order = self.0.order.as_ref();
        order.map_or_else(Effects::new, |order| {
            order.decide(|delivery, now_ms| delivery.on(event, now_ms))
        })
    }

    /// The current time, if the ack deadline must be extended now.
    pub(crate) fn extends(&self) -> Option<u64> {
        let order = self.0.order.as_ref()?;
        order.decide(|delivery, now_ms| delivery.extends(now_ms).then_some(now_ms))
    }

    /// The server confirmed an extension that was requested at this time.
    pub(crate) fn extended(&self, asked_at_ms: u64) {
        if let Some(order) = &self.0.order {
            order.decide(|delivery, now_ms| delivery.extended(asked_at_ms, now_ms));
        }
    }
}

/// Looks up a completion by its subject.
pub(crate) async fn find(bus: &Bus, completion: &str) -> Found {
    match part("nats.get", log::find(bus, completion)).await {
        Ok(Some(stored)) => match Completion::decode(&stored.body) {
            Ok(existing) => Found::Completion(Arc::new(existing)),
            Err(error) => Found::Malformed(format!("malformed completion in the log: {error}")),
        },
        Ok(None) => Found::Nothing,
        Err(error) => Found::Unread(error.to_string()),
    }
}

/// The lookup before an action starts or writes: the guard that `--sabotage look` disables.
pub(crate) async fn look(bus: &Bus, completion: &str) -> Found {
    if guard_disabled!("look") {
        return Found::Nothing;
    }
    find(bus, completion).await
}
