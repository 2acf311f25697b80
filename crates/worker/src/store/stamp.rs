//! Stamps, and how long they are kept.

use std::time::Duration;

use concert_wire::id::ActionId;
use mongodb::bson::{Bson, DateTime};

/// How much longer a stamp is kept than the log: a flow of a repeatable request can be older than
/// the log by a day, and an hour covers clocks.
const STAMP_MARGIN: Duration = Duration::from_secs(25 * 3600);

/// How long stamps and deleted documents are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retention(Duration);

impl Retention {
    /// Follows from the maximum age of a completion in the log.
    pub(crate) fn of_log(max_age: Duration) -> Self {
        Self(max_age + STAMP_MARGIN)
    }

    pub(super) fn length(self) -> Duration {
        self.0
    }

    /// The time after which something that ends at `from` can be removed.
    pub(super) fn until(self, from: DateTime) -> DateTime {
        from.saturating_add_duration(self.0)
    }
}

/// An action's id as it is stored.
pub fn stamp(action: ActionId) -> Bson {
    Bson::String(action.to_string())
}
