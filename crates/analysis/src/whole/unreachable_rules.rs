//! Rules that never fire.
//!
//! Only rules with a literal request path are checked, because an injected action may start any
//! other rule.

use super::Explored;
use super::places::Places;
use crate::explore::{ends, name};
use concert_lang::diagnostics::{Diagnostic, NEVER_FIRES};
use concert_lang::program::{Outcome, Program, Sync};

/// Rules of a path that fired in no run.
pub(super) fn suspects<'a>(
    program: &'a Program,
    explored: &'a Explored<'_>,
) -> impl Iterator<Item = (usize, &'a Sync)> {
    let rules = program.syncs.iter().map(|sync| &**sync).enumerate();
    rules.filter(|(rule, sync)| {
        sync.path() == Some(&explored.scope.path)
            && !explored.fired.contains(rule)
            && !matches_undeclared_failure(program, sync)
    })
}

pub(super) fn judge(
    program: &Program,
    explored: &Explored<'_>,
    places: &Places<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let path = explored.scope.path.as_str();
    for (rule, sync) in suspects(program, explored) {
        if places.allows(rule, NEVER_FIRES) {
            continue;
        }
        let missing = sync.when.iter().enumerate().find(|(_, pattern)| {
            let failed = pattern.outcome == Outcome::Failure;
            let action = name(&pattern.concept, &pattern.action);
            &*pattern.action != concert_wire::REQUEST && !explored.ended.contains(&(action, failed))
        });
        let message = format!("`{}` never fires", sync.name);
        diagnostics.push(match missing {
            Some((number, pattern)) => {
                let action = name(&pattern.concept, &pattern.action);
                let label = if explored.ended.iter().any(|(ended, _)| *ended == action) {
                    format!("this never {} after a request to `{path}`", ends(pattern.outcome))
                } else {
                    format!("no rule calls this after a request to `{path}`")
                };
                Diagnostic::warning(NEVER_FIRES, places.pattern(rule, number), message).label(label)
            }
            None => {
                let label = "no run reaches its calls";
                Diagnostic::warning(NEVER_FIRES, places.name(rule), message).label(label)
            }
        });
    }
}

/// Returns whether a rule matches a failure that the spec does not declare. Such a rule gets a
/// separate warning.
fn matches_undeclared_failure(program: &Program, sync: &Sync) -> bool {
    sync.when.iter().any(|pattern| {
        let concept = program.concepts.iter().find(|spec| spec.name == pattern.concept);
        let mut actions = concept.into_iter().flat_map(|spec| &spec.actions);
        let can_fail = actions.any(|action| action.name == pattern.action && action.can_fail);
        pattern.outcome == Outcome::Failure && !can_fail
    })
}
