//! Checks the steps of `where` and finds the steps that each `collect` covers.

use concert_wire::routes::ValueType;

use super::expressions::{can_be, not_null};
use super::rule::Rule;
use super::uses::{Use, Where};
use super::variables::Origin;
use crate::diagnostics::{COLLECT, Diagnostic, MISPLACED_ELSE, UNKNOWN_QUERY, WRONG_TYPE};
use crate::names::is_query;
use crate::program::{Call, Gathered, Join, Match, Query, Slot, Step, Test};
use crate::source::Span;
use crate::spec::{Params, QuerySpec, Rows};
use crate::syntax::{CallDef, ExprDef, Ident, PatDef, PatValue, QueryDef, StepDef, StepKind};

/// The compiled steps, and the calls of their `else`.
#[derive(Default)]
pub(super) struct Steps {
    pub(super) steps: Vec<Step>,
    pub(super) elses: Vec<Call>,
}

/// A compiled step with the data that later steps need.
struct Compiled {
    /// `None` if an error in it was reported; then the program is not run.
    step: Option<Step>,
    /// Variables that the step binds.
    binds: Vec<Slot>,
    /// `true` if one frame can become several.
    multiplies: bool,
    /// Location of its `else`.
    otherwise: Option<Span>,
    /// Variables that are not null after it.
    not_null: Vec<Slot>,
}

impl Rule<'_> {
    /// Checks the steps in order. After an error, the remaining steps are still checked.
    pub(super) fn steps(&mut self, defs: &[StepDef]) -> Steps {
        let mut compiled: Vec<Compiled> = Vec::new();
        let mut elses = Vec::new();
        for def in defs {
            let mut next = self.step(def, &mut compiled);
            if let Some(call) = &def.otherwise {
                self.step_else(call, &mut next, &compiled, &mut elses);
            }
            compiled.push(next);
            // Conditions inside a `collect` no longer hold after it.
            let not_null: Vec<Slot> =
                compiled.iter().flat_map(|step| &step.not_null).copied().collect();
            self.variables.set_not_null(&not_null);
        }
        Steps { steps: compiled.into_iter().filter_map(|step| step.step).collect(), elses }
    }

    fn step(&mut self, def: &StepDef, before: &mut Vec<Compiled>) -> Compiled {
        match &def.kind {
            StepKind::Query(query) => self.query(Join::Rows, query),
            StepKind::Optional(query) => self.query(Join::Optional, query),
            StepKind::Some(query) => self.query(Join::Some, query),
            StepKind::No(query) => self.query(Join::No, query),
            StepKind::Let(name, value) => {
                let kind = self.type_of_expr(value);
                let compiled = self.expr(value, &Where::Within("bound to another name"));
                let slot = self.variables.bind_new(name, kind, Origin::Step, self.diagnostics);
                one(compiled.map(|value| Step::Let(slot, value)), vec![slot])
            }
            StepKind::Each(name, list) => self.each(name, list),
            StepKind::CollectValues(name, into) => {
                let slot = self.collected(name);
                let kind = slot.and_then(|slot| self.kind_of(slot));
                let gathered = slot.map(Gathered::Values);
                self.collect(gathered, slot.into_iter().collect(), kind, into, def.span, before)
            }
            StepKind::CollectRecords(records, into) => {
                let fields: Vec<_> = records
                    .iter()
                    .map(|(key, name)| Some((key.text.as_str().into(), self.collected(name)?)))
                    .collect();
                let slots = fields.iter().flatten().map(|(_, slot)| *slot).collect();
                let gathered = fields.into_iter().collect::<Option<_>>().map(Gathered::Records);
                self.collect(gathered, slots, None, into, def.span, before)
            }
            StepKind::Filter(condition) => {
                if !can_be(condition, &ValueType::Boolean, false) {
                    let message = "this condition is never true";
                    self.diagnostics.push(Diagnostic::error(WRONG_TYPE, condition.span, message));
                }
                let before = self.uses.len();
                let compiled = self.expr(condition, &Where::Param(Some(ValueType::Boolean)));
                // Null is not true.
                self.uses.iter_mut().skip(before).for_each(|used| used.handles_null = true);
                let mut names = Vec::new();
                not_null(condition, &mut names);
                let filter = |condition| Step::Filter { condition, otherwise: None };
                Compiled {
                    not_null: names.iter().filter_map(|name| self.variables.find(name)).collect(),
                    ..one(compiled.map(filter), vec![])
                }
            }
        }
    }

    fn each(&mut self, name: &Ident, list: &ExprDef) -> Compiled {
        let kind = self.type_of_expr(list);
        let element = match kind.as_ref().map(ValueType::without_null) {
            Some(ValueType::Seq(of) | ValueType::Set(of)) if **of != ValueType::Any => {
                Some((**of).clone())
            }
            None | Some(ValueType::Any | ValueType::Seq(_) | ValueType::Set(_)) => None,
            Some(other) => {
                let message = format!("`each` needs a list, but this is {}", other.describe());
                self.diagnostics.push(Diagnostic::error(WRONG_TYPE, list.span, message));
                None
            }
        };
        let place = match kind {
            // An undeclared value must be a list here.
            None => Where::Param(Some(ValueType::Seq(Box::new(ValueType::Any)))),
            Some(_) => Where::Param(None),
        };
        let compiled = self.expr(list, &place);
        let slot = self.variables.bind_new(name, element, Origin::Step, self.diagnostics);
        Compiled {
            multiplies: true,
            ..one(compiled.map(|list| Step::Each(slot, list)), vec![slot])
        }
    }

    fn query(&mut self, join: Join, def: &QueryDef) -> Compiled {
        let spec = self.query_spec(&def.concept, &def.query);
        let target = super::calls::Target {
            name: format!("{}.{}", def.concept.text, def.query.text),
            is_answer: false,
            has_body: false,
        };
        let span = def.concept.span.to(def.query.span);
        let args = self.args(&def.args, spec.as_ref().map(|spec| &spec.input), &target, span);
        let before = self.variables.count();
        let anything = Params { params: vec![], open: true };
        let row = spec.as_ref().map_or(&anything, |spec| &spec.output);
        let output: Vec<Match> =
            def.output.iter().map(|pat| self.row_demand(join, pat, row, &def.query)).collect();
        let binds = match join {
            Join::Rows | Join::Optional => (before..self.variables.count()).collect(),
            Join::Some | Join::No => {
                let help = "`some` and `no` only check for a row and bind no variables";
                self.variables.hide_from(before, help);
                vec![]
            }
        };
        let many = spec.as_ref().is_some_and(|spec| spec.rows == Rows::Any);
        let query = Query {
            concept: def.concept.text.as_str().into(),
            name: def.query.text.as_str().into(),
            args,
            output,
        };
        let step = spec.map(|_| Step::Query { join, query, otherwise: None });
        Compiled {
            multiplies: many && matches!(join, Join::Rows | Join::Optional),
            ..one(step, binds)
        }
    }

    fn row_demand(&mut self, join: Join, pat: &PatDef, row: &Params, query: &Ident) -> Match {
        let kind = self.declared(pat, row, query, true);
        match &pat.value {
            // An output of `optional` may be null, so it must be a new variable.
            PatValue::Variable(name)
                if join == Join::Optional && self.variables.is_known(&name.text) =>
            {
                Match {
                    key: pat.param.text.as_str().into(),
                    optional: pat.optional,
                    keeps_absence: false,
                    test: Test::Variable(self.variables.bind_new(
                        name,
                        kind,
                        Origin::Step,
                        self.diagnostics,
                    )),
                }
            }
            _ => self.demand(pat, kind, Origin::Step),
        }
    }

    fn query_spec(&mut self, concept: &Ident, query: &Ident) -> Option<QuerySpec> {
        let spec = self.concept(concept)?;
        if !is_query(&query.text) {
            // The parser has reported it.
            return None;
        }
        let found = spec.queries.iter().find(|spec| *spec.name == *query.text);
        if found.is_none() {
            let message = format!("the concept `{}` has no query `{}`", concept.text, query.text);
            let diagnostic = Diagnostic::error(UNKNOWN_QUERY, query.span, message);
            self.diagnostics
                .push(diagnostic.suggest(&query.text, spec.queries.iter().map(|spec| &*spec.name)));
        }
        found.cloned()
    }

    /// Looks up a variable that `collect` names.
    fn collected(&mut self, name: &Ident) -> Option<Slot> {
        let slot = self.variables.used(&name.text, name.span, self.diagnostics)?;
        let place = Where::Within("put in a list");
        self.uses.push(Use { slot, place, span: name.span, handles_null: true });
        Some(slot)
    }

    /// Compiles `collect`. It covers all steps from the first one that binds a collected variable;
    /// variables bound by those steps go out of scope.
    fn collect(
        &mut self,
        gathered: Option<Gathered>,
        slots: Vec<Slot>,
        kind: Option<ValueType>,
        into: &Ident,
        span: Span,
        before: &mut Vec<Compiled>,
    ) -> Compiled {
        let reach =
            before.iter().position(|step| step.binds.iter().any(|slot| slots.contains(slot)));
        let known = gathered.is_some();
        let list = ValueType::Seq(Box::new(kind.unwrap_or(ValueType::Any)));
        let Some(reach) = reach else {
            if known {
                let message = "`collect` needs a variable bound by an earlier `where` step";
                let help = "name a variable that a step above `collect` binds";
                self.diagnostics.push(Diagnostic::error(COLLECT, span, message).help(help));
            }
            let slot = self.variables.bind_new(into, Some(list), Origin::Step, self.diagnostics);
            return one(None, vec![slot]);
        };
        let body: Vec<Compiled> = before.drain(reach..).collect();
        for otherwise in body.iter().filter_map(|step| step.otherwise) {
            let message = "`else` not allowed here: the step is inside `collect`";
            let diagnostic = Diagnostic::error(MISPLACED_ELSE, otherwise, message);
            self.diagnostics.push(diagnostic.related(span, "the `collect`"));
        }
        let help = "`collect` replaces the variables of the steps that it covers with one list";
        for slot in body.iter().flat_map(|step| &step.binds) {
            self.variables.hide(*slot, help);
        }
        let slot = self.variables.bind_new(into, Some(list), Origin::Step, self.diagnostics);
        let body: Option<Vec<Step>> = body.into_iter().map(|step| step.step).collect();
        let step =
            body.zip(gathered).map(|(body, gathered)| Step::Collect { body, gathered, into: slot });
        one(step, vec![slot])
    }

    fn step_else(
        &mut self,
        def: &CallDef,
        next: &mut Compiled,
        before: &[Compiled],
        elses: &mut Vec<Call>,
    ) {
        if before.iter().any(|step| step.multiplies) {
            let message = "`else` not allowed here: a step above can produce several frames";
            let help = "use `collect` above this step, or query with `some` or `no`";
            self.diagnostics.push(Diagnostic::error(MISPLACED_ELSE, def.span, message).help(help));
        }
        // The `else` runs for a frame without a result, where the variables of the step are
        // unbound.
        let shown: Vec<Slot> = next.binds.clone();
        let help =
            "the `else` of a step runs if the step has no result, so its variables have no value";
        for slot in &shown {
            self.variables.hide(*slot, help);
        }
        let before_call = self.variables.count();
        let call = self.call(def);
        let help = "nothing follows the `else` of a step, so outputs of its call cannot be used";
        self.variables.hide_from(before_call, help);
        for slot in shown {
            self.variables.show(slot);
        }
        next.otherwise = Some(def.span);
        match (call, &mut next.step) {
            (None, step) => *step = None,
            (Some(call), Some(Step::Query { otherwise, .. } | Step::Filter { otherwise, .. })) => {
                *otherwise = Some(elses.len());
                elses.push(call);
            }
            // The parser has reported the misplaced `else`.
            (Some(_), _) => {}
        }
    }
}

fn one(step: Option<Step>, binds: Vec<Slot>) -> Compiled {
    Compiled { step, binds, multiplies: false, otherwise: None, not_null: vec![] }
}
