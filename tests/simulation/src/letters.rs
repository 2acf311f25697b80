//! Dead letters, and the markers of isolated attempts.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use concert_engine::Invocation;
use concert_wire::id::ActionId;

#[derive(Default)]
pub(crate) struct Letters {
    pub(crate) stored: BTreeMap<ActionId, Rc<Invocation>>,
    /// The key-value bucket.
    pub(crate) notes: BTreeSet<ActionId>,
    /// Actions whose isolated attempt crashed, lost its message, or left a marker that could not be
    /// deleted.
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
