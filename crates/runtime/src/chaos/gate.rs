//! Holds a task at a named point, for tests that run a host in their own process.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

thread_local! {
    static GATE: RefCell<Option<Gate>> = const { RefCell::new(None) };
}

/// A gate for the tasks of one tokio runtime. One point at a time is armed.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    armed: Mutex<Option<&'static str>>,
    reached: Notify,
    released: Notify,
}

impl Gate {
    /// Makes this the gate of the current thread. Call it when a runtime starts a thread.
    pub fn enter(&self) {
        GATE.with_borrow_mut(|gate| *gate = Some(self.clone()));
    }

    /// Holds the next task that reaches this point.
    pub fn arm(&self, point: &'static str) {
        *self.0.armed.lock().unwrap_or_else(PoisonError::into_inner) = Some(point);
    }

    /// Waits until a task is held.
    pub async fn reached(&self) {
        self.0.reached.notified().await;
    }

    /// Lets the held task continue.
    pub fn release(&self) {
        self.0.released.notify_one();
    }

    fn disarm(&self, point: &str) -> bool {
        let mut armed = self.0.armed.lock().unwrap_or_else(PoisonError::into_inner);
        armed.take_if(|armed| *armed == point).is_some()
    }
}

pub(super) async fn point(name: &str) {
    let gate = GATE.with_borrow(Clone::clone);
    if let Some(gate) = gate.filter(|gate| gate.disarm(name)) {
        gate.0.reached.notify_one();
        gate.0.released.notified().await;
    }
}
