//! Nodes and edges of the graph.

use std::sync::Arc;

use concert_wire::routes::with_base;
use concert_wire::{REQUEST, REQUESTING, RESPOND, is_response};

use concert_lang::program::Outcome;

/// A graph of rules. Places are drawn as nodes, links as arrows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// Title.
    pub title: String,
    /// The nodes; links refer to them by index.
    pub places: Vec<Place>,
    /// The edges; at most one of each kind between two places.
    pub links: Vec<Link>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A request to this path, or to any.
    Request(Option<Arc<str>>),
    /// An action that a rule matches or calls.
    Action(Name),
    /// An outcome of an action; exists only if a rule matches the failure.
    Outcome(Name, Outcome),
    /// A rule.
    Rule(Arc<str>),
    /// A query of the rules of this path.
    Query(Option<Arc<str>>, Name),
    /// The response to requests to this path.
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
    /// Index of its source.
    pub from: usize,
    /// Index of its destination.
    pub to: usize,
    /// Kind.
    pub kind: LinkKind,
    /// The number of the call in its sequence, `else`, or nothing.
    pub label: String,
}

/// Kind of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// A rule matches this, or an action has this outcome.
    When,
    /// A rule calls this.
    Then,
    /// A rule calls this if a step has no result or a call fails.
    Else,
    /// A rule runs this query.
    Asks,
}

impl Place {
    /// Text in the node, with control characters escaped.
    pub fn label(&self) -> String {
        match self {
            Self::Request(Some(path)) => visible(&with_base(path, "")),
            Self::Request(None) => "any path".to_owned(),
            Self::Action(name) | Self::Query(_, name) => name.to_string(),
            Self::Outcome(_, Outcome::Success) => "success".to_owned(),
            Self::Outcome(_, Outcome::Failure) => "failure".to_owned(),
            Self::Rule(name) => name.to_string(),
            Self::Answer(_) => format!("{REQUESTING}.{RESPOND}"),
        }
    }

    /// Description of the node, for its tooltip.
    pub fn description(&self) -> String {
        let of_path = |path: &Option<Arc<str>>| {
            path.as_ref().map(|path| visible(path)).unwrap_or("any path".to_owned())
        };
        match self {
            Self::Request(path) => {
                format!("a request to {} ({REQUESTING}.{REQUEST})", of_path(path))
            }
            Self::Action(name) => format!("the action {name}"),
            Self::Outcome(name, Outcome::Success) => format!("the success of {name}"),
            Self::Outcome(name, Outcome::Failure) => format!("the failure of {name}"),
            Self::Rule(name) => format!("the rule {name}"),
            Self::Query(path, name) => format!("the query {name} of {}", of_path(path)),
            Self::Answer(path) => {
                format!("the response to {} ({REQUESTING}.{RESPOND})", of_path(path))
            }
        }
    }
}

impl Name {
    pub(super) fn new(concept: &Arc<str>, name: &Arc<str>) -> Self {
        Self { concept: concept.clone(), name: name.clone() }
    }

    pub(super) fn is_response(&self) -> bool {
        is_response(&self.concept, &self.name)
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
            // Characters that are invalid in XML.
            '\u{fffe}' | '\u{ffff}' => char::REPLACEMENT_CHARACTER.to_string(),
            c if c.is_control() => c.escape_default().to_string(),
            c => c.to_string(),
        })
        .collect()
}
