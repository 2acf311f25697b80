//! Nodes and edges of the graph.

use std::sync::Arc;

use concert_wire::{REQUEST, REQUESTING, RESPOND};

use concert_lang::program::Outcome;

/// What leads to what. Its places are drawn as nodes, its links as arrows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// What is shown, in a few words.
    pub title: String,
    /// The nodes; links name them by their number here.
    pub places: Vec<Place>,
    /// The edges. Between two places there is at most one of a kind.
    pub links: Vec<Link>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A request of this path, or of any.
    Request(Option<Arc<str>>),
    /// An action that a rule waits for or calls.
    Action(Name),
    /// One of the two ways in which an action ends; there only for actions whose failure a rule
    /// waits for.
    Outcome(Name, Outcome),
    /// A rule.
    Rule(Arc<str>),
    /// A query, as the rules of this path ask it.
    Query(Option<Arc<str>>, Name),
    /// The answer to requests of this path.
    Answer(Option<Arc<str>>),
}

/// An action or a query, with its concept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The concept's name.
    pub concept: Arc<str>,
    /// The name of the action or query.
    pub name: Arc<str>,
}

/// An edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The number of the place that it leaves.
    pub from: usize,
    /// The number of the place that it leads to.
    pub to: usize,
    /// What it means.
    pub kind: LinkKind,
    /// The number of the call in its sequence, `else`, or nothing.
    pub label: String,
}

/// What an edge means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// A rule waits for this, or an action ends so.
    When,
    /// A rule calls this.
    Then,
    /// A rule calls this when a step leaves nothing, or when a call has failed.
    Else,
    /// A rule asks this.
    Asks,
}

impl Place {
    /// What stands in the node. No control characters do: a path may hold them.
    pub fn label(&self) -> String {
        match self {
            Self::Request(Some(path)) => format!("POST {}", visible(path)),
            Self::Request(None) => "POST any path".to_owned(),
            Self::Action(name) | Self::Query(_, name) => name.to_string(),
            Self::Outcome(_, Outcome::Success) => "success".to_owned(),
            Self::Outcome(_, Outcome::Failure) => "failure".to_owned(),
            Self::Rule(name) => name.to_string(),
            Self::Answer(_) => format!("{REQUESTING}.{RESPOND}"),
        }
    }

    /// What the node is, to someone who does not see where it stands.
    pub fn description(&self) -> String {
        let of_path = |path: &Option<Arc<str>>| {
            path.as_ref().map(|path| visible(path)).unwrap_or("any path".to_owned())
        };
        match self {
            Self::Request(path) => {
                format!("a request of {} ({REQUESTING}.{REQUEST})", of_path(path))
            }
            Self::Action(name) => format!("the action {name}"),
            Self::Outcome(name, Outcome::Success) => format!("the success of {name}"),
            Self::Outcome(name, Outcome::Failure) => format!("the failure of {name}"),
            Self::Rule(name) => format!("the rule {name}"),
            Self::Query(path, name) => format!("the query {name}, asked for {}", of_path(path)),
            Self::Answer(path) => {
                format!("the answer to {} ({REQUESTING}.{RESPOND})", of_path(path))
            }
        }
    }
}

impl Name {
    pub(super) fn new(concept: &Arc<str>, name: &Arc<str>) -> Self {
        Self { concept: concept.clone(), name: name.clone() }
    }

    pub(super) fn is(&self, concept: &str, name: &str) -> bool {
        &*self.concept == concept && &*self.name == name
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.concept, self.name)
    }
}

fn visible(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            // What XML cannot hold at all.
            '\u{fffe}' | '\u{ffff}' => char::REPLACEMENT_CHARACTER.to_string(),
            c if c.is_control() => c.escape_default().to_string(),
            c => c.to_string(),
        })
        .collect()
}
