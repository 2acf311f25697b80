//! Derives the route table from request patterns and from the uses of their keys.

use std::collections::BTreeMap;

use concert_wire::nested;
use concert_wire::routes::{Pattern, Route, RouteKey, RouteTable, Segment, ValueType};

use crate::check::checked::{Checked, KeyBound, RequestKey, RequestPattern};
use crate::check::types::unify;
use crate::check::variables::Variable;
use crate::diagnostics::{AMBIGUOUS_PATHS, CONFLICT, Diagnostic, SECRET, WRONG_TYPE};

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
    add_indirect(rules, &mut kinds);
    let mut table = RouteTable { version: version.to_owned(), ..RouteTable::default() };
    for rule in rules.iter_mut() {
        for request in &rule.requests {
            table.routes.entry(request.path.clone()).or_default();
            for key in &request.keys {
                let kind = kinds.get(&(request.path.clone(), key.name.to_string())).cloned();
                let misfit = judge_url(request, key, kind.as_ref().unwrap_or(&ValueType::Any));
                diagnostics.extend(misfit);
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
    let first_of_path = by_path.values().filter_map(|requests| requests.first().copied());
    judge_paths(first_of_path, diagnostics);
    for (path, requests) in &by_path {
        check_objects(path, requests, diagnostics);
    }
    for (path, route) in &mut table.routes {
        fill(path, route, by_path.get(path.as_str()).map_or(&[], Vec::as_slice), &kinds);
    }
    table
}

/// Reports a secret or a list in the URL of a request.
fn judge_url(request: &RequestPattern, key: &RequestKey, kind: &ValueType) -> Option<Diagnostic> {
    let pattern = Pattern::parse(&request.path).ok()?;
    let is_parameter = pattern.parameters().any(|name| *name == *key.name);
    let name = &key.name;
    if is_parameter && kind.is_secret() {
        let message = format!("the secret `{name}` cannot be a part of the path");
        let help = "proxies and browsers store URLs; take the secret from the body or a header";
        return Some(Diagnostic::error(SECRET, key.span, message).help(help));
    }
    let is_in_url = is_parameter || !pattern.method.takes_body();
    if is_in_url && nested::is_path(name) {
        let message = format!("`{name}` is in an object, which cannot be in a URL");
        let help = format!("`{}` has no body; use another method", request.path);
        return Some(Diagnostic::error(WRONG_TYPE, key.span, message).help(help));
    }
    let is_text = !matches!(
        kind.without_null(),
        ValueType::Seq(_) | ValueType::Set(_) | ValueType::Record(_)
    );
    if !is_in_url || is_text {
        return None;
    }
    let message = format!("`{name}` is {}, which cannot be in a URL", kind.describe());
    let help = format!("`{}` has no body; use another method", request.path);
    let found = Diagnostic::error(WRONG_TYPE, key.span, message);
    Some(if is_parameter { found } else { found.help(help) })
}

/// Reports pairs of paths of which neither is more specific. `requests`: the first of each path.
fn judge_paths<'a>(
    requests: impl Iterator<Item = &'a RequestPattern>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let mut paths: Vec<(Pattern, &RequestPattern)> = requests
        .filter_map(|request| Some((Pattern::parse(&request.path).ok()?, request)))
        .collect();
    paths.sort_by_key(|(_, request)| request.span);
    for (number, (pattern, request)) in paths.iter().enumerate() {
        for (other, first) in paths.iter().take(number) {
            let Some(witness) = other.conflict(pattern) else { continue };
            let (a, b) = (&first.path, &request.path);
            let message = format!("`{a}` and `{b}` both match `{witness}`");
            let help = match shape(other) == shape(pattern) {
                true => "write both in the same way",
                false => "change one of the paths, so that one of them is more specific",
            };
            let found = Diagnostic::error(AMBIGUOUS_PATHS, request.span, message).help(help);
            diagnostics.push(found.related(first.span, format!("`{a}`")));
        }
    }
}

/// Reports keys that one rule binds whole and another rule looks into: a secret in the object would
/// be stored as plain text.
fn check_objects(path: &str, requests: &[&RequestPattern], diagnostics: &mut Vec<Diagnostic>) {
    let keys = || requests.iter().flat_map(|request| &request.keys);
    for whole in keys() {
        let is_inside = |key: &&RequestKey| nested::objects(&key.name).any(|o| o == &*whole.name);
        if let Some(inside) = keys().find(is_inside) {
            let message = format!(
                "key `{}` of path `{path}` is used whole here, but another rule looks into it",
                whole.name
            );
            let help = "name the keys of the object in both rules";
            let diagnostic = Diagnostic::error(CONFLICT, whole.span, message).help(help);
            diagnostics.push(diagnostic.related(inside.span, format!("`{}`", inside.name)));
        }
    }
}

/// The segments, with `:` for each parameter.
fn shape(pattern: &Pattern) -> Vec<&str> {
    let texts = pattern.segments.iter().map(|segment| match segment {
        Segment::Literal(text) => text.as_str(),
        Segment::Parameter(_) => ":",
    });
    texts.collect()
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

/// Adds the types of keys that rules pass on only through a `let` or as operands of `??`. Different
/// ones permit any value.
fn add_indirect(rules: &[Checked], kinds: &mut BTreeMap<(String, String), ValueType>) {
    let mut indirect: BTreeMap<(String, String), ValueType> = BTreeMap::new();
    for rule in rules {
        for (request, key) in keys(rule) {
            let KeyBound::Variable(slot) = key.bound else { continue };
            let kind = rule.variables.get(slot).and_then(Variable::indirect_kind);
            let Some(kind) = kind else { continue };
            let known = indirect.entry((request.path.clone(), key.name.to_string()));
            let known = known.or_insert_with(|| kind.clone());
            *known = unify(known, &kind).unwrap_or(ValueType::Any);
        }
    }
    for (name, kind) in indirect {
        kinds.entry(name).or_insert(kind);
    }
}

/// Adds the keys of a path. A key is required if every rule that has only the request pattern needs
/// it: without the key, no rule would fire. A parameter of the path is always present.
fn fill(
    path: &str,
    route: &mut Route,
    requests: &[&RequestPattern],
    kinds: &BTreeMap<(String, String), ValueType>,
) {
    let pattern = Pattern::parse(path).ok();
    let parameters: Vec<&str> = pattern.iter().flat_map(Pattern::parameters).collect();
    let roots: Vec<&&RequestPattern> = requests.iter().filter(|request| request.is_root).collect();
    for key in requests.iter().flat_map(|request| &request.keys) {
        let needs = |request: &RequestPattern| {
            request.keys.iter().any(|other| other.name == key.name && !other.optional)
        };
        let kind =
            kinds.get(&(path.to_owned(), key.name.to_string())).cloned().unwrap_or(ValueType::Any);
        let required = parameters.contains(&&*key.name)
            || !roots.is_empty() && roots.iter().all(|root| needs(root));
        route
            .keys
            .insert(key.name.to_string(), RouteKey { required, secret: kind.is_secret(), kind });
    }
}

#[cfg(test)]
mod tests {
    use concert_wire::routes::ValueType::{Any, Number};

    use super::*;
    use crate::compile::compile;
    use crate::requesting;
    use crate::source::SourceFile;

    const SPEC: &str = "concept Shelving
purpose to keep texts
queries
    _find (limit?: Number, title?: String) : (text: String)*
";

    /// The type of the key `n` in a rule with these steps.
    fn kind_of_n(steps: &str) -> ValueType {
        let rule = format!(
            "sync Find\nwhen\n    Requesting.request (path: \"/a\", n?) : (request)\nwhere\n{steps}\
             then\n    Requesting.respond (request, found)\n"
        );
        let concepts = [requesting::source(), SourceFile::new("Shelving.concept", SPEC)];
        let (program, _) = compile(&concepts, &[SourceFile::new("a.sync", rule)]).unwrap();
        program.routes.routes["/a"].keys["n"].kind.clone()
    }

    #[test]
    fn key_has_the_type_of_the_parameter_that_gets_it_indirectly() {
        let number = ValueType::Nullable(Box::new(Number));
        let find = |argument: &str| {
            format!("    Shelving._find ({argument}) : (text)\n    collect text as found\n")
        };
        for (steps, expected) in [
            (find("limit: n ?? 20"), number.clone()),
            (find("limit: n ?? null ?? 20"), number.clone()),
            (format!("    let most = n ?? 20\n{}", find("limit: most")), number.clone()),
            (format!("    let most = n\n    let all = most ?? 20\n{}", find("limit: all")), number),
            // A parameter that takes the key itself decides.
            (find("limit: n, title: n ?? \"a\""), Number),
            (find("limit: n ?? 20, title: n ?? \"a\""), Any),
            (find("limit: (n ?? 20) + 1"), Any),
        ] {
            assert_eq!(kind_of_n(&steps), expected, "{steps}");
        }
    }
}
