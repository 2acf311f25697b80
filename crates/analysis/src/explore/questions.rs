//! Rewrites rules for exploration: each decision of an expression becomes a query to the explorer,
//! which can answer it both ways. The engine is unchanged.
//!
//! `pages > 300` becomes the step `Concert._judge (…) : (is)` before the condition, which then
//! reads `is`. In the same way, `each` queries the elements of its list, and `let` the result of
//! arithmetic. A query also receives the values that its rows are compared with, and each call its
//! site in the rule. These keys begin with `#`, which a rule cannot write.

use std::sync::Arc;

use concert_wire::RESERVED_CONCEPT;
use serde_json::Value;

use super::text::Shown;
use concert_lang::expr::{Expr, Operator};
use concert_lang::program::{
    Arg, Call, ElseBranch, Gathered, Join, Match, Query, Slot, Step, Sync, Test, walk,
};

/// Query: whether a comparison holds.
pub(super) const JUDGE: &str = "_judge";
/// Query: elements of a list.
pub(super) const ELEMENTS: &str = "_elements";
/// Query: result of arithmetic.
pub(super) const VALUE: &str = "_value";
/// Key: number of the question, an index into the list that [`rewrite`] extends.
pub(super) const NUMBER: &str = "#";
/// Keys: left operand, and the values that it was computed from.
pub(super) const LEFT: (&str, &str) = ("#l", "#lo");
/// Keys: right operand, and the values that it was computed from.
pub(super) const RIGHT: (&str, &str) = ("#r", "#ro");
/// Key: site of a call.
pub(super) const SITE: &str = "#site";
/// Key: values that the keys of a row are compared with.
pub(super) const JOINED: &str = "#joined";
/// Key: the answer affects only the body of a response.
pub(super) const QUIET: &str = "#quiet";

/// Position of a call in its rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Site {
    /// In `then`.
    Then(usize),
    /// In `else (error)`.
    ElseBranch(usize),
    /// The `else` of a step.
    Else(usize),
}

impl Site {
    fn encode(self) -> Value {
        let (kind, number) = match self {
            Self::Then(number) => (0, number),
            Self::ElseBranch(number) => (1, number),
            Self::Else(number) => (2, number),
        };
        Value::from(number * 3 + kind)
    }

    pub(super) fn decode(value: &Value) -> Option<Self> {
        let code = usize::try_from(value.as_u64()?).ok()?;
        let number = code / 3;
        Some(match code % 3 {
            0 => Self::Then(number),
            1 => Self::ElseBranch(number),
            _ => Self::Else(number),
        })
    }

    /// All calls of a rule with their sites.
    pub(crate) fn all(sync: &Sync) -> impl Iterator<Item = (Self, &Call)> {
        let (elses, then) = (sync.elses.len(), sync.then.len());
        sync.calls().enumerate().map(move |(number, call)| {
            let site = match number {
                number if number < elses => Self::Else(number),
                number if number < elses + then => Self::Then(number - elses),
                number => Self::ElseBranch(number - elses - then),
            };
            (site, call)
        })
    }

    /// The call at this site.
    pub(crate) fn call(self, sync: &Sync) -> Option<&Call> {
        match self {
            Self::Then(number) => sync.then.get(number),
            Self::ElseBranch(number) => sync.otherwise.as_ref()?.calls.get(number),
            Self::Else(number) => sync.elses.get(number),
        }
    }
}

/// A question that exists only during exploration. Its constant parts are stored here to keep the
/// query itself small.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) operator: &'static str,
    pub(super) left: Given,
    pub(super) right: Given,
    /// Source text.
    pub(super) text: String,
    pub(super) rule: usize,
    /// Number of the step, in source order.
    pub(super) step: usize,
    pub(super) is_quiet: bool,
}

/// Origin of an operand.
#[derive(Debug)]
pub(super) enum Given {
    /// A literal in the rule.
    Literal(Value),
    /// A variable.
    Variable,
    /// Computed from other values.
    Made,
}

/// Rewrites a rule; appends its questions to `asked`.
pub(super) fn rewrite(number: usize, sync: &Sync, asked: &mut Vec<Asked>) -> Sync {
    let matches = sync.when.iter().flat_map(|pattern| pattern.input.iter().chain(&pattern.output));
    let mut rewriter = Rewriter {
        rule: number,
        sync,
        variables: sync.variables.clone(),
        bound: matches.filter_map(Match::slot).collect(),
        step: 0,
        asked,
    };
    let steps = rewriter.steps(&sync.steps, false);
    let calls = |calls: &[Call], site: fn(usize) -> Site| -> Vec<Call> {
        let calls = calls.iter().enumerate();
        calls.map(|(number, call)| placed(call, site(number))).collect()
    };
    Sync {
        variables: rewriter.variables,
        steps,
        elses: calls(&sync.elses, Site::Else),
        then: calls(&sync.then, Site::Then),
        otherwise: sync.otherwise.as_ref().map(|otherwise| ElseBranch {
            outs: otherwise.outs.clone(),
            calls: calls(&otherwise.calls, Site::ElseBranch),
        }),
        ..sync.clone()
    }
}

fn placed(call: &Call, site: Site) -> Call {
    let mut call = call.clone();
    call.args.push(arg(SITE, Expr::Literal(site.encode())));
    call
}

fn arg(key: &str, value: Expr) -> Arg {
    Arg { key: key.into(), omit_null: false, passes_null: false, value }
}

fn text(text: impl Into<Value>) -> Expr {
    Expr::Literal(text.into())
}

struct Rewriter<'a> {
    rule: usize,
    sync: &'a Sync,
    variables: Vec<Arc<str>>,
    bound: Vec<Slot>,
    step: usize,
    asked: &'a mut Vec<Asked>,
}

impl Rewriter<'_> {
    fn steps(&mut self, steps: &[Step], is_quiet: bool) -> Vec<Step> {
        let mut rewritten = Vec::new();
        for step in steps {
            self.one(step, is_quiet, &mut rewritten);
            self.step += 1;
        }
        rewritten
    }

    fn one(&mut self, step: &Step, is_quiet: bool, before: &mut Vec<Step>) {
        match step {
            Step::Query { join, query, otherwise } => {
                let mut query = query.clone();
                for argument in &mut query.args {
                    argument.value = self.value(&argument.value, is_quiet, before);
                }
                let joined: Vec<(String, Expr)> = query
                    .output
                    .iter()
                    .filter_map(|demand| {
                        let value = match &demand.test {
                            Test::Literal(value) => Expr::Literal(value.clone()),
                            Test::Variable(slot) if self.bound.contains(slot) => {
                                Expr::Variable(*slot)
                            }
                            Test::Variable(_) => return None,
                        };
                        Some((demand.key.to_string(), value))
                    })
                    .collect();
                if !joined.is_empty() {
                    query.args.push(arg(JOINED, Expr::Object(joined)));
                }
                if is_quiet {
                    query.args.push(arg(QUIET, text(true)));
                }
                self.bound.extend(query.output.iter().filter_map(Match::slot));
                before.push(Step::Query { join: *join, query, otherwise: *otherwise });
            }
            Step::Let(slot, value) => {
                let rewritten = self.value(value, is_quiet, before);
                self.bound.push(*slot);
                if computes(value) {
                    let step = self.question(
                        VALUE,
                        "",
                        [Some((value, rewritten)), None],
                        value,
                        is_quiet,
                        *slot,
                    );
                    before.push(step);
                } else {
                    before.push(Step::Let(*slot, rewritten));
                }
            }
            Step::Each(slot, list) => {
                let rewritten = self.value(list, is_quiet, before);
                self.bound.push(*slot);
                let step = self.question(
                    ELEMENTS,
                    "",
                    [Some((list, rewritten)), None],
                    list,
                    is_quiet,
                    *slot,
                );
                before.push(step);
            }
            Step::Filter { condition, otherwise } => {
                let condition = self.condition(condition, is_quiet, before);
                before.push(Step::Filter { condition, otherwise: *otherwise });
            }
            Step::Collect { body, gathered, into } => {
                let is_quiet = is_quiet || !decides(&self.sync.steps, *into);
                let body = self.steps(body, is_quiet);
                self.bound.push(*into);
                before.push(Step::Collect { body, gathered: gathered.clone(), into: *into });
            }
        }
    }

    /// Rewrites an expression of which only the truth value matters.
    fn condition(&mut self, expr: &Expr, is_quiet: bool, before: &mut Vec<Step>) -> Expr {
        match expr {
            Expr::Literal(_) => expr.clone(),
            Expr::Not(value) => Expr::Not(Box::new(self.condition(value, is_quiet, before))),
            Expr::Binary(left, operator @ (Operator::And | Operator::Or), right) => Expr::Binary(
                Box::new(self.condition(left, is_quiet, before)),
                *operator,
                Box::new(self.condition(right, is_quiet, before)),
            ),
            Expr::Binary(left, operator, right) if compares(*operator) => {
                self.atom(expr, *operator, left, right, is_quiet, before)
            }
            other => self.atom(expr, Operator::Equal, other, &text(true), is_quiet, before),
        }
    }

    fn value(&mut self, expr: &Expr, is_quiet: bool, before: &mut Vec<Step>) -> Expr {
        match expr {
            Expr::Variable(_) | Expr::Literal(_) => expr.clone(),
            Expr::List(items) => {
                Expr::List(items.iter().map(|item| self.value(item, is_quiet, before)).collect())
            }
            Expr::Object(members) => {
                let members = members.iter();
                Expr::Object(
                    members
                        .map(|(key, value)| (key.clone(), self.value(value, is_quiet, before)))
                        .collect(),
                )
            }
            Expr::Field(value, field) => {
                Expr::Field(Box::new(self.value(value, is_quiet, before)), field.clone())
            }
            Expr::Binary(left, operator, right)
                if !compares(*operator) && !matches!(operator, Operator::And | Operator::Or) =>
            {
                Expr::Binary(
                    Box::new(self.value(left, is_quiet, before)),
                    *operator,
                    Box::new(self.value(right, is_quiet, before)),
                )
            }
            Expr::Not(_) | Expr::Binary(..) => self.condition(expr, is_quiet, before),
        }
    }

    fn atom(
        &mut self,
        whole: &Expr,
        operator: Operator,
        left: &Expr,
        right: &Expr,
        is_quiet: bool,
        before: &mut Vec<Step>,
    ) -> Expr {
        let operands = [left, right].map(|side| Some((side, self.value(side, is_quiet, before))));
        let slot = self.variables.len();
        self.variables.push(format!("#{slot}").into());
        let operator = super::text::operator(operator);
        let step = self.question(JUDGE, operator, operands, whole, is_quiet, slot);
        before.push(step);
        Expr::Variable(slot)
    }

    fn question(
        &mut self,
        name: &str,
        operator: &'static str,
        operands: [Option<(&Expr, Expr)>; 2],
        shown: &Expr,
        is_quiet: bool,
        into: Slot,
    ) -> Step {
        let mut args = vec![arg(NUMBER, text(self.asked.len()))];
        let mut give = |operand: Option<(&Expr, Expr)>, (value, of): (&str, &str)| match operand {
            None => Given::Literal(Value::Null),
            Some((_, Expr::Literal(literal))) => Given::Literal(literal),
            Some((_, variable @ Expr::Variable(_))) => {
                args.push(arg(value, variable));
                Given::Variable
            }
            Some((written, made)) => {
                args.push(arg(value, made));
                args.push(arg(of, leaves(written)));
                Given::Made
            }
        };
        let [left, right] = operands;
        let (left, right) = (give(left, LEFT), give(right, RIGHT));
        self.asked.push(Asked {
            operator,
            left,
            right,
            text: Shown(shown, &self.sync.variables).to_string(),
            rule: self.rule,
            step: self.step,
            is_quiet,
        });
        Step::Query {
            join: Join::Rows,
            query: Query {
                concept: RESERVED_CONCEPT.into(),
                name: name.into(),
                args,
                output: vec![Match {
                    key: "is".into(),
                    optional: false,
                    keeps_absence: false,
                    test: Test::Variable(into),
                }],
            },
            otherwise: None,
        }
    }
}

const fn compares(operator: Operator) -> bool {
    use Operator::{Equal, Greater, GreaterOrEqual, In, Less, LessOrEqual, Unequal};
    matches!(operator, Equal | Unequal | Less | LessOrEqual | Greater | GreaterOrEqual | In)
}

/// Returns whether an expression does arithmetic.
fn computes(expr: &Expr) -> bool {
    match expr {
        Expr::Binary(left, operator, right) => match operator {
            Operator::Add | Operator::Subtract | Operator::Multiply | Operator::Divide => true,
            Operator::Default => computes(left) || computes(right),
            _ => false,
        },
        _ => false,
    }
}

/// The values that an expression depends on.
fn leaves(expr: &Expr) -> Expr {
    let mut slots = Vec::new();
    expr.variables(&mut |slot| {
        if !slots.contains(&slot) {
            slots.push(slot);
        }
    });
    Expr::List(slots.into_iter().map(Expr::Variable).collect())
}

/// Returns whether any step reads a variable, so that the number of frames may depend on it.
fn decides(steps: &[Step], slot: Slot) -> bool {
    let reads = |expr: &Expr| {
        let mut found = false;
        expr.variables(&mut |used| found |= used == slot);
        found
    };
    let mut decides = false;
    walk(steps, &mut |step| {
        step.expressions(&mut |expr| decides |= reads(expr));
        decides |= match step {
            Step::Query { query, .. } => query.output.iter().any(|out| out.slot() == Some(slot)),
            Step::Collect { gathered: Gathered::Values(gathered), .. } => *gathered == slot,
            Step::Collect { gathered: Gathered::Records(fields), .. } => {
                fields.iter().any(|(_, gathered)| *gathered == slot)
            }
            Step::Let(..) | Step::Each(..) | Step::Filter { .. } => false,
        };
    });
    decides
}
