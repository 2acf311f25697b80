//! The third stage: the whole program. Every path is run in every way, and what is wrong is told
//! with the run that shows it.
//!
//! What is found may be meant so: `// allow C0501: why` in the comment above a rule of the path, or
//! above the rule, silences a code there, and wants a reason.

mod answers;
mod cycles;
mod late;
mod never;
mod places;
mod twins;

use std::collections::BTreeSet;

use self::answers::Answers;
use self::places::Places;
use crate::explore::{RUNS_PER_PATH, Rules, Schedule, Scope, explore};
use concert_lang::diagnostics::{Diagnostic, TOO_MANY_RUNS};
use concert_lang::program::Program;
use concert_lang::syntax::SyncDef;

/// What all runs of a path came to.
struct Explored<'a> {
    scope: Scope<'a>,
    answers: Answers,
    /// The rules that called something in some run.
    fired: BTreeSet<usize>,
    /// The actions that ended in some run, and whether they failed.
    ended: BTreeSet<(String, bool)>,
    /// Whether every run was made, to its end.
    is_complete: bool,
    /// Whether some run did not come to its end.
    is_cut: bool,
}

/// Judges the rules of a program whose syntax, names and types are right.
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
        } else if never::suspects(program, &explored).next().is_some() {
            // A rule may be there for what other flows do meanwhile.
            let among_others = run(&rules, path, program, Schedule::AmongOthers);
            explored.fired.extend(among_others.fired);
            explored.ended.extend(among_others.ended);
            if among_others.is_complete {
                never::judge(program, &explored, &places, diagnostics);
            }
        }
    }
    cycles.look(program, rules.pathless(), false);
    cycles.judge(program, &places, diagnostics);
    late::judge(program, &places, diagnostics);
    twins::judge(program, &places, diagnostics);
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
        format!("some runs of `{path}` do not come to an end, so they were not looked at to theirs")
    } else {
        format!(
            "`{path}` has more than {RUNS_PER_PATH} runs, or too long ones, and not all were looked at"
        )
    };
    let help = "what was found is right, but that nothing else was found proves nothing";
    diagnostics.push(Diagnostic::warning(TOO_MANY_RUNS, places.path(path), message).help(help));
}

#[cfg(test)]
mod tests;
