//! Login attempts without an outcome so far: each counts as a possible failure.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use concert_worker::ClientTag;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::counts::Room;
use super::{AccountKey, Attempt};

/// Maximum number of concurrent decisions. Accounts share these locks by their hash.
const TURNS: usize = 64;

/// The attempts in flight.
pub(super) struct InFlight {
    state: Mutex<State>,
    ended: Notify,
    turns: [tokio::sync::Mutex<()>; TURNS],
}

#[derive(Default)]
struct State {
    next: u64,
    attempts: Attempts,
}

/// The attempts in flight, by number.
pub(super) type Attempts = BTreeMap<u64, (AccountKey, Option<ClientTag>)>;

/// An attempt in flight; dropping this ends it.
pub(super) struct InFlightGuard {
    in_flight: Arc<InFlight>,
    number: u64,
}

impl Default for InFlight {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            ended: Notify::new(),
            turns: std::array::from_fn(|_| tokio::sync::Mutex::default()),
        }
    }
}

impl InFlight {
    /// Locks the decisions about an account.
    pub(super) async fn turn(
        &self,
        account: &AccountKey,
    ) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        let turn = account.0.first().map_or(0, |first| usize::from(*first) % TURNS);
        match self.turns.get(turn) {
            Some(turn) => Some(turn.lock().await),
            None => None,
        }
    }

    /// Resolves when an attempt ends after this is enabled.
    pub(super) fn ended(&self) -> Notified<'_> {
        self.ended.notified()
    }

    /// Returns the attempts that are in flight now.
    pub(super) fn current(&self) -> Attempts {
        self.lock().attempts.clone()
    }

    /// Admits an attempt, if there is room for it in addition to those in flight and those that
    /// were `seen` before the failures were read.
    pub(super) fn admit(
        self: &Arc<Self>,
        mut seen: Attempts,
        attempt: &Attempt,
        room: &Room,
    ) -> Option<InFlightGuard> {
        let mut state = self.lock();
        seen.extend(state.attempts.clone());
        let client = attempt.client.as_ref();
        let others = seen.values();
        let at_account = others.clone().filter(|(account, other)| {
            let (one, other) =
                (client.map(ClientTag::as_str), other.as_ref().map(ClientTag::as_str));
            *account == attempt.account && room.counts_with(one, other)
        });
        let of_client = others.filter(|(_, other)| client.is_some() && other.as_ref() == client);
        if at_account.count() >= room.account || of_client.count() >= room.client {
            return None;
        }
        state.next += 1;
        let number = state.next;
        state.attempts.insert(number, (attempt.account.clone(), attempt.client.clone()));
        Some(InFlightGuard { in_flight: self.clone(), number })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.in_flight.lock().attempts.remove(&self.number);
        self.in_flight.ended.notify_waiters();
    }
}

impl std::fmt::Debug for InFlightGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InFlightGuard({})", self.number)
    }
}
