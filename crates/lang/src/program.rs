//! The compiled form of rules and specs: what the engine runs and what the router derives the route
//! table from.
//!
//! Names are resolved, variables are numbered slots, and nothing here knows about text or
//! positions.

use std::collections::BTreeSet;
use std::sync::Arc;

use concert_wire::routes::RouteTable;
use concert_wire::{REQUEST, REQUESTING};
use serde_json::Value;

pub use crate::expr::Slot;

use crate::expr::Expr;
use crate::spec::ConceptSpec;

/// A checked set of rules with the specs they were checked against.
#[derive(Debug, Clone, PartialEq)]
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

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Sync {
    /// Unique over all files.
    pub name: Arc<str>,
    /// The names of the variables, by slot.
    pub variables: Vec<Arc<str>>,
    /// The patterns; each takes a completion of its own.
    pub when: Vec<Pattern>,
    /// The steps of `where`, from top to bottom.
    pub steps: Vec<Step>,
    /// The calls of the steps' `else`, which steps name by their number here.
    pub elses: Vec<Call>,
    /// The variables of a frame that `then` and `else (error)` use: frames that are equal in them
    /// are one.
    pub kept: Vec<Slot>,
    /// The calls, one after another.
    pub then: Vec<Call>,
    /// `else (error)`: what follows when a call of `then` failed.
    pub otherwise: Option<Otherwise>,
}

/// One step of `where`: from a list of frames to another.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Asks a query in each frame.
    Query {
        /// What is made of the rows.
        join: Join,
        /// What is asked.
        query: Query,
        /// The call for a frame that the step leaves nothing of, as a number in [`Sync::elses`].
        otherwise: Option<usize>,
    },
    /// Binds a value.
    Let(Slot, Expr),
    /// A frame per element of a list; none for an empty one, and for what is no list.
    Each(Slot, Expr),
    /// Only `true` passes.
    Filter {
        /// The condition.
        condition: Expr,
        /// The call for a frame that does not pass, as a number in [`Sync::elses`].
        otherwise: Option<usize>,
    },
    /// Runs `body` on each frame, and keeps the frame with the list of what its body's frames hold.
    Collect {
        /// From the first step that binds one of the collected variables to the `collect` itself.
        body: Vec<Step>,
        /// What is gathered of each frame.
        gathered: Gathered,
        /// The variable that is bound to the list.
        into: Slot,
    },
}

impl Step {
    /// Calls `visit` with every expression that the step evaluates itself.
    pub fn expressions(&self, visit: &mut impl FnMut(&Expr)) {
        match self {
            Self::Query { query, .. } => query.args.iter().for_each(|arg| visit(&arg.value)),
            Self::Let(_, value) | Self::Each(_, value) => visit(value),
            Self::Filter { condition, .. } => visit(condition),
            Self::Collect { .. } => {}
        }
    }
}

/// What a query's rows do to a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// A frame per row that fits.
    Rows,
    /// A frame per row that fits; without one, the frame stays and the outputs are null.
    Optional,
    /// The frame stays if a row fits.
    Some,
    /// The frame stays if no row fits.
    No,
}

/// A query as it is asked in `where`.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// The concept's name.
    pub concept: Arc<str>,
    /// The query's name, beginning with `_`.
    pub name: Arc<str>,
    /// The input, in the order written.
    pub args: Vec<Arg>,
    /// What it demands of a row, and binds.
    pub output: Vec<Match>,
}

/// What `collect` gathers of each frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Gathered {
    /// The values of a variable.
    Values(Slot),
    /// Records: keys and the variables whose values they take, in the order written.
    Records(Vec<(Arc<str>, Slot)>),
}

impl Sync {
    /// Whether it asks a query, so that its firings are written down.
    pub fn asks(&self) -> bool {
        !queries(&self.steps).is_empty()
    }

    /// The literal path of the request that it waits for. Without one it waits for no request, or
    /// for any.
    pub fn path(&self) -> Option<&str> {
        self.when.iter().find_map(Pattern::path)
    }

    /// Every call: those of the steps' `else`, of `then`, and of `else (error)`.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        let otherwise = self.otherwise.iter().flat_map(|otherwise| &otherwise.calls);
        self.elses.iter().chain(&self.then).chain(otherwise)
    }
}

/// Calls `visit` with every step, and with those that a `collect` runs; from top to bottom.
pub fn walk<'a>(steps: &'a [Step], visit: &mut impl FnMut(&'a Step)) {
    for step in steps {
        visit(step);
        if let Step::Collect { body, .. } = step {
            walk(body, visit);
        }
    }
}

/// The queries that steps ask, also those of a `collect`, from top to bottom.
pub fn queries(steps: &[Step]) -> Vec<&Query> {
    let mut found = Vec::new();
    walk(steps, &mut |step| {
        if let Step::Query { query, .. } = step {
            found.push(query);
        }
    });
    found
}

/// The variables that calls use, in ascending order.
pub fn used<'a>(calls: impl IntoIterator<Item = &'a Call>) -> Vec<Slot> {
    let mut used = BTreeSet::new();
    for arg in calls.into_iter().flat_map(|call| &call.args) {
        arg.value.variables(&mut |slot| {
            used.insert(slot);
        });
    }
    used.into_iter().collect()
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

impl Pattern {
    /// Whether it waits for a request.
    pub fn is_request(&self) -> bool {
        &*self.concept == REQUESTING && &*self.action == REQUEST
    }

    /// The literal path, if it waits for a request of one.
    pub fn path(&self) -> Option<&str> {
        let mut input = self.input.iter().filter(|_| self.is_request());
        input.find_map(|demand| match &demand.test {
            Test::Literal(Value::String(path)) if &*demand.key == "path" => Some(path.as_str()),
            _ => None,
        })
    }
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

impl Match {
    /// The variable that the value is bound to or compared with.
    pub const fn slot(&self) -> Option<Slot> {
        match self.test {
            Test::Variable(slot) => Some(slot),
            Test::Literal(_) => None,
        }
    }
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
