//! Near misses, and the explanation why a rule did not fire.

use std::collections::BTreeSet;

use concert_wire::id::{ActionId, FlowId};
use concert_wire::nested;
use serde_json::Value;

use super::types::{Failed, Matched, NearMiss, WhyNot};
use super::{Rules, Stored};
use crate::event::Logged;
use crate::flow::{Folded, Mismatch, Stopped, StoppedAt, Trace};
use concert_lang::diagnostics::nearest;
use concert_lang::program::{Match, Outcome, Pattern, Program, Sync, Test};

/// The version has no rule with this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no rule `{name}` in this version of the rules{}",
    did_you_mean(.meant.as_deref())
)]
pub struct UnknownSync {
    /// The requested name.
    pub name: String,
    /// A similar name.
    pub meant: Option<String>,
}

fn did_you_mean(name: Option<&str>) -> String {
    name.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// The rules that matched partly. A rule for another path is not a near miss.
pub(super) fn near_misses(
    program: &Program,
    folded: &Folded,
    trace: &Trace,
    logged: &[Logged],
) -> Vec<NearMiss> {
    let fired = trace.firings.iter().map(|firing| &*firing.sync);
    let asked = trace.questions.iter().map(|question| &*question.sync);
    let matched: BTreeSet<&str> = fired.chain(asked).collect();
    let happened = |pattern: &Pattern| {
        let is_of =
            |logged: &Logged| logged.concept == pattern.concept && logged.action == pattern.action;
        logged.iter().any(is_of)
    };
    let candidates = program.syncs.iter().filter(|sync| {
        let is_quiet = !matched.contains(&*sync.name);
        is_quiet && sync.when.first().is_some_and(happened)
    });
    let mut found: Vec<NearMiss> = candidates
        .filter_map(|sync| {
            let stopped = folded.stopped(sync);
            is_near(sync, &stopped).then(|| NearMiss {
                sync: sync.name.to_string(),
                matched: matched_of(&stopped.matched),
                failed: failed(sync, &stopped, logged),
            })
        })
        .collect();
    // A firing without calls: the steps of the rule left no frame.
    let empty = trace.firings.iter().filter(|firing| firing.frames.is_empty());
    for firing in empty {
        let sync = program.syncs.iter().find(|sync| sync.name == firing.sync);
        if let Some(sync) = sync {
            let stopped = folded.stopped(sync);
            found.push(NearMiss {
                sync: sync.name.to_string(),
                matched: matched_of(&firing.causes),
                failed: failed(sync, &stopped, logged),
            });
        }
    }
    found.sort_by_key(|miss| std::cmp::Reverse(miss.matched.len()));
    found
}

fn is_near(sync: &Sync, stopped: &Stopped) -> bool {
    match &stopped.at {
        StoppedAt::Pattern { pattern: 0, why, .. } => {
            let is_request = sync.when.first().is_some_and(Pattern::is_request);
            !(is_request && why.key() == Some("path") || *why == Mismatch::NotHappened)
        }
        _ => true,
    }
}

fn matched_of(actions: &[ActionId]) -> Vec<Matched> {
    let numbered = actions.iter().enumerate();
    numbered.map(|(pattern, action)| Matched { pattern, action: action.to_string() }).collect()
}

fn failed(sync: &Sync, stopped: &Stopped, logged: &[Logged]) -> Failed {
    let blank = Failed {
        pattern: None,
        step: None,
        text: String::new(),
        action: None,
        key: None,
        why: String::new(),
    };
    match &stopped.at {
        StoppedAt::Pattern { pattern, action, why } => {
            let waits = sync.when.get(*pattern);
            let key = match (why, waits) {
                // The pattern expects a success. The failure has none of its output keys, so name
                // the first.
                (Mismatch::Failed(_) | Mismatch::Fault(_), Some(waits))
                    if waits.outcome == Outcome::Success =>
                {
                    waits.output.first().map(|demand| demand.key.to_string())
                }
                _ => None,
            };
            Failed {
                pattern: Some(*pattern),
                text: waits.map(|waits| written(waits, sync)).unwrap_or_default(),
                action: action.map(|action| action.to_string()),
                key: key.or_else(|| why.key().map(str::to_owned)),
                why: waits.map(|waits| sentence(waits, why, *action, logged)).unwrap_or_default(),
                ..blank
            }
        }
        StoppedAt::Step(step) => Failed {
            step: Some(*step),
            why: format!("step {} of its `where` left no frame", step + 1),
            ..blank
        },
        StoppedAt::Asked => Failed {
            why: "its queries returned no matching rows, or have not returned yet".to_owned(),
            ..blank
        },
        StoppedAt::Halted => {
            Failed { why: "the flow had already been stopped".to_owned(), ..blank }
        }
    }
}

fn sentence(
    waits: &Pattern,
    why: &Mismatch,
    action: Option<ActionId>,
    logged: &[Logged],
) -> String {
    let name = format!("{}.{}", waits.concept, waits.action);
    let found = |key: &str| {
        let one = logged.iter().find(|one| Some(one.id) == action)?;
        let value = nested::get(&one.body.input, key).or_else(|| one.body.output.get(key))?;
        Some(shown(value))
    };
    match why {
        Mismatch::NotHappened => format!("{name} has not happened"),
        Mismatch::Failed(error) => format!("{name} failed: `{error}`"),
        Mismatch::Fault(error) => format!("{name} ended in a fault: `{error}`"),
        Mismatch::Succeeded => format!("{name} succeeded"),
        Mismatch::Missing(key) => format!("{name} has no `{key}`"),
        Mismatch::Literal { key, expected } => {
            let found = found(key).unwrap_or_default();
            format!("`{key}` of {name} is {found}, not {}", shown(expected))
        }
        Mismatch::Variable { key, variable } => {
            format!("`{key}` of {name} differs from the earlier `{variable}`")
        }
        Mismatch::Taken => {
            format!("earlier patterns of the rule matched every completion of {name}")
        }
    }
}

/// A value for a message; a long one is truncated.
fn shown(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// The pattern in rule syntax.
fn written(pattern: &Pattern, sync: &Sync) -> String {
    let list = |demands: &[Match]| {
        let demands: Vec<String> = demands.iter().map(|demand| demanded(demand, sync)).collect();
        demands.join(", ")
    };
    let head = format!("{}.{} ({})", pattern.concept, pattern.action, list(&pattern.input));
    if pattern.output.is_empty() { head } else { format!("{head} : ({})", list(&pattern.output)) }
}

fn demanded(demand: &Match, sync: &Sync) -> String {
    let optional = if demand.optional { "?" } else { "" };
    let variable = |slot: usize| sync.variables.get(slot).map(|name| &**name).unwrap_or_default();
    match &demand.test {
        Test::Literal(value) => format!("{}{optional}: {value}", demand.key),
        Test::Variable(slot) if variable(*slot) == &*demand.key => {
            format!("{}{optional}", demand.key)
        }
        Test::Variable(slot) => format!("{}{optional}: {}", demand.key, variable(*slot)),
    }
}

/// The firings of a rule in a flow, or the first part of the rule that did not match.
///
/// # Errors
/// This version has no rule with this name.
pub fn why_not(
    id: FlowId,
    messages: &[Stored],
    rules: &Rules,
    name: &str,
) -> Result<WhyNot, UnknownSync> {
    let program = &rules.program;
    let Some(sync) = program.syncs.iter().find(|sync| &*sync.name == name) else {
        let names = program.syncs.iter().map(|sync| &*sync.name);
        return Err(UnknownSync {
            name: name.to_owned(),
            meant: nearest(name, names).map(ToString::to_string),
        });
    };
    let logged: Vec<Logged> = messages.iter().filter_map(|message| message.logged(id)).collect();
    let folded = Folded::new(&rules.ready, &rules.limits, id, logged.clone());
    let trace = folded.trace();
    let firings: Vec<String> = trace
        .firings
        .iter()
        .filter(|firing| firing.sync == sync.name && !firing.frames.is_empty())
        .map(|firing| firing.id.to_string())
        .collect();
    if !firings.is_empty() {
        let times =
            if firings.len() == 1 { "once".to_owned() } else { format!("{} times", firings.len()) };
        return Ok(WhyNot {
            sync: name.to_owned(),
            fired: true,
            firings,
            matched: Vec::new(),
            failed: None,
            text: format!("{name} fired {times}"),
        });
    }
    let stopped = folded.stopped(sync);
    let failed = failed(sync, &stopped, &logged);
    let so_far = match stopped.matched.len() {
        0 => String::new(),
        1 => " matched one action, then stopped".to_owned(),
        count => format!(" matched {count} actions, then stopped"),
    };
    let at = match (&failed.pattern, failed.text.as_str()) {
        (Some(_), text) => format!(" at `{text}`"),
        (None, _) => String::new(),
    };
    let lead = if so_far.is_empty() { " stopped".to_owned() } else { so_far };
    Ok(WhyNot {
        sync: name.to_owned(),
        fired: false,
        firings,
        matched: matched_of(&stopped.matched),
        text: format!("{name}{lead}{at}: {}", failed.why),
        failed: Some(failed),
    })
}
