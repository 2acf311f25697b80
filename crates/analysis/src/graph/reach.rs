//! Rules that a request to a path can reach.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::model::Name;
use concert_lang::program::{Pattern, Program, Sync};

/// The rules that can fire in a flow that starts with a request to this path, ordered by name.
///
/// Assumes that every called action may succeed and may fail.
pub(super) fn reached(program: &Program, from: &str) -> Vec<Arc<Sync>> {
    let mut called: BTreeSet<Name> = BTreeSet::new();
    let mut found: Vec<&Arc<Sync>> = Vec::new();
    loop {
        let comes = |pattern: &Pattern| match pattern.is_request() {
            true => pattern.path().is_none_or(|path| path == from),
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
        let calls = next.iter().flat_map(|sync| sync.calls());
        called.extend(calls.map(|call| Name::new(&call.concept, &call.action)));
        found.extend(next);
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found.into_iter().cloned().collect()
}
