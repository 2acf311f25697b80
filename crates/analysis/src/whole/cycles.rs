//! Cycles of rules: action, rule, action.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::places::Places;
use crate::explore::{Site, can_match, name};
use concert_lang::diagnostics::{CYCLE, Diagnostic};
use concert_lang::program::{Pattern, Program, Sync};

/// Cycles of all paths, by their rules.
#[derive(Default)]
pub(super) struct Cycles {
    found: BTreeMap<BTreeSet<usize>, Cycle>,
}

struct Cycle {
    rules: Vec<usize>,
    /// `true` if a run of some path was cut in the cycle.
    is_cut: bool,
}

impl Cycles {
    /// Finds cycles among rules that can fire in one flow.
    pub(super) fn look(&mut self, program: &Program, rules: &[usize], is_cut: bool) {
        let rule = |rule: usize| program.syncs.get(rule).map(|sync| &**sync);
        let mut waiting: HashMap<(&str, &str), Vec<(usize, &Pattern)>> = HashMap::new();
        for (number, sync) in rules.iter().filter_map(|number| Some((*number, rule(*number)?))) {
            for pattern in &sync.when {
                let key = (&*pattern.concept, &*pattern.action);
                waiting.entry(key).or_default().push((number, pattern));
            }
        }
        let mut next: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for (number, sync) in rules.iter().filter_map(|number| Some((*number, rule(*number)?))) {
            for call in sync.calls() {
                let patterns = waiting.get(&(&*call.concept, &*call.action)).into_iter().flatten();
                let led =
                    patterns.filter(|(_, pattern)| can_match(call, pattern)).map(|(led, _)| *led);
                next.entry(number).or_default().extend(led);
            }
        }
        for start in rules {
            let Some(cycle) = shortest(&next, *start) else { continue };
            let key = cycle.iter().copied().collect();
            let known = self.found.entry(key).or_insert(Cycle { rules: cycle, is_cut: false });
            known.is_cut |= is_cut;
        }
    }

    pub(super) fn judge(
        &self,
        program: &Program,
        places: &Places<'_>,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        for cycle in self.found.values() {
            let Some(first) = cycle.rules.iter().copied().min() else {
                continue;
            };
            if cycle.rules.iter().any(|rule| places.allows(*rule, CYCLE)) {
                continue;
            }
            let mut rules = cycle.rules.clone();
            let at = rules.iter().position(|rule| *rule == first).unwrap_or(0);
            rules.rotate_left(at);
            let syncs: Vec<&Sync> =
                rules.iter().filter_map(|rule| Some(&**program.syncs.get(*rule)?)).collect();
            let pairs = syncs.iter().zip(syncs.iter().cycle().skip(1));
            let links: Vec<(&Sync, String, Site)> =
                pairs.filter_map(|(from, to)| link(from, to)).collect();
            let Some((_, last, _)) = links.last() else { continue };
            let round = links.iter().fold(last.clone(), |round, (rule, action, _)| {
                format!("{round} -> {} -> {action}", rule.name)
            });
            let message = format!("rule cycle: {round}");
            let span = match links.first() {
                Some((_, _, site)) => places.call(first, *site),
                None => places.name(first),
            };
            let diagnostic = Diagnostic::warning(CYCLE, span, message);
            let help = if cycle.is_cut {
                "end the cycle with a condition; now only a limit of the engine stops such a flow"
            } else {
                "make sure that an action fails or a step of `where` has no result in the end"
            };
            diagnostics.push(diagnostic.help(help));
        }
    }
}

/// The shortest cycle through a rule.
fn shortest(next: &BTreeMap<usize, BTreeSet<usize>>, start: usize) -> Option<Vec<usize>> {
    let mut from: HashMap<usize, usize> = HashMap::new();
    let mut open = VecDeque::from([start]);
    while let Some(rule) = open.pop_front() {
        for led in next.get(&rule).into_iter().flatten() {
            if *led == start {
                let mut way = vec![rule];
                while let Some(before) = way.last().and_then(|rule| from.get(rule)) {
                    way.push(*before);
                }
                way.reverse();
                return Some(way);
            }
            if !from.contains_key(led) {
                from.insert(*led, rule);
                open.push_back(*led);
            }
        }
    }
    None
}

/// The call of a rule that triggers another one: the action and its site.
fn link<'a>(from: &'a Sync, to: &Sync) -> Option<(&'a Sync, String, Site)> {
    let leads = |pattern: &Pattern| Site::all(from).find(|(_, call)| can_match(call, pattern));
    let (site, call) = to.when.iter().find_map(leads)?;
    Some((from, name(&call.concept, &call.action), site))
}
