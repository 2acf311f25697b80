//! Result of the check of one rule.

use std::sync::Arc;

use concert_wire::routes::ValueType;

use super::uses::Use;
use super::variables::Variables;
use crate::program::{Slot, Sync};
use crate::source::Span;

/// A compiled rule with the data that checks across rules need.
pub(crate) struct Checked {
    pub(crate) sync: Sync,
    pub(crate) variables: Variables,
    pub(crate) uses: Vec<Use>,
    /// The request patterns with a literal path.
    pub(crate) requests: Vec<RequestPattern>,
}

/// A pattern of a request with a literal path.
pub(crate) struct RequestPattern {
    pub(crate) path: String,
    /// Location of the path.
    pub(crate) span: Span,
    /// `true` if this is the only pattern of the rule.
    pub(crate) is_root: bool,
    pub(crate) keys: Vec<RequestKey>,
}

/// A request key that a rule names.
pub(crate) struct RequestKey {
    pub(crate) name: Arc<str>,
    pub(crate) optional: bool,
    pub(crate) bound: KeyBound,
    pub(crate) span: Span,
}

/// Use of a request key in a rule.
pub(crate) enum KeyBound {
    /// The value is bound to this variable.
    Variable(Slot),
    /// The value must equal a literal of this type.
    Literal(ValueType),
}
