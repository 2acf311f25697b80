//! The log, and the consumer that the routers share.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use concert_engine::Logged;
use concert_wire::id::{ActionId, FlowId};
use concert_wire::is_response;

use crate::packet::Draft;

/// An unacknowledged delivery.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due {
    /// The time of its redelivery.
    pub(crate) at: u64,
}

/// Every message; `None` is one that is not a completion. The first has sequence 1.
#[derive(Default)]
pub(crate) struct Log {
    messages: Vec<Option<Rc<Logged>>>,
    by_id: BTreeMap<ActionId, Rc<Logged>>,
    by_flow: BTreeMap<FlowId, Vec<Rc<Logged>>>,
    /// Consumer state: the unacknowledged deliveries.
    pub(crate) due: BTreeMap<u64, Due>,
    /// Consumer state: the highest delivered sequence.
    pub(crate) delivered: u64,
    pub(crate) acknowledged: BTreeSet<u64>,
    /// Dead-lettered messages that are not completions.
    pub(crate) dead: BTreeSet<u64>,
}

impl Log {
    pub(crate) fn last(&self) -> u64 {
        self.messages.len() as u64
    }

    pub(crate) fn find(&self, id: ActionId) -> Option<&Rc<Logged>> {
        self.by_id.get(&id)
    }

    pub(crate) fn at(&self, seq: u64) -> Option<Rc<Logged>> {
        let number = usize::try_from(seq).ok()?.checked_sub(1)?;
        self.messages.get(number).cloned().flatten()
    }

    pub(crate) fn completions(&self) -> impl DoubleEndedIterator<Item = &Rc<Logged>> {
        self.messages.iter().flatten()
    }

    /// Stores a completion on its subject, which must be free; `None` if it is not.
    pub(crate) fn append(&mut self, draft: &Draft, twice: bool) -> Option<Rc<Logged>> {
        if self.by_id.contains_key(&draft.id) && !twice {
            return None;
        }
        let logged = Rc::new(Logged {
            seq: self.last() + 1,
            flow: draft.flow,
            concept: draft.concept.clone(),
            action: draft.action.clone(),
            id: draft.id,
            body: draft.body.clone(),
            bytes: 100,
            context: draft.context.clone(),
        });
        self.messages.push(Some(logged.clone()));
        self.by_id.entry(logged.id).or_insert_with(|| logged.clone());
        self.by_flow.entry(logged.flow).or_default().push(logged.clone());
        Some(logged)
    }

    /// Stores a message that is not a completion.
    pub(crate) fn append_rubbish(&mut self) -> u64 {
        self.messages.push(None);
        self.last()
    }

    pub(crate) fn flow(&self, flow: FlowId) -> &[Rc<Logged>] {
        self.by_flow.get(&flow).map(Vec::as_slice).unwrap_or_default()
    }

    /// The response to a flow's request: the first successful respond.
    pub(crate) fn answer(&self, flow: FlowId) -> Option<&Rc<Logged>> {
        self.flow(flow).iter().find(|logged| is_answer(logged))
    }
}

/// Returns whether this completion is a response to its flow's request.
pub(crate) fn is_answer(logged: &Logged) -> bool {
    is_response(&logged.concept, &logged.action) && !logged.body.is_failure()
}
