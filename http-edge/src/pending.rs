//! Requests that wait for their answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use concert_wire::envelope::Object;
use concert_wire::id::FlowId;
use tokio::sync::oneshot;

/// What a waiting request hears.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Heard {
    /// The input of the respond.
    Answer(Object),
    /// An action of the flow became a dead letter.
    DeadLetter,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    flows: HashMap<FlowId, Vec<(u64, oneshot::Sender<Heard>)>>,
}

/// The waiting requests of this edge. Several may wait for one flow: those with the same
/// `Idempotency-Key`.
#[derive(Clone, Default)]
pub(crate) struct Pending(Arc<Mutex<Waiting>>);

/// A place among the waiting, given up when dropped.
pub(crate) struct Place {
    pending: Pending,
    flow: FlowId,
    number: u64,
    /// Hears at most once.
    pub(crate) heard: oneshot::Receiver<Heard>,
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place; to be done before the request is published.
    pub(crate) fn wait_for(&self, flow: FlowId) -> Place {
        let (sender, heard) = oneshot::channel();
        let mut waiting = self.lock();
        waiting.next += 1;
        let number = waiting.next;
        waiting.flows.entry(flow).or_default().push((number, sender));
        Place { pending: self.clone(), flow, number, heard }
    }

    /// Tells everyone who waits for a flow. Whoever heard before hears no more.
    pub(crate) fn tell(&self, flow: FlowId, heard: &Heard) {
        let told = self.lock().flows.remove(&flow).unwrap_or_default();
        for (_, sender) in told {
            // A client that has gone needs no answer.
            drop(sender.send(heard.clone()));
        }
    }

    /// Whether anyone waits for a flow.
    pub(crate) fn has(&self, flow: FlowId) -> bool {
        self.lock().flows.contains_key(&flow)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.pending.lock();
        if let Some(places) = waiting.flows.get_mut(&self.flow) {
            places.retain(|(number, _)| *number != self.number);
            if places.is_empty() {
                waiting.flows.remove(&self.flow);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use concert_wire::id::ActionId;

    use super::*;

    #[test]
    fn everyone_who_waits_for_a_flow_hears_the_first_answer_and_places_are_given_up() {
        let pending = Pending::default();
        let flow = ActionId::injected("S", 1, 1).as_root();
        let (mut one, mut two, gone) =
            (pending.wait_for(flow), pending.wait_for(flow), pending.wait_for(flow));
        drop(gone);
        let first = Heard::Answer(Object::new());
        pending.tell(flow, &first);
        pending.tell(flow, &Heard::DeadLetter);
        assert_eq!(one.heard.try_recv(), Ok(first.clone()));
        assert_eq!(two.heard.try_recv(), Ok(first));
        drop((one, two));
        assert!(!pending.has(flow));
        let last = pending.wait_for(flow);
        assert!(pending.has(flow));
        drop(last);
        assert!(!pending.has(flow));
    }
}
