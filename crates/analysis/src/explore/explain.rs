//! Explanation of a path: all its runs as one tree of sentences.

use std::collections::BTreeSet;

use concert_wire::routes::{Route, with_base};

use super::moments::{KeyValue, Moment};
use super::run::{Run, Schedule};
use super::scope::{Rules, name};
use super::words::{answer_keys, is_answer, list, status};
use crate::paths::{UnknownPath, unknown};
use concert_lang::program::Program;

/// Explains how a request to this path is handled; `base` is the URL prefix.
///
/// # Errors
/// No rule handles the path; the error suggests a similar path.
pub fn explain(program: &Program, path: &str, base: &str) -> Result<String, UnknownPath> {
    let Some(route) = program.routes.routes.get(path) else {
        return Err(unknown(program, path));
    };
    let rules = Rules::new(program);
    let scope = rules.scope(path, &program.routes);
    let mut tree = Tree::default();
    let mut fired = BTreeSet::new();
    let is_complete = super::explore(&scope, Schedule::FirstInFirstOut, |mut run| {
        fired.append(&mut run.fired);
        tree.add(run);
    });
    let names: Vec<&str> = scope.keys.iter().map(|key| key.name.as_str()).collect();
    let mut text =
        format!("{} accepts {}.\n\n", with_base(path, base), accepted_keys(route, &names));
    tree.describe(&Wording { program }, None).write(0, &mut text);
    let rules = program.syncs.iter().enumerate();
    let others = rules.filter(|(rule, sync)| sync.path() == Some(path) && !fired.contains(rule));
    let others: Vec<String> = others.map(|(_, sync)| sync.name.to_string()).collect();
    if is_complete && !others.is_empty() {
        let others = list(&others);
        text.push_str(&format!(
            "\nOnly if another flow changes something in the meantime, or never: {others}.\n"
        ));
    }
    if !is_complete {
        text.push_str("\nThis list is incomplete: there are too many runs.\n");
    }
    Ok(text)
}

fn accepted_keys(route: &Route, names: &[&str]) -> String {
    let keys = names.iter().filter_map(|name| Some((name, route.keys.get(*name)?)));
    let keys: Vec<String> = keys
        .map(|(name, key)| match (key.secret, key.required) {
            (false, true) => (*name).to_owned(),
            (true, true) => format!("{name} (secret)"),
            (false, false) => format!("{name} (optional)"),
            (true, false) => format!("{name} (secret, optional)"),
        })
        .collect();
    if keys.is_empty() { "nothing".to_owned() } else { list(&keys) }
}

/// Runs as a tree by their common beginnings.
#[derive(Debug, Default)]
struct Tree {
    next: Vec<(Moment, Tree)>,
    /// Number of responses in the run that ends here.
    answers: Option<usize>,
}

impl Tree {
    fn add(&mut self, run: Run) {
        // Runs with several rows or elements repeat those with one, so they are not described.
        let is_many = |moment: &Moment| {
            matches!(moment, Moment::Finds { rows: 2, .. } | Moment::Lists { count: 2, .. })
        };
        if run.moments.iter().any(is_many) {
            return;
        }
        let mut at = self;
        for moment in run.moments {
            let known = at.next.iter().position(|(known, _)| *known == moment);
            let number = known.unwrap_or_else(|| {
                at.next.push((moment, Tree::default()));
                at.next.len() - 1
            });
            match at.next.get_mut(number) {
                Some((_, next)) => at = next,
                None => return,
            }
        }
        at.answers = Some(run.answers.len());
    }

    /// Describes the subtree; `before` is the previous moment.
    fn describe(&self, wording: &Wording<'_>, before: Option<&Moment>) -> Part {
        let mut sentences = Sentences::default();
        let (mut at, mut last) = (self, before);
        while let [(moment, next)] = at.next.as_slice() {
            sentences.add(wording, moment);
            (at, last) = (next, Some(moment));
        }
        match at.answers {
            Some(0) => sentences.end(NO_RESPONSE),
            Some(1) | None => {}
            Some(_) => sentences.end("The request gets more than one response."),
        }
        let mut branches = at.branches(wording, last);
        // Skip a condition without effect.
        if let [_] = branches.as_slice()
            && let Some((_, only)) = branches.pop()
        {
            return sentences.followed_by(only);
        }
        Part { text: sentences.finished(), branches }
    }

    /// The next steps with their conditions; steps with equal consequences are merged.
    fn branches(&self, wording: &Wording<'_>, before: Option<&Moment>) -> Vec<(String, Part)> {
        let mut branches: Vec<(Vec<&Moment>, Part)> = Vec::new();
        for (moment, next) in &self.next {
            let part = next.describe(wording, Some(moment));
            match branches.iter_mut().find(|(_, other)| *other == part) {
                Some((moments, _)) => moments.push(moment),
                None => branches.push((vec![moment], part)),
            }
        }
        let condition = |moments: &[&Moment], in_detail| {
            let mut all: Vec<String> =
                moments.iter().map(|moment| wording.condition(moment, before, in_detail)).collect();
            all.dedup();
            all.join(", or ")
        };
        let mut short: Vec<String> =
            branches.iter().map(|(moments, _)| condition(moments, false)).collect();
        short.sort_unstable();
        let in_detail = short.windows(2).any(|pair| matches!(pair, [a, b] if a == b));
        let named = branches.into_iter();
        let mut named: Vec<_> =
            named.map(|(moments, part)| (condition(&moments, in_detail), part)).collect();
        named.sort_by_key(|(condition, _)| condition.starts_with("not "));
        named
    }
}

const NO_RESPONSE: &str = "No rule responds.";

/// Sentences, and the conditions that follow.
#[derive(Debug, PartialEq)]
struct Part {
    text: Vec<String>,
    branches: Vec<(String, Part)>,
}

impl Part {
    fn write(&self, depth: usize, text: &mut String) {
        if !self.text.is_empty() {
            text.push_str(&self.text.join(" "));
            text.push('\n');
        }
        // Write successive checks as a flat list, not nested.
        let (mut part, mut lead) = (self, "If");
        while let [(_, passed), (hurdle, end)] = part.branches.as_slice() {
            let goes_on = passed.text.is_empty() && !passed.branches.is_empty();
            if !end.branches.is_empty() || (lead == "If" && !goes_on) {
                break;
            }
            end.write_branch(depth, &format!("{lead} {hurdle}"), text);
            lead = "Otherwise, if";
            if !goes_on {
                return passed.write_branch(depth, "Otherwise", text);
            }
            part = passed;
        }
        if lead != "If" {
            return part.write_branch(depth, "Otherwise", text);
        }
        for (condition, part) in &self.branches {
            part.write_branch(depth, &format!("If {condition}"), text);
        }
    }

    fn write_branch(&self, depth: usize, lead: &str, text: &mut String) {
        text.push_str(&format!("{}- {lead}:", "  ".repeat(depth)));
        match self.text.as_slice() {
            [] if self.branches.is_empty() => text.push_str(" nothing more happens.\n"),
            [only] if only == NO_RESPONSE => {
                text.push_str(&format!(" {}\n", NO_RESPONSE.to_lowercase()))
            }
            [] => {
                text.push('\n');
                self.write(depth + 1, text);
            }
            _ => {
                text.push(' ');
                self.write(depth + 1, text);
            }
        }
    }
}

/// Sentences; consecutive calls of one rule form one sentence.
#[derive(Debug, Default)]
struct Sentences {
    done: Vec<String>,
    rule: Option<usize>,
    /// Actions of this rule.
    does: Vec<(String, usize)>,
    subject: String,
}

impl Sentences {
    fn add(&mut self, wording: &Wording<'_>, moment: &Moment) {
        match moment {
            Moment::Calls { rule, site } => {
                let Some(sync) = wording.program.syncs.get(*rule) else {
                    return;
                };
                let Some(call) = site.call(sync) else { return };
                if self.rule != Some(*rule) {
                    self.close();
                    self.rule = Some(*rule);
                    self.subject = sync.name.to_string();
                }
                let does = if is_answer(call) {
                    let keys = answer_keys(sync, call);
                    let with = if keys.is_empty() {
                        String::new()
                    } else {
                        format!(" with {}", list(&keys))
                    };
                    match status(call) {
                        Some(status) => format!("responds {status}{with}"),
                        None => format!("responds{with}"),
                    }
                } else {
                    format!("calls {}", name(&call.concept, &call.action))
                };
                match self.does.last_mut() {
                    Some((last, times)) if *last == does => *times += 1,
                    _ => self.does.push((does, 1)),
                }
            }
            Moment::Ends { action, failed: true, .. } => {
                self.end(&format!("{action} fails."));
            }
            _ => {}
        }
    }

    fn close(&mut self) {
        self.rule = None;
        let does = std::mem::take(&mut self.does).into_iter();
        let does: Vec<String> = does
            .map(|(does, times)| match times {
                1 => does,
                times => format!("{does} {times} times"),
            })
            .collect();
        let text = match does.as_slice() {
            [] => return,
            [one] => format!("{} {one}.", self.subject),
            // A comma before `and`, because a response is itself a list.
            [first @ .., last] => format!("{} {}, and {last}.", self.subject, first.join(", ")),
        };
        self.done.push(text);
    }

    fn end(&mut self, sentence: &str) {
        self.close();
        self.done.push(sentence.to_owned());
    }

    fn finished(mut self) -> Vec<String> {
        self.close();
        self.done
    }

    fn followed_by(self, next: Part) -> Part {
        let mut text = self.finished();
        text.extend(next.text);
        Part { text, branches: next.branches }
    }
}

struct Wording<'a> {
    program: &'a Program,
}

impl Wording<'_> {
    /// The condition, for use after "If".
    fn condition(&self, moment: &Moment, before: Option<&Moment>, in_detail: bool) -> String {
        match moment {
            Moment::Key { name, value } => match value {
                KeyValue::Something => format!("the request has {name}"),
                KeyValue::This(value) => format!("{name} is {value}"),
                KeyValue::Other => format!("{name} is anything else"),
                KeyValue::Absent => format!("the request has no {name}"),
            },
            Moment::Calls { rule, .. } => {
                let sync = self.program.syncs.get(*rule);
                format!("{} runs first", sync.map_or("?", |sync| &sync.name))
            }
            Moment::Ends { action, failed, detail } => {
                let subject = if self.calls(before, action) { "it" } else { action };
                let ends = if *failed { "fails" } else { "succeeds" };
                let detail = detail.as_ref().map(|text| format!(" ({})", text.replace('`', "")));
                format!("{subject} {ends}{}", detail.unwrap_or_default())
            }
            Moment::Has { action, key, value, has } => {
                let not = if *has { "" } else { "not " };
                match value {
                    Some(value) => format!("the {key} of {action} is {not}{value}"),
                    None => format!("the {key} of {action} is {not}the one that a rule matches"),
                }
            }
            Moment::Finds { query, rows: 0 } => format!("{query} finds nothing"),
            Moment::Finds { query, .. } => format!("{query} finds something"),
            Moment::Fits { query, key, fits: true } => {
                format!("the {key} that {query} finds matches")
            }
            Moment::Fits { query, key, fits: false } => {
                format!("the {key} that {query} finds does not match")
            }
            Moment::Says { query, key, value } => {
                format!("the {key} that {query} finds is {value}")
            }
            Moment::Holds { text, holds: true, which: Some(which), .. } if in_detail => {
                format!("`{text}`, being {which}")
            }
            Moment::Holds { text, holds: true, .. } => format!("`{text}`"),
            Moment::Holds { text, holds: false, .. } => format!("not `{text}`"),
            Moment::Lists { text, count: 0, .. } => format!("{text} is empty"),
            Moment::Lists { text, .. } => format!("{text} is not empty"),
        }
    }

    /// Returns whether the moment is a call of this action.
    fn calls(&self, moment: Option<&Moment>, action: &str) -> bool {
        let Some(Moment::Calls { rule, site }) = moment else {
            return false;
        };
        let call = self.program.syncs.get(*rule).and_then(|sync| site.call(sync));
        call.is_some_and(|call| name(&call.concept, &call.action) == action)
    }
}
