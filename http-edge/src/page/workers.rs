//! Workers that do not run: those that the supervisor restarts, and those that the router misses.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::routes::Routes;

/// Problems of workers that `concert up` starts, for the console.
#[derive(Debug, Clone, Default)]
pub struct WorkerProblems(Arc<Mutex<BTreeMap<String, String>>>);

impl WorkerProblems {
    /// Sets the problem of a concept's worker. `None`: it has none.
    pub fn set(&self, concept: &str, problem: Option<String>) {
        let mut problems = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match problem {
            Some(problem) => problems.insert(concept.to_owned(), problem),
            None => problems.remove(concept),
        };
    }

    /// Each problem, with the paths that get 503 because of it.
    pub(super) fn rows(&self, routes: &Routes) -> Vec<Value> {
        let problems = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stopped = problems.iter().map(|(concept, why)| (format!("{concept}: {why}"), vec![]));
        let mut all: BTreeMap<String, Vec<String>> = stopped.collect();
        if let Some(active) = &*routes.borrow() {
            for (path, why) in &active.table.unavailable {
                all.entry(why.clone()).or_default().push(path.clone());
            }
        }
        all.into_iter()
            .map(|(problem, paths)| json!({ "problem": problem, "paths": paths }))
            .collect()
    }
}
