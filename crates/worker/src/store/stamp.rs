//! Stamps and their retention.

use std::time::Duration;

use concert_wire::id::ActionId;
use mongodb::bson::{Bson, DateTime};

/// Additional retention of a stamp, compared with the log: a flow of a repeatable request can be a
/// day older than the log, and an hour covers clock differences.
const STAMP_MARGIN: Duration = Duration::from_secs(25 * 3600);

/// Retention of stamps and deleted documents.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retention(Duration);

impl Retention {
    /// Derived from the maximum age of a completion in the log.
    pub(crate) fn of_log(max_age: Duration) -> Self {
        Self(max_age + STAMP_MARGIN)
    }

    pub(super) fn length(self) -> Duration {
        self.0
    }

    /// The time at which the log has lost an action of `from`.
    pub(super) fn until_log_lost(self, from: DateTime) -> DateTime {
        from.saturating_add_duration(self.0.saturating_sub(STAMP_MARGIN))
    }

    /// The time at which something that ends at `from` can be removed.
    pub(super) fn until(self, from: DateTime) -> DateTime {
        from.saturating_add_duration(self.0)
    }
}

/// The stored form of an action's id.
pub fn stamp(action: ActionId) -> Bson {
    Bson::String(action.to_string())
}
