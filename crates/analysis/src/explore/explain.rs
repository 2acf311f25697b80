//! What happens to a request, outcome by outcome, in sentences: all runs of its path, told as one
//! tree.

use std::collections::BTreeSet;

use concert_wire::routes::Route;

use super::moments::{Moment, Told};
use super::run::{Run, Schedule};
use super::scope::{Rules, name};
use super::words::{answer_keys, is_answer, list, status};
use crate::paths::{UnknownPath, unknown};
use concert_lang::program::Program;

/// What happens to a request of this path; `base` stands before the path in what is told.
///
/// # Errors
/// No rule waits for the path; the error says which path may be meant.
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
    let mut text = format!("POST {base}{path} takes {}.\n\n", takes(route, &names));
    tree.tell(&Telling { program }, None).write(0, &mut text);
    let rules = program.syncs.iter().enumerate();
    let others = rules.filter(|(rule, sync)| sync.path() == Some(path) && !fired.contains(rule));
    let others: Vec<String> = others.map(|(_, sync)| sync.name.to_string()).collect();
    if is_complete && !others.is_empty() {
        let others = list(&others);
        text.push_str(&format!("\nOnly if something else happens meanwhile, if ever: {others}.\n"));
    }
    if !is_complete {
        text.push_str("\nThere are more runs than can be told.\n");
    }
    Ok(text)
}

fn takes(route: &Route, names: &[&str]) -> String {
    let keys = names.iter().filter_map(|name| Some((name, route.keys.get(*name)?)));
    let keys: Vec<String> = keys
        .map(|(name, key)| match (key.secret, key.required) {
            (false, true) => (*name).to_owned(),
            (true, true) => format!("{name} (secret)"),
            (false, false) => format!("{name} (may be left out)"),
            (true, false) => format!("{name} (secret, may be left out)"),
        })
        .collect();
    if keys.is_empty() { "nothing".to_owned() } else { list(&keys) }
}

/// Runs by their common beginnings.
#[derive(Debug, Default)]
struct Tree {
    next: Vec<(Moment, Tree)>,
    /// How often the request was answered in the run that ends here.
    answers: Option<usize>,
}

impl Tree {
    fn add(&mut self, run: Run) {
        // Two stand for many, and what follows is told once.
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

    /// Tells what follows; `before` is what happened last.
    fn tell(&self, telling: &Telling<'_>, before: Option<&Moment>) -> Part {
        let mut sentences = Sentences::default();
        let (mut at, mut last) = (self, before);
        while let [(moment, next)] = at.next.as_slice() {
            sentences.add(telling, moment);
            (at, last) = (next, Some(moment));
        }
        match at.answers {
            Some(0) => sentences.end(NOBODY),
            Some(1) | None => {}
            Some(_) => sentences.end("So the request is answered more than once."),
        }
        let mut branches = at.branches(telling, last);
        // What makes no difference is not told.
        if let [_] = branches.as_slice()
            && let Some((_, only)) = branches.pop()
        {
            return sentences.followed_by(only);
        }
        Part { text: sentences.finished(), branches }
    }

    /// What may happen next, each with its condition; what leads to the same is one.
    fn branches(&self, telling: &Telling<'_>, before: Option<&Moment>) -> Vec<(String, Part)> {
        let mut branches: Vec<(Vec<&Moment>, Part)> = Vec::new();
        for (moment, next) in &self.next {
            let told = next.tell(telling, Some(moment));
            match branches.iter_mut().find(|(_, other)| *other == told) {
                Some((moments, _)) => moments.push(moment),
                None => branches.push((vec![moment], told)),
            }
        }
        let condition = |moments: &[&Moment], in_detail| {
            let mut all: Vec<String> =
                moments.iter().map(|moment| telling.condition(moment, before, in_detail)).collect();
            all.dedup();
            all.join(", or ")
        };
        let mut short: Vec<String> =
            branches.iter().map(|(moments, _)| condition(moments, false)).collect();
        short.sort_unstable();
        let in_detail = short.windows(2).any(|pair| matches!(pair, [a, b] if a == b));
        let named = branches.into_iter();
        let mut named: Vec<_> =
            named.map(|(moments, told)| (condition(&moments, in_detail), told)).collect();
        named.sort_by_key(|(condition, _)| condition.starts_with("not "));
        named
    }
}

const NOBODY: &str = "No rule answers.";

/// A part of the story: sentences, and what may follow.
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
        // One hurdle after another is told as such, and not each within the one before.
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
        for (condition, told) in &self.branches {
            told.write_branch(depth, &format!("If {condition}"), text);
        }
    }

    fn write_branch(&self, depth: usize, lead: &str, text: &mut String) {
        text.push_str(&format!("{}- {lead}:", "  ".repeat(depth)));
        match self.text.as_slice() {
            [] if self.branches.is_empty() => text.push_str(" nothing more happens.\n"),
            [only] if only == NOBODY => text.push_str(&format!(" {}\n", NOBODY.to_lowercase())),
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

/// Sentences, of which one rule's calls in a row are one.
#[derive(Debug, Default)]
struct Sentences {
    done: Vec<String>,
    rule: Option<usize>,
    /// What this rule does.
    does: Vec<(String, usize)>,
    subject: String,
}

impl Sentences {
    fn add(&mut self, telling: &Telling<'_>, moment: &Moment) {
        match moment {
            Moment::Calls { rule, site } => {
                let Some(sync) = telling.program.syncs.get(*rule) else {
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
                        Some(status) => format!("answers {status}{with}"),
                        None => format!("answers{with}"),
                    }
                } else {
                    format!("asks {}", name(&call.concept, &call.action))
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
            // A comma before `and`, since an answer is a list already.
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

struct Telling<'a> {
    program: &'a Program,
}

impl Telling<'_> {
    /// What makes the difference, to stand behind "If".
    fn condition(&self, moment: &Moment, before: Option<&Moment>, in_detail: bool) -> String {
        match moment {
            Moment::Key { name, told } => match told {
                Told::Something => format!("the request has {name}"),
                Told::This(value) => format!("{name} is {value}"),
                Told::Other => format!("{name} is anything else"),
                Told::Absent => format!("the request has no {name}"),
            },
            Moment::Calls { rule, .. } => {
                let sync = self.program.syncs.get(*rule);
                format!("{} goes first", sync.map_or("?", |sync| &sync.name))
            }
            Moment::Ends { action, failed, told } => {
                let subject = if self.calls(before, action) { "it" } else { action };
                let ends = if *failed { "fails" } else { "succeeds" };
                let told = told.as_ref().map(|told| format!(" ({})", told.replace('`', "")));
                format!("{subject} {ends}{}", told.unwrap_or_default())
            }
            Moment::Has { action, key, value, has } => {
                let not = if *has { "" } else { "not " };
                match value {
                    Some(value) => format!("the {key} of {action} is {not}{value}"),
                    None => format!("the {key} of {action} is {not}the one that a rule looks for"),
                }
            }
            Moment::Finds { query, rows: 0 } => format!("{query} finds nothing"),
            Moment::Finds { query, .. } => format!("{query} finds something"),
            Moment::Fits { query, key, fits: true } => {
                format!("the {key} that {query} finds is the right one")
            }
            Moment::Fits { query, key, fits: false } => {
                format!("the {key} that {query} finds is another")
            }
            Moment::Says { query, key, value } => format!("{query} finds that {key} is {value}"),
            Moment::Holds { text, holds: true, which: Some(which), .. } if in_detail => {
                format!("`{text}`, being {which}")
            }
            Moment::Holds { text, holds: true, .. } => format!("`{text}`"),
            Moment::Holds { text, holds: false, .. } => format!("not `{text}`"),
            Moment::Lists { text, count: 0, .. } => format!("{text} is empty"),
            Moment::Lists { text, .. } => format!("{text} is not empty"),
        }
    }

    /// Whether this is a call of an action.
    fn calls(&self, moment: Option<&Moment>, action: &str) -> bool {
        let Some(Moment::Calls { rule, site }) = moment else {
            return false;
        };
        let call = self.program.syncs.get(*rule).and_then(|sync| site.call(sync));
        call.is_some_and(|call| name(&call.concept, &call.action) == action)
    }
}
