//! Checks the declarations of headers that fill secret keys.

use concert_wire::routes::{RouteTable, SecretHeader};

use crate::diagnostics::{BAD_HEADER, Diagnostic};
use crate::syntax::HeaderDef;

/// Headers that HTTP, proxies or the edge use themselves.
const RESERVED: &[&str] = &[
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "idempotency-key",
    "origin",
    "proxy-authorization",
    "referer",
    "te",
    "trailer",
    "traceparent",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// Prefixes of headers that browsers, proxies or the edge set.
const RESERVED_PREFIXES: &[&str] = &["access-control-", "concert-", "sec-", "x-forwarded-"];

/// The declared headers, without the invalid ones.
pub(crate) fn check(
    defs: &[HeaderDef],
    table: &RouteTable,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<SecretHeader> {
    let mut found: Vec<(SecretHeader, &HeaderDef)> = Vec::new();
    for def in defs {
        let header = match parsed(def) {
            Ok(header) => header,
            Err(message) => {
                let help = "write `header \"Authorization: Bearer\" as session`";
                diagnostics.push(Diagnostic::error(BAD_HEADER, def.span, message).help(help));
                continue;
            }
        };
        if let Some((_, first)) = found.iter().find(|(other, _)| overlap(other, &header)) {
            let message = format!("the header `{}` already fills a key", def.text);
            let error = Diagnostic::error(BAD_HEADER, def.span, message);
            diagnostics.push(error.related(first.span, "the first declaration"));
            continue;
        }
        let mut keys = table.routes.values().filter_map(|route| route.keys.get(&header.key));
        if !keys.any(|key| key.secret) {
            let message = format!("no rule has a secret request key `{}`", header.key);
            let help = "pass the key to a parameter of type `Secret`, or remove the declaration";
            diagnostics.push(Diagnostic::warning(BAD_HEADER, def.key.span, message).help(help));
        }
        found.push((header, def));
    }
    found.into_iter().map(|(header, _)| header).collect()
}

/// Returns whether one header of a request can match both declarations.
fn overlap(a: &SecretHeader, b: &SecretHeader) -> bool {
    let has_same_scheme = match (&a.scheme, &b.scheme) {
        (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
        _ => true,
    };
    a.name == b.name && has_same_scheme
}

fn parsed(def: &HeaderDef) -> Result<SecretHeader, String> {
    let (name, scheme) = match def.text.split_once(':') {
        Some((name, scheme)) => (name, Some(scheme.trim())),
        None => (&*def.text, None),
    };
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    if !is_token(name) || !scheme.is_none_or(is_token) {
        return Err(format!("`{}` is not a header with an optional scheme", def.text));
    }
    let name = name.to_ascii_lowercase();
    let has_reserved_prefix = RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    if RESERVED.contains(&&*name) || has_reserved_prefix {
        return Err(format!("the header `{name}` has another meaning and cannot fill a key"));
    }
    if def.key.text == "path" {
        return Err("a header cannot fill the key `path`".to_owned());
    }
    let (scheme, key) = (scheme.map(str::to_owned), def.key.text.clone());
    Ok(SecretHeader { name, scheme, key })
}
