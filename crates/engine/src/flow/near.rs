//! How far a rule matched in a flow, and the first part that did not match.

use concert_wire::envelope::{Completion, ERROR, FAULT, Object};
use concert_wire::id::ActionId;
use concert_wire::nested;
use concert_wire::value::equal;
use serde_json::Value;
use smallvec::smallvec;

use super::Flow;
use super::trace::Folded;
use crate::budget::Budget;
use crate::frames::{self, Answers};
use crate::matching::{self, Bindings};
use concert_lang::program::{Match, Outcome, Pattern, Step, Sync, Test};

/// Maximum number of partial matches to search for the longest one.
const WAYS: usize = 512;

/// The first part of a rule that did not match.
#[derive(Debug, Clone, PartialEq)]
pub struct Stopped {
    /// The actions that the patterns before it matched, in order.
    pub matched: Vec<ActionId>,
    /// The part.
    pub at: StoppedAt,
}

/// The part at which a rule stopped.
#[derive(Debug, Clone, PartialEq)]
pub enum StoppedAt {
    /// A pattern of `when`.
    Pattern {
        /// Index of the pattern in `when`.
        pattern: usize,
        /// The completion of this action that came nearest, if there is one.
        action: Option<ActionId>,
        /// The reason.
        why: Mismatch,
    },
    /// A step of `where` left no frame; index from 0.
    Step(usize),
    /// Every pattern matched, and the queries gave no result, or none so far.
    Asked,
    /// The flow had been stopped before.
    Halted,
}

/// Reason why a completion does not match a pattern.
#[derive(Debug, Clone, PartialEq)]
pub enum Mismatch {
    /// The action has no completion.
    NotHappened,
    /// The pattern needs a success, and the action failed with this error.
    Failed(String),
    /// The pattern needs a failure, and the action succeeded.
    Succeeded,
    /// The action failed with a fault, and the pattern does not match faults.
    Fault(String),
    /// A key is missing.
    Missing(String),
    /// A key differs from the literal in the rule.
    Literal {
        /// The key.
        key: String,
        /// The literal of the rule.
        expected: Value,
    },
    /// A key differs from the value that the variable is bound to.
    Variable {
        /// The key.
        key: String,
        /// The variable.
        variable: String,
    },
    /// Another pattern of the rule matched it.
    Taken,
}

impl Mismatch {
    /// The key in question.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Missing(key) | Self::Literal { key, .. } | Self::Variable { key, .. } => {
                Some(key)
            }
            Self::Failed(_) | Self::Succeeded => Some(ERROR),
            Self::Fault(_) => Some(FAULT),
            Self::NotHappened | Self::Taken => None,
        }
    }
}

impl Folded {
    /// How far a rule matched; assumes that it did not fire.
    pub(crate) fn stopped(&self, sync: &Sync) -> Stopped {
        let flow = self.flow();
        let mut search =
            Search { flow, sync, chosen: Vec::new(), ways: WAYS, furthest: None, complete: None };
        search.extend(&smallvec![None; sync.variables.len()]);
        let Search { furthest, complete, .. } = search;
        if let Some(chosen) = complete {
            let at = if sync.asks() {
                StoppedAt::Asked
            } else {
                first_empty_step(flow, sync, &chosen).map_or(StoppedAt::Halted, StoppedAt::Step)
            };
            let matched = flow.ids(&chosen).collect();
            return Stopped { matched, at };
        }
        let (chosen, action, why) = furthest.unwrap_or((Vec::new(), None, Mismatch::NotHappened));
        Stopped {
            matched: flow.ids(&chosen).collect(),
            at: StoppedAt::Pattern { pattern: chosen.len(), action, why },
        }
    }
}

struct Search<'a> {
    flow: &'a Flow,
    sync: &'a Sync,
    chosen: Vec<usize>,
    ways: usize,
    furthest: Option<(Vec<usize>, Option<ActionId>, Mismatch)>,
    complete: Option<Vec<usize>>,
}

impl<'a> Search<'a> {
    fn extend(&mut self, bindings: &Bindings<'a>) {
        let Some(pattern) = self.sync.when.get(self.chosen.len()) else {
            self.complete.get_or_insert_with(|| self.chosen.clone());
            return;
        };
        let mut nearest: Option<(Option<ActionId>, Mismatch)> = None;
        let flow = self.flow;
        for number in flow.of_name(&pattern.concept, &pattern.action) {
            let Some(entry) = flow.log.get(number) else { continue };
            if self.ways == 0 || self.complete.is_some() {
                return;
            }
            self.ways -= 1;
            let mut extended = bindings.clone();
            let mismatch = if self.chosen.contains(&number) {
                Some(Mismatch::Taken)
            } else if matching::bind(pattern, &entry.body, &mut extended) {
                None
            } else {
                mismatch(pattern, self.sync, &entry.body, bindings)
            };
            match mismatch {
                None => {
                    self.chosen.push(number);
                    self.extend(&extended);
                    self.chosen.pop();
                }
                Some(why) => {
                    // The latest completion is the most informative, unless another pattern matched
                    // it.
                    if nearest.is_none() || why != Mismatch::Taken {
                        nearest = Some((Some(entry.id), why));
                    }
                }
            }
        }
        let is_further = |(known, ..): &(Vec<usize>, _, _)| known.len() < self.chosen.len();
        if self.furthest.as_ref().is_none_or(is_further) {
            let (action, why) = nearest.unwrap_or((None, Mismatch::NotHappened));
            self.furthest = Some((self.chosen.clone(), action, why));
        }
    }
}

impl Flow {
    fn of_name(&self, concept: &str, action: &str) -> Vec<usize> {
        let key = self.rules.key(concept, action);
        key.map_or(Vec::new(), |key| self.of_key(key).to_vec())
    }
}

/// The first reason why a completion does not match; `None` if it matches.
fn mismatch(
    pattern: &Pattern,
    sync: &Sync,
    body: &Completion,
    bindings: &Bindings<'_>,
) -> Option<Mismatch> {
    let error = || body.output.get(ERROR).and_then(Value::as_str).unwrap_or_default();
    // The kind of request is more informative than its outcome.
    if let Some(why) = demands(&pattern.input, &body.input, sync, bindings) {
        return Some(why);
    }
    match (pattern.outcome, body.is_failure()) {
        (Outcome::Success, true) => return Some(Mismatch::Failed(error().to_owned())),
        (Outcome::Failure, false) => return Some(Mismatch::Succeeded),
        (Outcome::Success, false) | (Outcome::Failure, true) => {}
    }
    let asks_for_faults = pattern.output.iter().any(|demand| &*demand.key == FAULT);
    if body.output.contains_key(FAULT) && !asks_for_faults {
        return Some(Mismatch::Fault(error().to_owned()));
    }
    demands(&pattern.output, &body.output, sync, bindings)
}

fn demands(
    demands: &[Match],
    object: &Object,
    sync: &Sync,
    bindings: &Bindings<'_>,
) -> Option<Mismatch> {
    demands.iter().find_map(|demand| {
        let key = demand.key.to_string();
        let Some(value) = nested::get(object, &demand.key) else {
            return (!demand.optional).then_some(Mismatch::Missing(key));
        };
        match &demand.test {
            Test::Literal(expected) if !equal(expected, value) => {
                Some(Mismatch::Literal { key, expected: expected.clone() })
            }
            Test::Literal(_) => None,
            Test::Variable(slot) => {
                let bound = bindings.get(*slot).copied().flatten()?;
                let variable = sync.variables.get(*slot).map(ToString::to_string);
                (!equal(bound, value))
                    .then(|| Mismatch::Variable { key, variable: variable.unwrap_or_default() })
            }
        }
    })
}

/// The first step of a rule without queries that leaves no frame of a match.
fn first_empty_step(flow: &Flow, sync: &Sync, causes: &[usize]) -> Option<usize> {
    (1..=sync.steps.len()).find_map(|count| {
        let steps: Vec<Step> = sync.steps.iter().take(count).cloned().collect();
        let some = Sync { steps, ..sync.clone() };
        let ended = frames::run(
            &some,
            flow.matched(sync, causes),
            &Answers::default(),
            usize::MAX,
            &mut Budget::new(usize::MAX),
        );
        ended.is_ok_and(|ended| ended.is_empty()).then_some(count - 1)
    })
}
