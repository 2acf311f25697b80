//! The compiled form of rules and specs: what the engine runs and what the router derives the route table from.
//!
//! Names are resolved, variables are numbered slots, and nothing here knows about text or positions.

use std::sync::Arc;

use concert_wire::routes::RouteTable;
use serde_json::Value;

use crate::expr::Expr;
use crate::spec::ConceptSpec;

/// A checked set of rules with the specs they were checked against.
#[derive(Debug, Clone)]
pub struct Program {
    /// A digest of the sources; it names this version of the rules.
    pub version: String,
    /// The rules, in the order of their names (order has no meaning).
    pub syncs: Vec<Arc<Sync>>,
    /// The specs, in the order of their names.
    pub concepts: Vec<ConceptSpec>,
    /// What the edge must know.
    pub routes: RouteTable,
}

/// The number of a variable within its rule: an index into a frame.
pub type Slot = usize;

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Sync {
    /// Unique over all files.
    pub name: Arc<str>,
    /// The names of the variables, by slot.
    pub variables: Vec<Arc<str>>,
    /// The patterns; each takes a completion of its own.
    pub when: Vec<Pattern>,
    /// The calls, one after another.
    pub then: Vec<Call>,
    /// `else (error)`: what follows when a call of `then` failed.
    pub otherwise: Option<Otherwise>,
}

/// `else (outs)` and its calls.
#[derive(Debug, Clone, PartialEq)]
pub struct Otherwise {
    /// Which keys of the failed output are bound to which variables.
    pub outs: Vec<Out>,
    /// The calls, one after another.
    pub calls: Vec<Call>,
}

/// One pattern of `when`.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    /// The concept's name.
    pub concept: Arc<str>,
    /// The action's name.
    pub action: Arc<str>,
    /// Which completions it can match at all.
    pub outcome: Outcome,
    /// What it demands of the input.
    pub input: Vec<Match>,
    /// What it demands of the output.
    pub output: Vec<Match>,
}

/// The two kinds of completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The output has no key `error`.
    Success,
    /// The output has the key `error`.
    Failure,
}

/// What a pattern demands of one key.
#[derive(Debug, Clone, PartialEq)]
pub struct Match {
    /// The parameter.
    pub key: Arc<str>,
    /// `name?`: an absent key matches too and counts as null.
    pub optional: bool,
    /// What the value must be.
    pub test: Test,
}

/// What the value of a key must be.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// Binds the variable, or must equal it when it is bound already.
    Variable(Slot),
    /// Must equal this value.
    Literal(Value),
}

/// One call of `then` or `else`.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The concept's name.
    pub concept: Arc<str>,
    /// The action's name.
    pub action: Arc<str>,
    /// The input, in the order written.
    pub args: Vec<Arg>,
    /// What a success binds for the later calls.
    pub outs: Vec<Out>,
}

/// One argument of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Arg {
    /// The parameter.
    pub key: Arc<str>,
    /// `name?`: left out when the value is null.
    pub omit_null: bool,
    /// The value.
    pub value: Expr,
}

/// An output that is bound to a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Out {
    /// The output's key.
    pub key: Arc<str>,
    /// The variable.
    pub slot: Slot,
}
