//! Slots for request bodies in progress, shared fairly by clients (ADR 33).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::client::Holder;

/// The slots of an edge. If all are taken, a client with fewer slots takes over the oldest slot of
/// the client with most. So slow clients cannot block others, and a client alone can use all.
pub(crate) struct BodySlots {
    all: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    count: usize,
    next: u64,
    /// The oldest slot first.
    by_client: HashMap<Option<Holder>, VecDeque<(u64, oneshot::Sender<()>)>>,
}

/// One slot; dropping it frees it.
pub(crate) struct BodySlot {
    slots: Arc<BodySlots>,
    client: Option<Holder>,
    number: u64,
    /// Completes when another client takes the slot over.
    pub(crate) lost: oneshot::Receiver<()>,
}

impl BodySlots {
    pub(crate) fn new(all: usize) -> Arc<Self> {
        Arc::new(Self { all, taken: Mutex::default() })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a slot. `None` if all slots are taken, and no client has at least two more of them
    /// than this client.
    pub(crate) fn take(self: &Arc<Self>, client: Option<Holder>) -> Option<BodySlot> {
        let mut taken = self.taken();
        if taken.count >= self.all {
            let own = taken.by_client.get(&client).map_or(0, VecDeque::len);
            let most = taken.by_client.values_mut().max_by_key(|slots| slots.len())?;
            if most.len() < own + 2 {
                return None;
            }
            // Dropping the sender completes `lost`.
            most.pop_front()?;
            taken.count -= 1;
        }
        let (sender, lost) = oneshot::channel();
        let number = taken.next;
        taken.next += 1;
        taken.count += 1;
        taken.by_client.entry(client).or_default().push_back((number, sender));
        Some(BodySlot { slots: self.clone(), client, number, lost })
    }

    /// True if a client without a slot can take one.
    pub(crate) fn has_room(&self) -> bool {
        let taken = self.taken();
        taken.count < self.all || taken.by_client.values().any(|slots| slots.len() > 1)
    }
}

impl Drop for BodySlot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken();
        let Some(own) = taken.by_client.get_mut(&self.client) else {
            return;
        };
        let before = own.len();
        own.retain(|(number, _)| *number != self.number);
        let freed = before - own.len();
        if own.is_empty() {
            taken.by_client.remove(&self.client);
        }
        taken.count -= freed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u16) -> Option<Holder> {
        let [high, low] = number.to_be_bytes();
        Some(Holder::V4([192, 0, high, low]))
    }

    #[test]
    fn client_without_a_slot_takes_over_one_of_the_client_with_most() {
        let slots = BodySlots::new(100);
        let mut alone: Vec<_> = (0..100).filter_map(|_| slots.take(client(1))).collect();
        assert_eq!(alone.len(), 100);
        assert!(slots.take(client(1)).is_none());
        // The second client gets its half, and the oldest slots of the first are lost.
        let second: Vec<_> = (0..200).filter_map(|_| slots.take(client(2))).collect();
        assert_eq!(second.len(), 50);
        let is_lost =
            |slot: &mut BodySlot| slot.lost.try_recv() == Err(oneshot::error::TryRecvError::Closed);
        assert!(alone.iter_mut().take(50).all(is_lost));
        assert!(!alone.iter_mut().skip(50).any(is_lost));
        // Every new client gets one, until each has one.
        let others: Vec<_> = (3..=100).filter_map(|number| slots.take(client(number))).collect();
        assert_eq!(others.len(), 98);
        assert!(!slots.has_room() && slots.take(client(101)).is_none());
        drop((alone, others));
        assert!(slots.has_room());
        drop(second);
        let taken = slots.taken();
        assert_eq!((taken.count, taken.by_client.len()), (0, 0));
    }
}
