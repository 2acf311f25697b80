//! What a request of a path can lead to.

use std::collections::BTreeSet;
use std::sync::Arc;

use concert_wire::{REQUEST, REQUESTING};
use serde_json::Value;

use super::Name;
use crate::program::{Call, Pattern, Program, Sync, Test};

/// The path of the request that a rule waits for. Without one the rule waits for no request, or for any.
pub(super) fn path_of(sync: &Sync) -> Option<Arc<str>> {
    sync.when.iter().filter(|pattern| is_request(pattern)).find_map(path)
}

/// The rules that may fire in a flow that begins with a request of this path, in the order of their names.
///
/// An action that is called may succeed and may fail: whether it does, only its concept knows.
pub(super) fn reached(program: &Program, from: &str) -> Vec<Arc<Sync>> {
    let mut called: BTreeSet<Name> = BTreeSet::new();
    let mut found: Vec<&Arc<Sync>> = Vec::new();
    loop {
        let comes = |pattern: &Pattern| match is_request(pattern) {
            true => path(pattern).is_none_or(|path| &*path == from),
            false => called.contains(&Name::new(&pattern.concept, &pattern.action)),
        };
        let next: Vec<&Arc<Sync>> = program
            .syncs
            .iter()
            .filter(|sync| !found.iter().any(|known| known.name == sync.name))
            .filter(|sync| sync.when.iter().all(comes))
            .collect();
        if next.is_empty() {
            break;
        }
        let calls = next.iter().flat_map(|sync| calls(sync));
        called.extend(calls.map(|call| Name::new(&call.concept, &call.action)));
        found.extend(next);
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found.into_iter().cloned().collect()
}

fn calls(sync: &Sync) -> impl Iterator<Item = &Call> {
    let otherwise = sync.otherwise.iter().flat_map(|otherwise| &otherwise.calls);
    sync.elses.iter().chain(&sync.then).chain(otherwise)
}

fn is_request(pattern: &Pattern) -> bool {
    &*pattern.concept == REQUESTING && &*pattern.action == REQUEST
}

fn path(pattern: &Pattern) -> Option<Arc<str>> {
    pattern
        .input
        .iter()
        .find_map(|demand| match (&*demand.key, &demand.test) {
            ("path", Test::Literal(Value::String(path))) => Some(path.as_str().into()),
            _ => None,
        })
}
