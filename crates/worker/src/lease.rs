//! The right of a delivery to write: the handler asks, the delivery's state machine decides.

use std::sync::{Arc, Mutex, PoisonError};

use concert_runtime::bus::Bus;
use concert_runtime::guard_disabled;
use concert_runtime::log;
use concert_wire::envelope::Completion;
use tokio::time::Instant;

pub(crate) use crate::order::NoPermit as MayNotWrite;
use crate::order::{Delivery, Effects, Event, Found, Permit};
use crate::stopwatch::part;

/// The right of a delivery to change the state; to be asked before every write.
#[derive(Debug, Clone)]
pub(crate) struct Lease(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// `None`: no log knows of the action.
    order: Option<Order>,
    /// The subject of the action's completion.
    completion: String,
}

/// The state machine, which the delivery's task and its handler share.
#[derive(Debug)]
struct Order {
    delivery: Mutex<Delivery>,
    received: Instant,
    bus: Bus,
    /// Of concurrent writes one at a time is asked for.
    asking: tokio::sync::Mutex<()>,
}

impl Order {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.received.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn decide<T>(&self, decide: impl FnOnce(&mut Delivery, u64) -> T) -> T {
        let mut delivery = self.delivery.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that no later call has an earlier time.
        let now_ms = self.now_ms();
        decide(&mut delivery, now_ms)
    }
}

impl Lease {
    /// The lease of a delivery that was received at this time, which is 0 for its state machine.
    pub(crate) fn new(delivery: Delivery, received: Instant, bus: Bus, completion: String) -> Self {
        let order = Order {
            delivery: Mutex::new(delivery),
            received,
            bus,
            asking: tokio::sync::Mutex::new(()),
        };
        Self(Arc::new(Inner { order: Some(order), completion }))
    }

    /// The lease of an action that no log knows of, for handlers that a test calls.
    #[cfg(feature = "test-support")]
    pub(crate) fn by_hand() -> Self {
        Self(Arc::new(Inner { order: None, completion: String::new() }))
    }

    /// To be asked before every write.
    ///
    /// Before the first, the log is asked whether the action is completed already: a refusal leaves
    /// no mark in the concept's state, and what was refused once must not be done by a later
    /// delivery. An outcome that writes nothing needs no look, since the log refuses a second
    /// completion.
    ///
    /// # Errors
    /// The delivery must not write: see [`MayNotWrite`].
    pub(crate) async fn may_write(&self) -> Result<(), MayNotWrite> {
        let Some(order) = &self.0.order else { return Ok(()) };
        let _one = order.asking.lock().await;
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

    /// What follows from an event.
    pub(crate) fn on(&self, event: Event) -> Effects {
        let order = self.0.order.as_ref();
        order.map_or_else(Effects::new, |order| {
            order.decide(|delivery, now_ms| delivery.on(event, now_ms))
        })
    }

    /// The time, if the server is to be asked for more of it now.
    pub(crate) fn extends(&self) -> Option<u64> {
        let order = self.0.order.as_ref()?;
        order.decide(|delivery, now_ms| delivery.extends(now_ms).then_some(now_ms))
    }

    /// The server confirmed an extension that was asked for at this time.
    pub(crate) fn extended(&self, asked_at_ms: u64) {
        if let Some(order) = &self.0.order {
            order.decide(|delivery, now_ms| delivery.extended(asked_at_ms, now_ms));
        }
    }
}

/// What the log has on the subject of a completion.
pub(crate) async fn find(bus: &Bus, completion: &str) -> Found {
    match part("nats.get", log::find(bus, completion)).await {
        Ok(Some(stored)) => match Completion::decode(&stored.body) {
            Ok(standing) => Found::Completion(Arc::new(standing)),
            Err(error) => {
                Found::Malformed(format!("the completion in the log is malformed: {error}"))
            }
        },
        Ok(None) => Found::Nothing,
        Err(error) => Found::Unread(error.to_string()),
    }
}

/// The same, before an action is begun or written.
pub(crate) async fn look(bus: &Bus, completion: &str) -> Found {
    if guard_disabled!("look") {
        return Found::Nothing;
    }
    find(bus, completion).await
}
