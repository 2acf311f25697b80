//! Derives the route table from request patterns and from the uses of their keys.

use std::collections::BTreeMap;

use concert_wire::routes::{Route, RouteKey, RouteTable, ValueType};

use crate::check::checked::{Checked, KeyBound, RequestKey, RequestPattern};
use crate::check::types::unify;
use crate::diagnostics::{CONFLICT, Diagnostic, SECRET};

/// Derives the table. Marks a key as secret in all rules of a path if it is secret in one.
pub(crate) fn derive(
    version: &str,
    rules: &mut [Checked],
    diagnostics: &mut Vec<Diagnostic>,
) -> RouteTable {
    let mut kinds: BTreeMap<(String, String), ValueType> = BTreeMap::new();
    for rule in rules.iter() {
        for (request, key) in keys(rule) {
            let Some(kind) = kind(rule, key) else { continue };
            let name = (request.path.clone(), key.name.to_string());
            match kinds.get(&name) {
                None => drop(kinds.insert(name, kind)),
                Some(known) if known.is_secret() != kind.is_secret() => {
                    let secret = if known.is_secret() { known.clone() } else { kind };
                    drop(kinds.insert(name, secret))
                }
                Some(known) => match unify(known, &kind) {
                    Some(both) => drop(kinds.insert(name, both)),
                    None => {
                        let message = format!(
                            "key `{}` of path `{}` is {} here, but {} in another rule",
                            key.name,
                            request.path,
                            kind.describe(),
                            known.describe()
                        );
                        diagnostics.push(Diagnostic::error(CONFLICT, key.span, message));
                    }
                },
            }
        }
    }
    let mut table = RouteTable { version: version.to_owned(), ..RouteTable::default() };
    for rule in rules.iter_mut() {
        for request in &rule.requests {
            table.routes.entry(request.path.clone()).or_default();
            for key in &request.keys {
                let kind = kinds.get(&(request.path.clone(), key.name.to_string())).cloned();
                match (&key.bound, kind) {
                    (KeyBound::Variable(slot), Some(kind)) if kind.is_secret() => {
                        if let Some(variable) = rule.variables.get_mut(*slot) {
                            variable.is_secret_elsewhere(&kind);
                        }
                    }
                    (KeyBound::Literal(_), Some(kind)) if kind.is_secret() => {
                        let message = format!(
                            "`{}` is a secret in another rule of this path and cannot be compared",
                            key.name
                        );
                        diagnostics.push(Diagnostic::error(SECRET, key.span, message));
                    }
                    _ => {}
                }
            }
        }
    }
    let mut by_path: BTreeMap<&str, Vec<&RequestPattern>> = BTreeMap::new();
    for request in rules.iter().flat_map(|rule| &rule.requests) {
        by_path.entry(&request.path).or_default().push(request);
    }
    for (path, route) in &mut table.routes {
        fill(path, route, by_path.get(path.as_str()).map_or(&[], Vec::as_slice), &kinds);
    }
    table
}

fn keys(rule: &Checked) -> impl Iterator<Item = (&RequestPattern, &RequestKey)> {
    rule.requests.iter().flat_map(|request| request.keys.iter().map(move |key| (request, key)))
}

fn kind(rule: &Checked, key: &RequestKey) -> Option<ValueType> {
    match &key.bound {
        KeyBound::Variable(slot) => rule.variables.get(*slot)?.kind().cloned(),
        KeyBound::Literal(kind) => Some(kind.clone()),
    }
}

/// Adds the keys of a path. A key is required if every rule that has only the request pattern needs
/// it: without the key, no rule would fire.
fn fill(
    path: &str,
    route: &mut Route,
    requests: &[&RequestPattern],
    kinds: &BTreeMap<(String, String), ValueType>,
) {
    let roots: Vec<&&RequestPattern> = requests.iter().filter(|request| request.is_root).collect();
    for key in requests.iter().flat_map(|request| &request.keys) {
        let needs = |request: &RequestPattern| {
            request.keys.iter().any(|other| other.name == key.name && !other.optional)
        };
        let kind =
            kinds.get(&(path.to_owned(), key.name.to_string())).cloned().unwrap_or(ValueType::Any);
        let required = !roots.is_empty() && roots.iter().all(|root| needs(root));
        route
            .keys
            .insert(key.name.to_string(), RouteKey { required, secret: kind.is_secret(), kind });
    }
}
