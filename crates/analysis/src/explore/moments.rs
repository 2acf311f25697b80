//! What happens in a run, moment by moment.

use serde_json::Value;

use super::questions::Site;

/// What a request has under a key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Told {
    /// Some value.
    Something,
    /// A value that some rule waits for.
    This(Value),
    /// A value that no rule waits for.
    Other,
    /// Nothing.
    Absent,
}

/// One thing that happens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Moment {
    /// The request has this key.
    Key { name: String, told: Told },
    /// A rule calls an action.
    Calls { rule: usize, site: Site },
    /// An action ends.
    Ends { action: String, failed: bool, told: Option<String> },
    /// An action is called with a value that a rule waits for (the same as elsewhere where there is
    /// none), or with another.
    Has { action: String, key: String, value: Option<Value>, has: bool },
    /// A query has so many rows.
    Finds { query: String, rows: usize },
    /// A key of a row is what it is compared with, or another.
    Fits { query: String, key: String, fits: bool },
    /// A key of a row is true, or false.
    Says { query: String, key: String, value: bool },
    /// A comparison holds, or does not; `which` element of a list it is.
    Holds { rule: usize, step: usize, text: String, holds: bool, which: Option<Value> },
    /// A list has so many elements.
    Lists { rule: usize, step: usize, text: String, count: usize },
}
