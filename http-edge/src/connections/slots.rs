//! Slots for connections: a limit for all clients, and a limit per client.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::client::Holder;

/// The slots of an edge.
pub(super) struct ConnectionSlots {
    all: usize,
    per_client: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_holder: HashMap<Holder, usize>,
}

/// One slot; dropping it frees it.
pub(super) struct ConnectionSlot {
    slots: Arc<ConnectionSlots>,
    holder: Option<Holder>,
}

impl ConnectionSlots {
    /// `per_client: None` disables the limit per client.
    pub(super) fn new(all: usize, per_client: Option<usize>) -> Arc<Self> {
        Arc::new(Self {
            all,
            per_client: per_client.unwrap_or(usize::MAX),
            taken: Mutex::default(),
        })
    }

    /// Takes a slot, if one is free. `holder: None`, a trusted proxy, is limited only in total.
    pub(super) fn take(self: &Arc<Self>, holder: Option<Holder>) -> Option<ConnectionSlot> {
        let mut taken = self.taken();
        let own = holder.and_then(|holder| taken.by_holder.get(&holder));
        let has_all = own.is_some_and(|own| *own >= self.per_client);
        if taken.all >= self.all || has_all {
            return None;
        }
        taken.all += 1;
        if let Some(holder) = holder {
            *taken.by_holder.entry(holder).or_default() += 1;
        }
        Some(ConnectionSlot { slots: self.clone(), holder })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken();
        taken.all -= 1;
        let Some(Entry::Occupied(mut own)) =
            self.holder.map(|holder| taken.by_holder.entry(holder))
        else {
            return;
        };
        *own.get_mut() -= 1;
        if *own.get() == 0 {
            own.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_limit_leaves_slots_for_others() {
        let (one, other) = (Some(Holder::V4([192, 0, 2, 1])), Some(Holder::V6([1; 8])));
        let slots = ConnectionSlots::new(5, Some(2));
        let held = [slots.take(one), slots.take(one)];
        assert!(held.iter().all(Option::is_some));
        assert!(slots.take(one).is_none());
        let others = [slots.take(other), slots.take(other)];
        assert!(others.iter().all(Option::is_some));
        // A proxy has no limit per client.
        let of_proxy = slots.take(None);
        assert!(of_proxy.is_some());
        assert!(slots.take(None).is_none());
        drop(of_proxy);
        assert!(slots.take(other).is_none());
        drop(held);
        assert!(slots.take(one).is_some());
        drop(others);
        let taken = slots.taken();
        assert_eq!((taken.all, taken.by_holder.len()), (0, 0));
    }

    #[test]
    fn without_client_limit_one_client_can_use_all_slots() {
        let one = Some(Holder::V4([192, 0, 2, 1]));
        let slots = ConnectionSlots::new(3, None);
        let held: Vec<_> = (0..3).map(|_| slots.take(one)).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(slots.take(one).is_none());
    }
}
