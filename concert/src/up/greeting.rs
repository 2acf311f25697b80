//! The output of `concert up` when the application is ready.

use concert_runtime::keys;
use concert_wire::access::User;
use concert_wire::nested;
use concert_wire::routes::{Method, Pattern, Route, RouteTable, ValueType, split, with_base};
use serde_json::{Map, Value, json};

use super::servers::Addresses;
use super::stack::Stack;
use crate::config::Settings;
use crate::output;

/// Default port of the `nats` command line tool.
const DEFAULT_NATS_PORT: u16 = 4222;
/// Maximum number of paths that are printed.
const PATHS_MAX: usize = 12;

/// Prints the addresses, the paths of the application, and a request to try.
pub(super) fn print(settings: &Settings, stack: &Stack, servers: &Addresses, routes: &RouteTable) {
    let api = stack.api(settings);
    let page = match stack.console() {
        Some(address) => format!("  Console  http://{address}/\n"),
        None => String::new(),
    };
    let site = settings.http.files.dir.as_ref().map(|_| format!("http://{}/", stack.address()));
    let app = match (&settings.app.name, site) {
        (Some(name), Some(site)) => format!("  App      {site} ({name})\n"),
        (Some(name), None) => format!("  App      {name}\n"),
        (None, Some(site)) => format!("  App      {site}\n"),
        (None, None) => String::new(),
    };
    output::print_line(format_args!(
        "\nConcert is running.\n\n{app}{page}  HTTP     {api}\n  NATS     {nats}\n  MongoDB  {mongo}\n  Data     {data}\n  Keys     {keys} (back up keys and data separately)\n  Rules    {rules} (changes are loaded while it runs)\n{paths}{operator}\n\nCtrl-C stops it.",
        nats = servers.nats_url,
        mongo = servers.mongodb_uri,
        data = settings.app.data_dir.display(),
        keys = settings.app.keys_dir().display(),
        rules = settings.rules.syncs.display(),
        paths = paths(&api, routes),
        operator = operator(settings, servers),
    ));
}

/// The paths with their keys, and a request to one of them.
fn paths(api: &str, routes: &RouteTable) -> String {
    let mut lines = Vec::new();
    for (path, route) in routes.routes.iter().take(PATHS_MAX) {
        let keys: Vec<&str> = route.keys.keys().map(String::as_str).collect();
        let line = format!("  {}  {}", with_base(path, ""), keys.join(", "));
        lines.push(line.trim_end().to_owned());
    }
    let more = routes.routes.len().saturating_sub(PATHS_MAX);
    if more > 0 {
        lines.push(format!("  and {more} more: concert describe openapi"));
    }
    let mut posts = routes.routes.iter().filter_map(|(text, route)| Some((literal(text)?, route)));
    let Some((path, route)) = posts.find(|(_, route)| takes_texts(route)) else {
        return format!("\nPaths:\n{}\n", lines.join("\n"));
    };
    format!(
        "\nPaths:\n{}\n\nTry:\n  curl -s {api}{path} \\\n    -H 'content-type: application/json' -d '{}'\n",
        lines.join("\n"),
        example(route)
    )
}

/// The path of a POST without parameters.
fn literal(text: &str) -> Option<&str> {
    let pattern = Pattern::parse(text).ok()?;
    let is_literal = pattern.method == Method::Post && pattern.parameters().next().is_none();
    is_literal.then(|| split(text).1)
}

/// Returns whether a client without an id or a session can make this request.
fn takes_texts(route: &Route) -> bool {
    let has_plain = route
        .keys
        .values()
        .any(|key| matches!(key.kind, ValueType::String | ValueType::BoundedString(_)));
    has_plain && route.keys.values().all(|key| !matches!(key.kind, ValueType::Id(_)))
}

/// An example body: a value for each required key.
fn example(route: &Route) -> Value {
    let mut body = Map::new();
    for (name, key) in route.keys.iter().filter(|(_, key)| key.required) {
        let value = match &key.kind {
            ValueType::Number => json!(1),
            ValueType::Boolean => json!(true),
            ValueType::Date => json!("2026-01-31"),
            ValueType::Seq(_) | ValueType::Set(_) => json!([]),
            ValueType::Secret | ValueType::BoundedSecret(_) => json!("correct horse"),
            ValueType::Nullable(_) => json!(null),
            ValueType::Enum(values) => json!(values.first()),
            ValueType::Record(_) => json!({}),
            ValueType::Any | ValueType::String | ValueType::BoundedString(_) | ValueType::Id(_) => {
                json!("ada")
            }
        };
        nested::insert(&mut body, name, value);
    }
    Value::Object(body)
}

/// Prints how to use the `nats` command line tool as the operator. The URL is omitted if the tool
/// finds the server by default: `NATS_URL` would make the next `concert up` use that server.
fn operator(settings: &Settings, servers: &Addresses) -> String {
    if !servers.has_own_nats {
        return String::new();
    }
    let key = keys::seeds_path(&settings.app.keys_dir(), &User::Operator);
    let server = match settings.nats.port {
        DEFAULT_NATS_PORT => String::new(),
        _ => format!(" --server {}", servers.nats_url),
    };
    format!(
        "\nFor the nats command line:\n  export NATS_NKEY={}\n  nats{server} sub 'done.>'",
        key.display()
    )
}

#[cfg(test)]
mod tests {
    use concert_lang::source::SourceFile;

    use super::*;

    fn printed(rules: &str) -> String {
        let concepts = [
            concert_lang::requesting::source(),
            SourceFile::new(
                "Greeting.concept",
                "concept Greeting [User]\npurpose x\nactions\n    greet (name: String, user: User) : ()\n    wave (name: String, secret: Secret) : ()\n",
            ),
        ];
        let (program, _) =
            concert_lang::compile(&concepts, &[SourceFile::new("a.sync", rules)]).unwrap();
        paths("http://x/api", &program.routes)
    }

    #[test]
    fn example_request_uses_a_path_of_the_application() {
        let rule = |name: &str, path: &str, keys: &str, action: &str| {
            format!(
                "sync {name}\nwhen\n    Requesting.request (path: \"{path}\", {keys}) : (request)\nthen\n    Greeting.{action} ({keys})\n    Requesting.respond (request)\n"
            )
        };
        let one = rule("A", "/a", "name, user", "greet");
        let text = printed(&one);
        assert!(text.contains("POST /a  name, user") && !text.contains("curl"), "{text}");
        let text = printed(&format!("{one}{}", rule("B", "/b", "name, secret", "wave")));
        assert!(
            text.contains(r#"curl -s http://x/api/b"#)
                && text.contains(r#"-d '{"name":"ada","secret":"correct horse"}'"#),
            "{text}"
        );
        let nested = rule("C", "/c", "name, secret", "wave");
        let text = printed(&nested.replacen("name, secret)", "user: {name, secret})", 1));
        assert!(
            text.contains(r#"-d '{"user":{"name":"ada","secret":"correct horse"}}'"#),
            "{text}"
        );
    }

    #[test]
    fn paths_beyond_the_maximum_are_counted() {
        let rule = |number: usize| {
            format!(
                "sync R{number}\nwhen\n    Requesting.request (path: \"/p{number}\") : (request)\nthen\n    Requesting.respond (request)\n"
            )
        };
        let text = printed(&(0..PATHS_MAX + 2).map(rule).collect::<String>());
        assert!(text.contains("and 2 more"), "{text}");
    }
}
