//! Scope of one path: the rules that its request can reach, and the values that they distinguish.

mod demands;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use concert_wire::routes::{RouteTable, ValueType};
use concert_wire::{REQUEST, REQUESTING};
use serde_json::Value;

use self::demands::{demands, fields_of, keys};
use super::questions::{self, Asked, Site};
use concert_lang::expr::Expr;
use concert_lang::program::{Call, Outcome, Pattern, Program, Sync, Test};
use concert_lang::spec::{ActionSpec, ConceptSpec, QuerySpec};

/// Input or output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Side {
    Input,
    Output,
}

/// A key of an action's input or output.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) action: String,
    pub(super) side: Side,
    pub(super) key: String,
}

/// Demands of a path's rules on a key.
#[derive(Debug, Default)]
pub(super) struct Demand {
    /// Literals that rules compare it with.
    pub(super) literals: Vec<Value>,
    /// Keys that some rule requires to be equal to it.
    pub(super) joins: Vec<Place>,
}

/// A request key of the path.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) kind: ValueType,
    pub(super) can_be_absent: bool,
    /// `true` if the value affects which rules fire.
    pub(super) decides: bool,
    pub(super) literals: Vec<Value>,
}

/// All rules, original and rewritten, with the specs by name.
pub(crate) struct Rules<'a> {
    pub(crate) program: &'a Program,
    rewritten: Vec<Arc<Sync>>,
    asked: Vec<Asked>,
    actions: HashMap<String, &'a ActionSpec>,
    queries: HashMap<String, &'a QuerySpec>,
    by_path: BTreeMap<String, Vec<usize>>,
    /// Rules without a literal request path.
    pathless: Vec<usize>,
}

/// One path.
pub(crate) struct Scope<'a> {
    pub(crate) path: String,
    /// Rules that the request can reach, by their index in the program.
    pub(crate) rules: Vec<usize>,
    pub(super) program: Program,
    pub(super) keys: Vec<Key>,
    pub(super) demands: HashMap<Place, Demand>,
    /// Fields that the rules read, and the depth of field access.
    pub(super) fields: BTreeSet<String>,
    pub(super) depth: usize,
    /// Questions of the rewritten rules.
    pub(super) asked: &'a [Asked],
    actions: &'a HashMap<String, &'a ActionSpec>,
    queries: &'a HashMap<String, &'a QuerySpec>,
}

/// `Concept.action`.
pub(crate) fn name(concept: &str, action: &str) -> String {
    format!("{concept}.{action}")
}

impl<'a> Rules<'a> {
    pub(crate) fn new(program: &'a Program) -> Self {
        let of = |spec: &'a ConceptSpec| spec.actions.iter().map(move |action| (spec, action));
        let actions = program.concepts.iter().flat_map(of);
        let of = |spec: &'a ConceptSpec| spec.queries.iter().map(move |query| (spec, query));
        let queries = program.concepts.iter().flat_map(of);
        let mut by_path: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        let mut pathless = Vec::new();
        for (number, sync) in program.syncs.iter().enumerate() {
            match sync.path() {
                Some(path) => by_path.entry(path.to_owned()).or_default().push(number),
                None => pathless.push(number),
            }
        }
        let mut asked = Vec::new();
        let rewritten = program.syncs.iter().enumerate();
        let rewritten =
            rewritten.map(|(number, sync)| Arc::new(questions::rewrite(number, sync, &mut asked)));
        Self {
            program,
            rewritten: rewritten.collect(),
            asked,
            actions: actions
                .map(|(spec, action)| (name(&spec.name, &action.name), action))
                .collect(),
            queries: queries.map(|(spec, query)| (name(&spec.name, &query.name), query)).collect(),
            by_path,
            pathless,
        }
    }

    /// All paths that rules handle.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.by_path.keys().map(String::as_str)
    }

    /// Rules without a literal request path.
    pub(crate) fn pathless(&self) -> &[usize] {
        &self.pathless
    }

    pub(crate) fn scope(&'a self, path: &str, routes: &RouteTable) -> Scope<'a> {
        let rules = self.reached(path);
        let syncs: Vec<&Sync> =
            rules.iter().filter_map(|rule| Some(&**self.program.syncs.get(*rule)?)).collect();
        let demands = demands(&syncs);
        let mut fields = BTreeSet::new();
        let depth = syncs.iter().map(|sync| fields_of(sync, &mut fields)).max().unwrap_or(0);
        // Nested objects grow fast, so limit the depth.
        let depth = if fields.len().pow(2) > 100 { depth.min(1) } else { depth.min(2) };
        Scope {
            path: path.to_owned(),
            keys: keys(path, routes, &syncs, &demands),
            program: self.restricted(&rules, &syncs),
            rules,
            demands,
            fields,
            depth,
            asked: &self.asked,
            actions: &self.actions,
            queries: &self.queries,
        }
    }

    /// The rules that can fire after a request to a path: each of their patterns is a request, or
    /// an action that a reachable rule calls.
    fn reached(&self, path: &str) -> Vec<usize> {
        let mut open: Vec<usize> = self.by_path.get(path).into_iter().flatten().copied().collect();
        open.extend(&self.pathless);
        let mut reached = Vec::new();
        let mut called: HashSet<(&str, &str)> = HashSet::from([(REQUESTING, REQUEST)]);
        loop {
            let before = reached.len();
            open.retain(|number| {
                let Some(sync) = self.program.syncs.get(*number) else {
                    return false;
                };
                let mut actions =
                    sync.when.iter().map(|pattern| (&*pattern.concept, &*pattern.action));
                if !actions.all(|action| called.contains(&action)) {
                    return true;
                }
                called.extend(sync.calls().map(|call| (&*call.concept, &*call.action)));
                reached.push(*number);
                false
            });
            if reached.len() == before {
                reached.sort_unstable();
                return reached;
            }
        }
    }

    /// The program with only these rules and the parts of specs that they use.
    fn restricted(&self, rules: &[usize], syncs: &[&Sync]) -> Program {
        let patterns = syncs.iter().flat_map(|sync| &sync.when);
        let mut named: HashSet<(&str, &str)> =
            patterns.map(|pattern| (&*pattern.concept, &*pattern.action)).collect();
        let calls = syncs.iter().flat_map(|sync| sync.calls());
        named.extend(calls.map(|call| (&*call.concept, &*call.action)));
        let concepts = self.program.concepts.iter().map(|spec| {
            let actions = spec.actions.iter();
            ConceptSpec {
                name: spec.name.clone(),
                purpose: String::new(),
                actions: actions
                    .filter(|action| named.contains(&(&*spec.name, &*action.name)))
                    // The outputs of a run are symbolic, so the engine must not check them.
                    .map(|action| ActionSpec { success: None, ..action.clone() })
                    .collect(),
                queries: Vec::new(),
            }
        });
        Program {
            version: self.program.version.clone(),
            syncs: rules.iter().filter_map(|rule| self.rewritten.get(*rule).cloned()).collect(),
            concepts: concepts.collect(),
            routes: RouteTable::default(),
        }
    }
}

impl Scope<'_> {
    /// The index of a rule in the whole program.
    pub(super) fn rule(&self, name: &str) -> Option<usize> {
        let at = self.program.syncs.iter().position(|sync| &*sync.name == name)?;
        self.rules.get(at).copied()
    }

    /// Returns whether the call at this site calls the action.
    pub(crate) fn calls(&self, rule: usize, site: Site, action: &str) -> bool {
        let at = self.rules.iter().position(|known| *known == rule);
        let sync = at.and_then(|at| self.program.syncs.get(at));
        let call = sync.and_then(|sync| site.call(sync));
        call.is_some_and(|call| name(&call.concept, &call.action) == action)
    }

    pub(super) fn action(&self, name: &str) -> Option<&ActionSpec> {
        self.actions.get(name).copied()
    }

    pub(super) fn query(&self, name: &str) -> Option<&QuerySpec> {
        self.queries.get(name).copied()
    }

    pub(super) fn demand(&self, action: &str, side: Side, key: &str) -> Option<&Demand> {
        self.demands.get(&Place { action: action.to_owned(), side, key: key.to_owned() })
    }

    /// Output keys of an action that some rule uses.
    pub(super) fn demanded<'b>(&'b self, action: &'b str) -> impl Iterator<Item = &'b str> {
        let places = self.demands.keys();
        let places =
            places.filter(move |place| place.action == action && place.side == Side::Output);
        places.map(|place| place.key.as_str())
    }
}

/// Returns whether a call can match a pattern: no literals contradict each other.
pub(crate) fn can_match(call: &Call, pattern: &Pattern) -> bool {
    call.concept == pattern.concept
        && call.action == pattern.action
        && pattern.input.iter().all(|demand| {
            let given = call.args.iter().find(|arg| arg.key == demand.key);
            match (&demand.test, given.map(|arg| &arg.value)) {
                (Test::Literal(wanted), Some(Expr::Literal(given))) => {
                    concert_wire::value::equal(wanted, given)
                }
                (_, None) => demand.optional,
                _ => true,
            }
        })
}

/// The verb for an outcome.
pub(crate) const fn ends(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "succeeds",
        Outcome::Failure => "fails",
    }
}
