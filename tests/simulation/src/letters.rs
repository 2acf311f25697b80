//! Dead letters, and the notes of last attempts.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use concert_engine::Invocation;
use concert_wire::id::ActionId;

#[derive(Default)]
pub(crate) struct Letters {
    pub(crate) stored: BTreeMap<ActionId, Rc<Invocation>>,
    /// The bucket.
    pub(crate) notes: BTreeSet<ActionId>,
    /// The actions whose last attempt ended with its process, lost its message, or left a note that
    /// it could not take back.
    pub(crate) suspects: BTreeSet<ActionId>,
}

impl Letters {
    pub(crate) fn suspect(&mut self, id: ActionId) {
        self.suspects.insert(id);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.stored.is_empty()
    }
}
