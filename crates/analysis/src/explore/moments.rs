//! Events of a run.

use serde_json::Value;

use super::questions::Site;

/// Value of a request key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum KeyValue {
    /// Any value.
    Something,
    /// A value that some rule matches.
    This(Value),
    /// A value that no rule matches.
    Other,
    /// The key is absent.
    Absent,
}

/// One event of a run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Moment {
    /// The request has this key.
    Key { name: String, value: KeyValue },
    /// A rule calls an action.
    Calls { rule: usize, site: Site },
    /// An action completes.
    Ends { action: String, failed: bool, detail: Option<String> },
    /// An action is called with a value that a rule matches, or with another one. `value` is `None`
    /// if the rule compares it with a symbolic value.
    Has { action: String, key: String, value: Option<Value>, has: bool },
    /// A query returns this many rows.
    Finds { query: String, rows: usize },
    /// A key of a row equals the value that it is compared with, or not.
    Fits { query: String, key: String, fits: bool },
    /// A key of a row is true or false.
    Says { query: String, key: String, value: bool },
    /// A comparison holds or not; `which` is the list element that is equal.
    Holds { rule: usize, step: usize, text: String, holds: bool, which: Option<Value> },
    /// A list has this many elements.
    Lists { rule: usize, step: usize, text: String, count: usize },
}
