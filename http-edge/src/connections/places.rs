//! Places for connections: so many for all clients, and so many for each.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::client::Holder;

/// The places that there are.
pub(super) struct Places {
    all: usize,
    for_each: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_holder: HashMap<Holder, usize>,
}

/// One of them, until it is dropped.
pub(super) struct Place {
    places: Arc<Places>,
    holder: Option<Holder>,
}

impl Places {
    /// `None` for each is as many as there are.
    pub(super) fn new(all: usize, for_each: Option<usize>) -> Arc<Self> {
        Arc::new(Self { all, for_each: for_each.unwrap_or(usize::MAX), taken: Mutex::default() })
    }

    /// A place, if there is one; for who holds connections of many, whatever it has already.
    pub(super) fn take(self: &Arc<Self>, holder: Option<Holder>) -> Option<Place> {
        let mut taken = self.taken();
        let own = holder.and_then(|holder| taken.by_holder.get(&holder));
        let has_all = own.is_some_and(|own| *own >= self.for_each);
        if taken.all >= self.all || has_all {
            return None;
        }
        taken.all += 1;
        if let Some(holder) = holder {
            *taken.by_holder.entry(holder).or_default() += 1;
        }
        Some(Place { places: self.clone(), holder })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
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
    fn one_client_does_not_take_what_others_need_and_what_it_gives_back_is_there_again() {
        let (one, other) = (Some(Holder::V4([192, 0, 2, 1])), Some(Holder::V6([1; 8])));
        let places = Places::new(5, Some(2));
        let held = [places.take(one), places.take(one)];
        assert!(held.iter().all(Option::is_some));
        assert!(places.take(one).is_none());
        let others = [places.take(other), places.take(other)];
        assert!(others.iter().all(Option::is_some));
        // A proxy has more than two, and no more than there are.
        let proxy_s = places.take(None);
        assert!(proxy_s.is_some());
        assert!(places.take(None).is_none());
        drop(proxy_s);
        assert!(places.take(other).is_none());
        drop(held);
        assert!(places.take(one).is_some());
        drop(others);
        let taken = places.taken();
        assert_eq!((taken.all, taken.by_holder.len()), (0, 0));
    }

    #[test]
    fn without_a_bound_for_each_one_may_have_them_all() {
        let one = Some(Holder::V4([192, 0, 2, 1]));
        let places = Places::new(3, None);
        let held: Vec<_> = (0..3).map(|_| places.take(one)).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(places.take(one).is_none());
    }
}
