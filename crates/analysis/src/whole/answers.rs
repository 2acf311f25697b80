//! Whether a request is answered, once, in every run.

use std::collections::BTreeMap;

use super::places::Places;
use crate::explore::{Moment, Run, Scope, Site, Told, story};
use concert_lang::diagnostics::{ANSWERED_TWICE, Diagnostic, UNANSWERED};
use concert_lang::program::Program;
use concert_lang::source::Span;

/// Different reasons of one path that are told.
const MOST: usize = 16;

type Place = (usize, Site);

/// The runs of a path that show something. Of runs that go wrong alike, the one in which the least
/// happens otherwise than it may.
#[derive(Default)]
pub(super) struct Answers {
    has_answer: bool,
    unanswered: Vec<Run>,
    twice: BTreeMap<(Place, Place), Run>,
}

/// Whether everything that deviates in `a` does so in `b`, too.
fn is_within(a: &Run, b: &Run) -> bool {
    a.deviations.iter().all(|moment| b.deviations.contains(moment))
}

impl Answers {
    pub(super) fn take(&mut self, run: Run) {
        self.has_answer |= !run.answers.is_empty();
        match *run.answers.as_slice() {
            // A run that was cut may have been answered later.
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
            let mut told = story(program, &scope.path, &run.moments);
            told.push("no rule answers".to_owned());
            let message = if self.has_answer {
                format!("a request for `{}` may stay unanswered", scope.path)
            } else {
                format!("no request for `{}` is answered", scope.path)
            };
            let (span, label, help) = blame(run, scope, places);
            let diagnostic = Diagnostic::error(UNANSWERED, span, message).label(label);
            diagnostics.push(diagnostic.story(told).help(help));
        }
        for run in self.twice.values().take(MOST).filter(|_| !allows(ANSWERED_TWICE)) {
            let [first, second, ..] = *run.answers.as_slice() else {
                continue;
            };
            let message = format!("a request for `{}` may be answered twice", scope.path);
            let span = places.call(second.0, second.1);
            let diagnostic = Diagnostic::error(ANSWERED_TWICE, span, message);
            let diagnostic = diagnostic.story(story(program, &scope.path, &run.moments));
            diagnostics.push(if first == second {
                let help = "a call is made once for each row and element; `collect` gathers them for one answer";
                diagnostic.label("this is called twice").help(help)
            } else {
                let help =
                    "let the rules exclude one another by what stands in `when` or `where`, or answer in one of them";
                let related = places.call(first.0, first.1);
                diagnostic
                    .label("this answers as well")
                    .related(related, "the other answer")
                    .help(help)
            });
        }
    }
}

/// Where it goes wrong, in a few words, and what to do.
fn blame(run: &Run, scope: &Scope<'_>, places: &Places<'_>) -> (Span, String, String) {
    let at_query = |query: &str| {
        let rules = run.fired.iter().chain(&scope.rules);
        let asked = places.query(rules.copied(), query);
        asked.unwrap_or_else(|| places.path(&scope.path))
    };
    let behind = |what: &str| {
        format!(
            "write `else Requesting.respond (request, …)` behind the {what}, or a rule for this case"
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
                    "answer in a rule that waits for `{action} () : (error)`, or in `else (error)` behind the calls"
                );
                (span, "nothing answers when this fails".to_owned(), help)
            } else {
                let help = "write a rule for each of the values that this may have".to_owned();
                (span, "nothing answers this outcome".to_owned(), help)
            }
        }
        Some(Moment::Finds { query, rows: 0 }) => {
            (at_query(query), "nothing answers when there is no row".to_owned(), behind("query"))
        }
        Some(Moment::Finds { query, .. }) => {
            let help = "write a rule for the case that there are rows".to_owned();
            (at_query(query), "nothing answers when there are rows".to_owned(), help)
        }
        Some(Moment::Fits { query, .. } | Moment::Says { query, .. }) => {
            (at_query(query), "nothing answers when no row fits".to_owned(), behind("query"))
        }
        Some(Moment::Holds { rule, step, .. }) => {
            let label = "nothing answers when this does not hold".to_owned();
            (places.step(*rule, *step), label, behind("condition"))
        }
        Some(Moment::Lists { rule, step, .. }) => {
            let help =
                "`collect` gathers what the elements lead to, and goes on with an empty list, too"
                    .to_owned();
            let label = "nothing answers when the list is empty".to_owned();
            (places.step(*rule, *step), label, help)
        }
        Some(Moment::Key { name, told: Told::Absent }) => {
            let help = format!(
                "write a rule for a request without `{name}`, or one that names it `{name}?`"
            );
            let label = format!("nothing answers when there is no `{name}`");
            (places.path(&scope.path), label, help)
        }
        Some(Moment::Key { name, .. } | Moment::Has { key: name, .. }) => {
            let help = format!("write a rule for the other values of `{name}`");
            let label = format!("nothing answers this `{name}`");
            (places.path(&scope.path), label, help)
        }
        Some(Moment::Calls { .. }) | None => {
            let help =
                "some rule of this path must call `Requesting.respond (request, …)`".to_owned();
            let label = "nothing answers this".to_owned();
            (places.path(&scope.path), label, help)
        }
    }
}
