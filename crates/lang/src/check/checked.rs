//! Result of the check of one rule.

use std::sync::Arc;

use concert_wire::routes::ValueType;

use super::uses::Use;
use super::variables::Variables;
use crate::program::{Slot, Sync};
use crate::source::Span;

/// A rule with what the whole program must know of it.
pub(crate) struct Checked {
    pub(crate) sync: Sync,
    pub(crate) variables: Variables,
    pub(crate) uses: Vec<Use>,
    /// The requests that the rule waits for, by literal path.
    pub(crate) requests: Vec<RequestPattern>,
}

/// A pattern of a request with a literal path.
pub(crate) struct RequestPattern {
    pub(crate) path: String,
    /// Whether the rule waits for nothing else.
    pub(crate) is_root: bool,
    pub(crate) keys: Vec<RequestKey>,
}

/// A key of a request that a rule names.
pub(crate) struct RequestKey {
    pub(crate) name: Arc<str>,
    pub(crate) optional: bool,
    pub(crate) bound: KeyBound,
    pub(crate) span: Span,
}

/// What a rule demands of a key of a request.
pub(crate) enum KeyBound {
    /// It goes where this variable goes.
    Variable(Slot),
    /// It must be equal to a literal of this type.
    Literal(ValueType),
}
