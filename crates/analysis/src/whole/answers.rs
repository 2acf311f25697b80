//! Checks that every run responds to the request exactly once.

use std::collections::BTreeMap;

use super::places::Places;
use crate::explore::{KeyValue, Moment, Run, Scope, Site, story};
use concert_lang::diagnostics::{ANSWERED_TWICE, Diagnostic, UNANSWERED};
use concert_lang::program::Program;
use concert_lang::source::Span;

/// Maximum number of reported runs per path and kind.
const MOST: usize = 16;

type Place = (usize, Site);

/// Runs of a path that show an error. Of runs with the same error, the one with the fewest
/// deviations is kept; see [`Run::deviations`].
#[derive(Default)]
pub(super) struct Answers {
    has_answer: bool,
    unanswered: Vec<Run>,
    twice: BTreeMap<(Place, Place), Run>,
}

/// Returns whether all deviations of `a` are also in `b`.
fn is_within(a: &Run, b: &Run) -> bool {
    a.deviations.iter().all(|moment| b.deviations.contains(moment))
}

impl Answers {
    pub(super) fn take(&mut self, run: Run) {
        self.has_answer |= !run.answers.is_empty();
        match *run.answers.as_slice() {
            // A run that was cut might have got a response later.
            [] if !run.is_cut => {
                if self.unanswered.iter().any(|other| is_within(other, &run)) {
                    return;
                }
                self.unanswered.retain(|other| !is_within(&run, other));
                if self.unanswered.len() < MOST {
                    self.unanswered.push(run);
                }
            }
            [first, second, ..] => {
                let pair = if first <= second { (first, second) } else { (second, first) };
                let shown = self.twice.get(&pair);
                if shown.is_none_or(|other| run.deviations.len() < other.deviations.len()) {
                    self.twice.insert(pair, run);
                }
            }
            _ => {}
        }
    }

    pub(super) fn judge(
        &self,
        program: &Program,
        scope: &Scope<'_>,
        places: &Places<'_>,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let allows = |kind| places.path_allows(&scope.path, kind);
        for run in self.unanswered.iter().filter(|_| !allows(UNANSWERED)) {
            let mut steps = story(program, &scope.path, &run.moments);
            steps.push("no rule responds".to_owned());
            let message = if self.has_answer {
                format!("`{}` may not get a response", scope.path)
            } else {
                format!("`{}` never gets a response", scope.path)
            };
            let (span, label, help) = blame(run, scope, places);
            let diagnostic = Diagnostic::error(UNANSWERED, span, message).label(label);
            diagnostics.push(diagnostic.story(steps).help(help));
        }
        for run in self.twice.values().take(MOST).filter(|_| !allows(ANSWERED_TWICE)) {
            let [first, second, ..] = *run.answers.as_slice() else {
                continue;
            };
            let message = format!("`{}` may get two responses", scope.path);
            let span = places.call(second.0, second.1);
            let diagnostic = Diagnostic::error(ANSWERED_TWICE, span, message);
            let diagnostic = diagnostic.story(story(program, &scope.path, &run.moments));
            diagnostics.push(if first == second {
                let help = "this call runs once per row or element; use `collect` to respond once";
                diagnostic.label("this call runs twice").help(help)
            } else {
                let help = "make the `when` or `where` of the rules mutually exclusive, \
                            or respond in only one of them";
                let related = places.call(first.0, first.1);
                diagnostic
                    .label("this is also a response")
                    .related(related, "the other response")
                    .help(help)
            });
        }
    }
}

/// Location of the problem, a label and a hint.
fn blame(run: &Run, scope: &Scope<'_>, places: &Places<'_>) -> (Span, String, String) {
    let at_query = |query: &str| {
        let rules = run.fired.iter().chain(&scope.rules);
        let asked = places.query(rules.copied(), query);
        asked.unwrap_or_else(|| places.path(&scope.path))
    };
    let after = |what: &str| {
        format!(
            "add `else Requesting.respond (request, …)` after the {what}, or a rule for this case"
        )
    };
    match run.deviations.last() {
        Some(Moment::Ends { action, failed, .. }) => {
            let calls = run.moments.iter().filter_map(|moment| match moment {
                Moment::Calls { rule, site } => Some((*rule, *site)),
                _ => None,
            });
            let mut called = calls.filter(|(rule, site)| scope.calls(*rule, *site, action));
            let called = called.next_back();
            let span = called
                .map_or_else(|| places.path(&scope.path), |(rule, site)| places.call(rule, site));
            if *failed {
                let help = format!(
                    "add a rule for `{action} () : (error)`, or `else (error)` after the calls"
                );
                (span, "no rule responds if this fails".to_owned(), help)
            } else {
                let help = "add a rule for each possible value".to_owned();
                (span, "no rule responds to this outcome".to_owned(), help)
            }
        }
        Some(Moment::Finds { query, rows: 0 }) => {
            (at_query(query), "no rule responds if there is no row".to_owned(), after("query"))
        }
        Some(Moment::Finds { query, .. }) => {
            let help = "add a rule for the case with rows".to_owned();
            (at_query(query), "no rule responds if there are rows".to_owned(), help)
        }
        Some(Moment::Fits { query, .. } | Moment::Says { query, .. }) => {
            (at_query(query), "no rule responds if no row matches".to_owned(), after("query"))
        }
        Some(Moment::Holds { rule, step, .. }) => {
            let label = "no rule responds if this is false".to_owned();
            (places.step(*rule, *step), label, after("condition"))
        }
        Some(Moment::Lists { rule, step, .. }) => {
            let help = "use `collect`, which also continues with an empty list".to_owned();
            let label = "no rule responds if the list is empty".to_owned();
            (places.step(*rule, *step), label, help)
        }
        Some(Moment::Key { name, value: KeyValue::Absent }) => {
            let help =
                format!("add a rule for a request without `{name}`, or write `{name}?` in a rule");
            let label = format!("no rule responds if `{name}` is missing");
            (places.path(&scope.path), label, help)
        }
        Some(Moment::Key { name, .. } | Moment::Has { key: name, .. }) => {
            let help = format!("add a rule for the other values of `{name}`");
            let label = format!("no rule responds to this `{name}`");
            (places.path(&scope.path), label, help)
        }
        Some(Moment::Calls { .. }) | None => {
            let help = "call `Requesting.respond (request, …)` in a rule of this path".to_owned();
            let label = "no rule responds to this".to_owned();
            (places.path(&scope.path), label, help)
        }
    }
}
