//! The compiled form of rules and specs, which the engine runs.
//!
//! Names are resolved, variables are numbered slots, and source locations are gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use concert_wire::routes::RouteTable;
use concert_wire::{REQUEST, REQUESTING};
use serde_json::Value;

pub use crate::expr::Slot;

use crate::expr::Expr;
use crate::spec::ConceptSpec;

/// A checked set of rules with the specs that they were checked against.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    /// Digest of the sources; the version of the rules.
    pub version: String,
    /// The rules, ordered by name; the order has no meaning.
    pub syncs: Vec<Arc<Sync>>,
    /// The specs, ordered by name.
    pub concepts: Vec<ConceptSpec>,
    /// The route table for the edge.
    pub routes: RouteTable,
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Sync {
    /// Name, unique over all files.
    pub name: Arc<str>,
    /// Names of the variables, by slot.
    pub variables: Vec<Arc<str>>,
    /// The patterns; each matches a different completion.
    pub when: Vec<Pattern>,
    /// The steps of `where`, in order.
    pub steps: Vec<Step>,
    /// Calls of the steps' `else`; a step refers to its call by index.
    pub elses: Vec<Call>,
    /// Variables that `then` and `else (error)` use. Frames that are equal in these are merged.
    pub kept: Vec<Slot>,
    /// The calls, in order.
    pub then: Vec<Call>,
    /// `else (error)`: the calls after a failed call of `then`.
    pub otherwise: Option<ElseBranch>,
}

/// One step of `where`, which maps a list of frames to another.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Runs a query in each frame.
    Query {
        /// Effect of the rows on the frame.
        join: Join,
        /// The query.
        query: Query,
        /// Call for a frame without a result, as an index into [`Sync::elses`].
        otherwise: Option<usize>,
    },
    /// Binds a value.
    Let(Slot, Expr),
    /// Makes one frame per element of a list; none if the list is empty or the value is not a list.
    Each(Slot, Expr),
    /// Keeps the frame if the condition is `true`.
    Filter {
        /// The condition.
        condition: Expr,
        /// Call for a frame that is not kept, as an index into [`Sync::elses`].
        otherwise: Option<usize>,
    },
    /// Runs `body` on each frame and binds the list of the collected values.
    Collect {
        /// The steps from the first one that binds a collected variable to the `collect` itself.
        body: Vec<Step>,
        /// Values that are collected from each frame.
        gathered: Gathered,
        /// Variable for the list.
        into: Slot,
    },
}

impl Step {
    /// Calls `visit` with every expression that the step itself evaluates.
    pub fn expressions(&self, visit: &mut impl FnMut(&Expr)) {
        match self {
            Self::Query { query, .. } => query.args.iter().for_each(|arg| visit(&arg.value)),
            Self::Let(_, value) | Self::Each(_, value) => visit(value),
            Self::Filter { condition, .. } => visit(condition),
            Self::Collect { .. } => {}
        }
    }
}

/// Effect of a query's rows on a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// One frame per matching row.
    Rows,
    /// One frame per matching row; without one, the frame is kept with null outputs.
    Optional,
    /// Keeps the frame if a row matches.
    Some,
    /// Keeps the frame if no row matches.
    No,
}

/// A query in `where`.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// The concept's name.
    pub concept: Arc<str>,
    /// The query's name, beginning with `_`.
    pub name: Arc<str>,
    /// The input, in the order written.
    pub args: Vec<Arg>,
    /// Keys of a row that it matches and binds.
    pub output: Vec<Match>,
}

/// Values that `collect` collects from each frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Gathered {
    /// Values of a variable.
    Values(Slot),
    /// Records: keys and variables, in the order written.
    Records(Vec<(Arc<str>, Slot)>),
}

impl Sync {
    /// Returns whether the rule runs a query, so that its firings are recorded in the log.
    pub fn asks(&self) -> bool {
        !queries(&self.steps).is_empty()
    }

    /// The literal path of the request in its patterns. `None` if it has no request pattern, or one
    /// without a literal path.
    pub fn path(&self) -> Option<&str> {
        self.when.iter().find_map(Pattern::path)
    }

    /// The concepts that it calls or queries; some occur several times.
    pub fn concepts(&self) -> impl Iterator<Item = &Arc<str>> {
        let called = self.calls().map(|call| &call.concept);
        called.chain(queries(&self.steps).into_iter().map(|query| &query.concept))
    }

    /// All calls: of the steps' `else`, of `then` and of `else (error)`.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        let otherwise = self.otherwise.iter().flat_map(|otherwise| &otherwise.calls);
        self.elses.iter().chain(&self.then).chain(otherwise)
    }
}

/// Calls `visit` with every step in order, including the steps inside `collect`.
pub fn walk<'a>(steps: &'a [Step], visit: &mut impl FnMut(&'a Step)) {
    for step in steps {
        visit(step);
        if let Step::Collect { body, .. } = step {
            walk(body, visit);
        }
    }
}

/// The queries of the steps in order, including those inside `collect`.
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
pub struct ElseBranch {
    /// Keys of the failed output, with their variables.
    pub outs: Vec<Out>,
    /// The calls, in order.
    pub calls: Vec<Call>,
}

/// One pattern of `when`.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    /// The concept's name.
    pub concept: Arc<str>,
    /// The action's name.
    pub action: Arc<str>,
    /// Outcome of the completions that it matches.
    pub outcome: Outcome,
    /// Demands on the input.
    pub input: Vec<Match>,
    /// Demands on the output.
    pub output: Vec<Match>,
}

impl Pattern {
    /// Returns whether the pattern matches a request.
    pub fn is_request(&self) -> bool {
        &*self.concept == REQUESTING && &*self.action == REQUEST
    }

    /// The literal path, if it matches a request with one.
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

/// Demand of a pattern on one key.
#[derive(Debug, Clone, PartialEq)]
pub struct Match {
    /// The parameter.
    pub key: Arc<str>,
    /// `name?`: an absent key matches too and counts as null.
    pub optional: bool,
    /// `true` if an absent key leaves its variable unbound. Then a call can omit the argument for
    /// an absent key, but pass on a null that the client sent. All other uses see null.
    pub keeps_absence: bool,
    /// Test of the value.
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

/// Test of the value of a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// Binds the variable; if it is bound, the value must equal it.
    Variable(Slot),
    /// The value must equal this one.
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
    /// Outputs that a success binds for later calls.
    pub outs: Vec<Out>,
}

/// One argument of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Arg {
    /// The parameter.
    pub key: Arc<str>,
    /// `true` if the argument is left out when its value is null: it is written `name?`, or the
    /// parameter is optional and does not accept null. See `passes_null` for the exception.
    pub omit_null: bool,
    /// `true` if the parameter is declared to accept null. Then a variable that is null is passed
    /// on, and only an absent key leaves the argument out. A null that an expression computes
    /// leaves it out, too.
    pub passes_null: bool,
    /// The value.
    pub value: Expr,
}

impl Arg {
    /// The variable that is left out if it is unbound, and passed on if it is null.
    pub const fn absent_slot(&self) -> Option<Slot> {
        match self.value {
            Expr::Variable(slot) if self.omit_null && self.passes_null => Some(slot),
            _ => None,
        }
    }
}

/// An output that is bound to a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Out {
    /// The output's key.
    pub key: Arc<str>,
    /// The variable.
    pub slot: Slot,
}
