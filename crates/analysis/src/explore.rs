//! Every run of a path: the engine itself, with values that stand for many, in a world that does
//! everything its specs allow.
//!
//! A run is a function of choices: how each action ends, how many rows each query has, what each
//! comparison comes to, which keys a request has. All vectors of choices are gone through, each
//! with a flow of its own. The same question has the same answer throughout a run, until an action
//! with effects of that concept came in between; what follows from earlier decisions is no choice.
//! What decides nothing but the content of an answer (what a `collect` gathers for it) is not
//! varied.
//!
//! Not explored: faults, which the router answers; queries whose answers change because of other
//! flows; values that only arithmetic could tell apart.

mod choices;
mod explain;
mod judge;
mod moments;
mod order;
mod questions;
mod run;
mod scope;
mod text;
mod values;
mod words;
mod world;

use self::choices::Choices;
pub use self::explain::explain;
pub(crate) use self::moments::{Moment, Told};
pub(crate) use self::questions::Site;
use self::run::Runner;
pub(crate) use self::run::{Run, Schedule};
pub(crate) use self::scope::{Rules, Scope, can_match, ends, name};
pub(crate) use self::words::{is_answer, story};

/// Runs of one path; past that it is not explored any further.
pub(crate) const RUNS_PER_PATH: usize = 4096;
/// Actions of one path, over all of its runs.
const ACTIONS_PER_PATH: usize = 16_384;

/// Makes every run of a path; `false` when there are too many to make them all, or one was cut.
///
/// Of too many, those are made for certain in which but one or two things go otherwise than well.
pub(crate) fn explore(scope: &Scope<'_>, schedule: Schedule, mut visit: impl FnMut(Run)) -> bool {
    let mut runner = Runner::new(scope, schedule);
    let mut is_complete = true;
    let mut go = |mut choices: Choices, share: usize| {
        let mut actions = 0;
        for _ in 0..RUNS_PER_PATH / share {
            let run = runner.run(&mut choices);
            actions += run.actions;
            is_complete &= !run.is_cut;
            visit(run);
            if !choices.next_run() {
                return true;
            }
            if actions >= ACTIONS_PER_PATH / share {
                return false;
            }
        }
        false
    };
    if go(Choices::all(), 1) {
        return is_complete;
    }
    // Depth first comes late to what is decided first.
    for deviations in 1..=2 {
        go(Choices::with_at_most(deviations), 4);
    }
    false
}
