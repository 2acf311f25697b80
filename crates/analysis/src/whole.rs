//! The third stage checks the whole program: it explores every run of every path, and shows each
//! error with a run that causes it.
//!
//! A comment `// allow C0501: reason` above a rule suppresses the code for that rule, and for
//! findings about its path. The reason is required.

mod answers;
mod call_after_response;
mod cycles;
mod duplicate_rules;
mod places;
mod unreachable_rules;

use std::collections::BTreeSet;

use self::answers::Answers;
use self::places::Places;
use crate::explore::{RUNS_PER_PATH, Rules, Schedule, Scope, explore};
use concert_lang::diagnostics::{Diagnostic, TOO_MANY_RUNS};
use concert_lang::program::Program;
use concert_lang::syntax::SyncDef;

/// Results of all runs of a path.
struct Explored<'a> {
    scope: Scope<'a>,
    answers: Answers,
    /// Rules that made a call in some run.
    fired: BTreeSet<usize>,
    /// Actions that completed in some run, and whether they failed.
    ended: BTreeSet<(String, bool)>,
    /// `true` if every run was visited to its end.
    is_complete: bool,
    /// `true` if some run was cut.
    is_cut: bool,
}

/// Checks a program that has no errors in syntax, names and types.
pub(crate) fn judge(program: &Program, defs: &[SyncDef], diagnostics: &mut Vec<Diagnostic>) {
    let places = Places::new(program, defs);
    let rules = Rules::new(program);
    let mut cycles = cycles::Cycles::default();
    for path in rules.paths() {
        let mut explored = run(&rules, path, program, Schedule::FirstInFirstOut);
        explored.answers.judge(program, &explored.scope, &places, diagnostics);
        cycles.look(program, &explored.scope.rules, explored.is_cut);
        if !explored.is_complete {
            too_many(&explored, &places, diagnostics);
        } else if unreachable_rules::suspects(program, &explored).next().is_some() {
            // The rule may react to changes by other flows.
            let among_others = run(&rules, path, program, Schedule::AmongOthers);
            explored.fired.extend(among_others.fired);
            explored.ended.extend(among_others.ended);
            if among_others.is_complete {
                unreachable_rules::judge(program, &explored, &places, diagnostics);
            }
        }
    }
    cycles.look(program, rules.pathless(), false);
    cycles.judge(program, &places, diagnostics);
    call_after_response::judge(program, &places, diagnostics);
    duplicate_rules::judge(program, &places, diagnostics);
}

fn run<'a>(
    rules: &'a Rules<'a>,
    path: &str,
    program: &Program,
    schedule: Schedule,
) -> Explored<'a> {
    let scope = rules.scope(path, &program.routes);
    let mut answers = Answers::default();
    let (mut fired, mut ended, mut is_cut) = (BTreeSet::new(), BTreeSet::new(), false);
    let is_complete = explore(&scope, schedule, |mut run| {
        is_cut |= run.is_cut;
        fired.append(&mut run.fired);
        ended.append(&mut run.ended);
        answers.take(run);
    });
    Explored { scope, answers, fired, ended, is_complete, is_cut }
}

fn too_many(explored: &Explored<'_>, places: &Places<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let path = &explored.scope.path;
    if places.path_allows(path, TOO_MANY_RUNS) {
        return;
    }
    let message = if explored.is_cut {
        format!("some runs of `{path}` do not end, so they were checked only up to a limit")
    } else {
        format!(
            "`{path}` has more than {RUNS_PER_PATH} runs, or too long ones, so not all were checked"
        )
    };
    let help = "reported errors are correct, but there may be others";
    diagnostics.push(Diagnostic::warning(TOO_MANY_RUNS, places.path(path), message).help(help));
}

#[cfg(test)]
mod tests;
