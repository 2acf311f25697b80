//! Exploration of all runs of a path: the real engine with symbolic values, in a world that does
//! everything the specs allow.
//!
//! A run is determined by choices: the outcome of each action, the number of rows of each query,
//! the result of each comparison, the keys of the request. The explorer tries all choice vectors,
//! each in a separate flow. A query with the same input returns the same rows throughout a run,
//! until an action with effects of that concept completes. A decision that earlier ones imply is
//! not a choice. Choices that only affect the body of a response, such as the contents of a
//! `collect`, are not varied.
//!
//! Not explored: faults, to which the router responds; changes by other flows; values that only
//! arithmetic distinguishes.

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
pub(crate) use self::moments::{KeyValue, Moment};
pub(crate) use self::questions::Site;
use self::run::Runner;
pub(crate) use self::run::{Run, Schedule};
pub(crate) use self::scope::{Rules, Scope, can_match, ends, name};
pub(crate) use self::words::{is_answer, story};

/// Maximum number of runs per path; further runs are skipped.
pub(crate) const RUNS_PER_PATH: usize = 4096;
/// Maximum number of actions per path, over all runs.
const ACTIONS_PER_PATH: usize = 16_384;

/// Visits every run of a path. Returns `false` if some were skipped or cut at a limit.
///
/// If a path has too many runs, those with at most two deviations from the first options are
/// visited in any case.
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
    // A depth-first search varies the earliest decisions last, so visit runs with few deviations,
    // too.
    for deviations in 1..=2 {
        go(Choices::with_at_most(deviations), 4);
    }
    false
}
