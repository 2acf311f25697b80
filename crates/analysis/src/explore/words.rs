//! Descriptions of runs in sentences.

use serde_json::Value;

use super::moments::{KeyValue, Moment};
use super::questions::Site;
use super::scope::name;
use super::text::Shown;
use concert_lang::expr::Expr;
use concert_lang::program::{Call, Program, Sync};
use concert_wire::is_response;

/// Describes the events of a run.
pub(crate) fn story(program: &Program, path: &str, moments: &[Moment]) -> Vec<String> {
    let mut sentences = vec![format!("a client requests `{path}`{}", request(moments))];
    sentences.extend(moments.iter().filter_map(|moment| sentence(program, moment)));
    sentences
}

/// `a`, `b` and `c`.
pub(crate) fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Describes the keys of a request, for use after its path.
fn request(moments: &[Moment]) -> String {
    let mut with = Vec::new();
    let mut without = Vec::new();
    for moment in moments {
        if let Moment::Key { name, value } = moment {
            match value {
                KeyValue::Something => with.push(format!("`{name}`")),
                KeyValue::This(value) => with.push(format!("`{name}` {value}")),
                KeyValue::Other => with.push(format!("another `{name}`")),
                KeyValue::Absent => without.push(format!("`{name}`")),
            }
        }
    }
    let mut text = String::new();
    if !with.is_empty() {
        text.push_str(&format!(" with {}", list(&with)));
    }
    if !without.is_empty() {
        let join = if with.is_empty() { "" } else { "," };
        text.push_str(&format!("{join} without {}", list(&without)));
    }
    text
}

/// Returns whether a call is a response.
pub(crate) fn is_answer(call: &Call) -> bool {
    is_response(&call.concept, &call.action)
}

/// Returns whether an action, named with its concept, is a response.
fn is_named_response(action: &str) -> bool {
    action.split_once('.').is_some_and(|(concept, action)| is_response(concept, action))
}

fn literal<'a>(call: &'a Call, key: &str) -> Option<&'a Value> {
    let arg = call.args.iter().find(|arg| &*arg.key == key)?;
    match &arg.value {
        Expr::Literal(value) => Some(value),
        _ => None,
    }
}

/// The status of a response, unless the rule computes it. An error without a status gets 400.
pub(crate) fn status(call: &Call) -> Option<String> {
    if call.args.iter().any(|arg| &*arg.key == "status") {
        return literal(call, "status").map(ToString::to_string);
    }
    let is_error = call.args.iter().any(|arg| &*arg.key == "error");
    Some(if is_error { "400" } else { "200" }.to_owned())
}

fn call(program: &Program, rule: usize, site: Site) -> Option<(&str, &Call)> {
    let sync = program.syncs.get(rule)?;
    Some((&sync.name, site.call(sync)?))
}

/// A count with its noun.
pub(crate) fn many(count: usize, one: &str, several: &str) -> String {
    match count {
        0 => format!("no {one}"),
        1 => format!("one {one}"),
        2 => format!("two {several}"),
        count => format!("{count} {several}"),
    }
}

fn sentence(program: &Program, moment: &Moment) -> Option<String> {
    let text = match moment {
        Moment::Key { .. } => return None,
        Moment::Calls { rule, site } => {
            let (rule, call) = call(program, *rule, *site)?;
            if !is_answer(call) {
                format!("{rule} calls `{}`", name(&call.concept, &call.action))
            } else if let Some(status) = status(call) {
                format!("{rule} responds with {status}")
            } else {
                format!("{rule} responds")
            }
        }
        Moment::Ends { action, failed: false, .. } if is_named_response(action) => {
            return None;
        }
        Moment::Ends { action, failed, detail } => {
            let ends = if *failed { "fails" } else { "succeeds" };
            let detail = detail.as_ref().map(|text| match text.strip_prefix("without ") {
                Some(_) => format!(", {text}"),
                None => format!(", with {text}"),
            });
            format!("`{action}` {ends}{}", detail.unwrap_or_default())
        }
        Moment::Has { action, key, value, has } => {
            let what = match (value, has) {
                (Some(value), true) => value.to_string(),
                (Some(value), false) => format!("not {value}"),
                (None, true) => "equal to the value elsewhere in the rule".to_owned(),
                (None, false) => "different from the value elsewhere in the rule".to_owned(),
            };
            format!("the `{key}` of `{action}` is {what}")
        }
        Moment::Finds { query, rows: 1 } => format!("`{query}` returns a row"),
        Moment::Finds { query, rows } => {
            format!("`{query}` returns {}", many(*rows, "row", "rows"))
        }
        Moment::Fits { query, key, fits } => {
            let which = if *fits { "the one that the rule compares" } else { "a different one" };
            format!("the `{key}` of `{query}` is {which}")
        }
        Moment::Says { query, key, value } => format!("the `{key}` of `{query}` is {value}"),
        Moment::Holds { text, holds, .. } => {
            format!("`{text}` {}", if *holds { "holds" } else { "does not hold" })
        }
        Moment::Lists { text, count, .. } => {
            format!("`{text}` has {}", many(*count, "element", "elements"))
        }
    };
    Some(text)
}

/// Keys of a response, with literal values.
pub(crate) fn answer_keys(sync: &Sync, call: &Call) -> Vec<String> {
    let args = call.args.iter();
    let args =
        args.filter(|arg| !matches!(&*arg.key, "request" | "status") && !arg.key.starts_with('#'));
    args.map(|arg| match &arg.value {
        Expr::Variable(slot) if sync.variables.get(*slot) == Some(&arg.key) => arg.key.to_string(),
        value => format!("{} {}", arg.key, Shown(value, &sync.variables)),
    })
    .collect()
}
