//! The join of `when`: which completions of a flow match a rule's patterns together.

use concert_wire::envelope::{Completion, FAULT, Object};
use concert_wire::nested;
use concert_wire::value::equal;
use serde_json::Value;
use smallvec::{SmallVec, smallvec};

use crate::budget::{Budget, Exhausted, MATCH};
use crate::index::{Index, PatternRef};
use concert_lang::program::{Match, Outcome, Pattern, Test};

/// The variables of a rule during matching.
pub(crate) type Bindings<'a> = SmallVec<[Option<&'a Value>; 8]>;

/// The indexes of the completions that a rule's patterns match, in order.
pub(crate) type Causes = SmallVec<[usize; 4]>;

const NULL: &Value = &Value::Null;

/// The completions of a flow, by index.
pub(crate) trait Completions {
    /// The completion with this index.
    fn body(&self, number: usize) -> Option<&Completion>;
    /// The indexes of an action's completions before `newest`, in the order of the log.
    fn of_action(&self, at: PatternRef, index: &Index, newest: usize) -> &[usize];
}

/// All assignments of completions to the patterns of a rule in which pattern `at` matches the
/// completion `newest`. The other patterns match older completions, each a different one.
///
/// # Errors
/// The budget does not suffice.
pub(crate) fn assignments(
    flow: &impl Completions,
    index: &Index,
    at: PatternRef,
    newest: usize,
    budget: &mut Budget,
) -> Result<SmallVec<[Causes; 1]>, Exhausted> {
    let Some(sync) = index.syncs.get(at.sync) else {
        return Ok(SmallVec::new());
    };
    let mut bindings: Bindings = smallvec![None; sync.variables.len()];
    let (Some(pattern), Some(body)) = (sync.when.get(at.pattern), flow.body(newest)) else {
        return Ok(SmallVec::new());
    };
    if !bind(pattern, body, &mut bindings) {
        return Ok(SmallVec::new());
    }
    let mut join = Join {
        flow,
        index,
        at,
        newest,
        patterns: &sync.when,
        chosen: Causes::new(),
        found: SmallVec::new(),
        budget,
    };
    join.extend(&bindings)?;
    Ok(join.found)
}

struct Join<'a, F> {
    flow: &'a F,
    index: &'a Index,
    at: PatternRef,
    newest: usize,
    patterns: &'a [Pattern],
    chosen: Causes,
    found: SmallVec<[Causes; 1]>,
    budget: &'a mut Budget,
}

impl<'a, F: Completions> Join<'a, F> {
    /// Tries every completion for the next pattern.
    fn extend(&mut self, bindings: &Bindings<'a>) -> Result<(), Exhausted> {
        let position = self.chosen.len();
        let Some(pattern) = self.patterns.get(position) else {
            self.budget.spend(MATCH)?;
            self.found.push(self.chosen.clone());
            return Ok(());
        };
        if position == self.at.pattern {
            self.chosen.push(self.newest);
            self.extend(bindings)?;
            self.chosen.pop();
            return Ok(());
        }
        let flow = self.flow;
        let at = PatternRef { pattern: position, ..self.at };
        for &number in flow.of_action(at, self.index, self.newest) {
            self.budget.spend(1)?;
            let Some(body) = flow.body(number) else { continue };
            let mut extended = bindings.clone();
            if !self.chosen.contains(&number) && bind(pattern, body, &mut extended) {
                self.chosen.push(number);
                self.extend(&extended)?;
                self.chosen.pop();
            }
        }
        Ok(())
    }
}

/// Matches one pattern with one completion and binds its variables.
pub(crate) fn bind<'a>(
    pattern: &Pattern,
    body: &'a Completion,
    bindings: &mut Bindings<'a>,
) -> bool {
    let outcome = if body.is_failure() { Outcome::Failure } else { Outcome::Success };
    // A fault is not a refusal, so only a pattern with the key `fault` matches it.
    let is_refusal = || {
        !body.output.contains_key(FAULT)
            || pattern.output.iter().any(|demand| &*demand.key == FAULT)
    };
    pattern.outcome == outcome
        && (outcome == Outcome::Success || is_refusal())
        && pattern.input.iter().all(|demand| holds(demand, &body.input, bindings))
        && pattern.output.iter().all(|demand| holds(demand, &body.output, bindings))
}

/// Matches one key of an object, and binds its variable.
pub(crate) fn holds<'a>(demand: &Match, object: &'a Object, bindings: &mut Bindings<'a>) -> bool {
    let value = match nested::get(object, &demand.key) {
        Some(value) => value,
        None if demand.keeps_absence => return true,
        None if demand.optional => NULL,
        None => return false,
    };
    match &demand.test {
        Test::Literal(literal) => equal(literal, value),
        Test::Variable(slot) => match bindings.get_mut(*slot) {
            Some(Some(bound)) => equal(bound, value),
            Some(free) => {
                *free = Some(value);
                true
            }
            None => false,
        },
    }
}
