//! Conversion of rules to places and links.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::model::{Graph, Link, LinkKind, Name, Place};
use concert_lang::program::{Call, Outcome, Pattern, Step, Sync, queries};

/// Builds the graph of these rules. With `only`, every request is to that path.
pub(super) fn build(title: String, syncs: &[Arc<Sync>], only: Option<&str>) -> Graph {
    let mut builder = Builder {
        graph: Graph { title, places: Vec::new(), links: Vec::new() },
        distinguished: BTreeSet::new(),
        answers_lead_on: false,
    };
    for pattern in syncs.iter().flat_map(|sync| &sync.when) {
        let name = Name::new(&pattern.concept, &pattern.action);
        builder.answers_lead_on |= name.is_response();
        if pattern.outcome == Outcome::Failure {
            builder.distinguished.insert(name);
        }
    }
    // Sort by path to keep related nodes together in the output.
    let mut scoped: Vec<(Option<Arc<str>>, &Arc<Sync>)> = syncs
        .iter()
        .map(|sync| (only.map(Arc::from).or_else(|| sync.path().map(Arc::from)), sync))
        .collect();
    scoped.sort_by(|(a, _), (b, _)| (a.is_none(), a).cmp(&(b.is_none(), b)));
    for (path, sync) in scoped {
        builder.rule(path, sync);
    }
    builder.graph
}

struct Builder {
    graph: Graph,
    /// Actions whose failure some rule matches: their outcomes are separate places.
    distinguished: BTreeSet<Name>,
    /// `true` if some rule matches a response, so that all responses share one place.
    answers_lead_on: bool,
}

impl Builder {
    fn rule(&mut self, path: Option<Arc<str>>, sync: &Sync) {
        let sources: Vec<usize> =
            sync.when.iter().map(|pattern| self.source(&path, pattern)).collect();
        let rule = self.place(Place::Rule(sync.name.clone()));
        for source in sources {
            self.link(source, rule, LinkKind::When, "");
        }
        for query in names_of_queries(&sync.steps) {
            let query = self.place(Place::Query(path.clone(), query));
            self.link(rule, query, LinkKind::Asks, "");
        }
        self.sequence(&path, rule, &sync.then, LinkKind::Then, "");
        for call in &sync.elses {
            let target = self.target(&path, call);
            self.link(rule, target, LinkKind::Else, "else");
        }
        if let Some(otherwise) = &sync.otherwise {
            self.sequence(&path, rule, &otherwise.calls, LinkKind::Else, "else");
        }
    }

    /// Adds calls, numbered if there are several.
    fn sequence(
        &mut self,
        path: &Option<Arc<str>>,
        rule: usize,
        calls: &[Call],
        kind: LinkKind,
        word: &str,
    ) {
        for (number, call) in calls.iter().enumerate() {
            let target = self.target(path, call);
            let label = match calls.len() {
                1 => word.to_owned(),
                _ => format!("{word} {}", number + 1).trim().to_owned(),
            };
            self.link(rule, target, kind, &label);
        }
    }

    fn source(&mut self, path: &Option<Arc<str>>, pattern: &Pattern) -> usize {
        let name = Name::new(&pattern.concept, &pattern.action);
        if pattern.is_request() {
            return self.place(Place::Request(path.clone()));
        }
        let action = self.place(Place::Action(name.clone()));
        if !self.distinguished.contains(&name) {
            return action;
        }
        let outcome = self.place(Place::Outcome(name, pattern.outcome));
        self.link(action, outcome, LinkKind::When, "");
        outcome
    }

    fn target(&mut self, path: &Option<Arc<str>>, call: &Call) -> usize {
        let name = Name::new(&call.concept, &call.action);
        if name.is_response() && !self.answers_lead_on {
            return self.place(Place::Answer(path.clone()));
        }
        self.place(Place::Action(name))
    }

    fn place(&mut self, place: Place) -> usize {
        let places = &mut self.graph.places;
        places.iter().position(|known| *known == place).unwrap_or_else(|| {
            places.push(place);
            places.len() - 1
        })
    }

    /// Adds a link, or extends the label of an existing link of the same kind.
    fn link(&mut self, from: usize, to: usize, kind: LinkKind, label: &str) {
        let same = |link: &&mut Link| (link.from, link.to, link.kind) == (from, to, kind);
        match self.graph.links.iter_mut().find(same) {
            Some(link) if link.label == label => {}
            Some(link) => link.label = format!("{},{label}", link.label),
            None => self.graph.links.push(Link { from, to, kind, label: label.to_owned() }),
        }
    }
}

/// The distinct queries of the steps, in order.
fn names_of_queries(steps: &[Step]) -> Vec<Name> {
    let mut found: Vec<Name> = Vec::new();
    for query in queries(steps) {
        let name = Name::new(&query.concept, &query.name);
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}
