//! Checks names, types, bindings and secrets, and compiles the syntax tree of a rule.

mod calls;
pub(crate) mod checked;
mod expressions;
pub(crate) mod headers;
mod patterns;
mod rule;
mod steps;
pub(crate) mod types;
pub(crate) mod uses;
pub(crate) mod variables;

use std::collections::HashMap;

use self::checked::Checked;
use self::rule::Rule;
use self::steps::Steps;
use self::variables::Variables;
use crate::diagnostics::{Diagnostic, REPEATED_RULE};
use crate::program::{Arg, Slot, Sync, queries, used};
use crate::source::Span;
use crate::spec::ConceptSpec;
use crate::syntax::SyncDef;

/// Checks all rules of all files.
pub(crate) fn check(
    concepts: &[ConceptSpec],
    syncs: &[SyncDef],
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Checked> {
    let mut names: HashMap<&str, Span> = HashMap::new();
    for sync in syncs {
        if let Some(first) = names.get(sync.name.text.as_str()) {
            let message = format!("duplicate rule name `{}`", sync.name.text);
            diagnostics.push(
                Diagnostic::error(REPEATED_RULE, sync.name.span, message)
                    .related(*first, "the first rule"),
            );
        } else {
            names.insert(&sync.name.text, sync.name.span);
        }
    }
    syncs
        .iter()
        .map(|sync| {
            let rule =
                Rule { concepts, diagnostics, variables: Variables::default(), uses: Vec::new() };
            rule.check(sync)
        })
        .collect()
}

/// Marks the optional keys whose absence some call distinguishes from null. A variable that is
/// bound twice is compared, so it needs a value.
fn keep_absence(sync: &mut Sync, variables: &Variables) {
    let of_queries = queries(&sync.steps).into_iter().flat_map(|query| &query.args);
    let args = sync.calls().flat_map(|call| &call.args).chain(of_queries);
    let kept: Vec<Slot> = args.filter_map(Arg::absent_slot).collect();
    let is_kept = |slot: Slot| {
        kept.contains(&slot) && variables.get(slot).is_some_and(|found| found.places.len() == 1)
    };
    for demand in sync.when.iter_mut().flat_map(|pattern| &mut pattern.input) {
        demand.keeps_absence = demand.optional && demand.slot().is_some_and(is_kept);
    }
}

impl Rule<'_> {
    fn check(mut self, def: &SyncDef) -> Checked {
        let mut requests = Vec::new();
        let mut when = Vec::new();
        for pattern in &def.when {
            if let Some((compiled, request)) = self.pattern(pattern, def.when.len() == 1) {
                when.push(compiled);
                requests.extend(request);
            }
        }
        let Steps { steps, elses } = self.steps(&def.steps);
        let bound_before_then = self.variables.count();
        let then: Vec<_> = def.then.iter().filter_map(|call| self.call(call)).collect();
        let otherwise =
            def.otherwise.as_ref().map(|otherwise| self.otherwise(otherwise, bound_before_then));
        self.warn_of_unused(def);
        let follows = otherwise.iter().flat_map(|otherwise| &otherwise.calls);
        let mut kept = used(then.iter().chain(follows));
        kept.retain(|slot| *slot < bound_before_then);
        let mut sync = Sync {
            name: def.name.text.as_str().into(),
            variables: self.variables.names(),
            when,
            steps,
            elses,
            kept,
            then,
            otherwise,
        };
        keep_absence(&mut sync, &self.variables);
        Checked { sync, variables: self.variables, uses: self.uses, requests }
    }
}
