//! Attempts whose outcome this worker awaits: each may fail, and is counted as if it would.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use concert_worker::ClientTag;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::counts::Room;
use super::{AccountKey, Attempt};

/// Decisions that are made at once at most; accounts share them, and then one waits for the other.
const TURNS: usize = 64;

/// The attempts under way.
pub(super) struct UnderWay {
    tickets: Mutex<Tickets>,
    ended: Notify,
    turns: [tokio::sync::Mutex<()>; TURNS],
}

#[derive(Default)]
struct Tickets {
    next: u64,
    taken: Taken,
}

/// Each with its number.
pub(super) type Taken = BTreeMap<u64, (AccountKey, Option<ClientTag>)>;

/// An attempt under way, until it is dropped.
pub(super) struct Ticket {
    under_way: Arc<UnderWay>,
    number: u64,
}

impl Default for UnderWay {
    fn default() -> Self {
        Self {
            tickets: Mutex::default(),
            ended: Notify::new(),
            turns: std::array::from_fn(|_| tokio::sync::Mutex::default()),
        }
    }
}

impl UnderWay {
    /// The turn to decide about an account.
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

    /// Hears that an attempt has ended, from when it is enabled on.
    pub(super) fn ended(&self) -> Notified<'_> {
        self.ended.notified()
    }

    /// The attempts that are under way now.
    pub(super) fn tickets(&self) -> Taken {
        self.lock().taken.clone()
    }

    /// Takes an attempt in, if there is room for it beside those that are under way and those that
    /// were `seen` before the failures were read.
    pub(super) fn admit(
        self: &Arc<Self>,
        mut seen: Taken,
        attempt: &Attempt,
        room: &Room,
    ) -> Option<Ticket> {
        let mut tickets = self.lock();
        seen.extend(tickets.taken.clone());
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
        tickets.next += 1;
        let number = tickets.next;
        tickets.taken.insert(number, (attempt.account.clone(), attempt.client.clone()));
        Some(Ticket { under_way: self.clone(), number })
    }

    fn lock(&self) -> MutexGuard<'_, Tickets> {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.under_way.lock().taken.remove(&self.number);
        self.under_way.ended.notify_waiters();
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ticket({})", self.number)
    }
}
