//! The rules as a graph: which action leads to which, through which rule.
//!
//! A rule is a node of its own, since it joins several patterns and leads to several calls. Requests and answers stand once for each path, and so do queries: if all
//! rules met in one `Requesting.respond`, nobody could follow a line. The same program gives the same graph, byte for byte.

mod build;
mod dot;
mod layout;
mod mermaid;
mod reach;
mod svg;

use std::sync::Arc;

use concert_wire::{REQUEST, REQUESTING, RESPOND};

use crate::diagnostics::nearest;
use crate::program::{Outcome, Program};

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
    /// One of the two ways in which an action ends; there only for actions whose failure a rule waits for.
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

/// No rule waits for a request of a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no rule waits for a request of `{path}`; {hint}")]
pub struct UnknownPath {
    /// The path.
    pub path: String,
    /// Which path may be meant, or which there are.
    pub hint: String,
}

/// How many paths are named to someone who asked for one that is not there.
const NAMED_PATHS: usize = 12;

/// All rules.
pub fn of(program: &Program) -> Graph {
    build::build("All rules".to_owned(), &program.syncs, None)
}

/// What a request of this path can lead to.
///
/// # Errors
/// No rule names the path; the error says which path may be meant.
pub fn of_path(program: &Program, path: &str) -> Result<Graph, UnknownPath> {
    if !program.routes.routes.contains_key(path) {
        return Err(unknown(program, path));
    }
    let title = format!("What {} leads to", Place::Request(Some(path.into())).label());
    Ok(build::build(title, &reach::reached(program, path), Some(path)))
}

pub(crate) fn unknown(program: &Program, path: &str) -> UnknownPath {
    let known: Vec<&str> = program.routes.routes.keys().map(String::as_str).collect();
    let near = nearest(path, known.iter().copied());
    let hint = match (near, known.len()) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, 0) => "no rule names a path".to_owned(),
        (None, count) => {
            let named: Vec<String> = known
                .iter()
                .take(NAMED_PATHS)
                .map(|known| format!("`{known}`"))
                .collect();
            let more = match count.saturating_sub(NAMED_PATHS) {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            format!("there are {}{more}", named.join(", "))
        }
    };
    let path = path.to_owned();
    UnknownPath { path, hint }
}

impl Graph {
    /// As a Mermaid flowchart.
    pub fn to_mermaid(&self) -> String {
        mermaid::render(self)
    }

    /// In the language of Graphviz.
    pub fn to_dot(&self) -> String {
        dot::render(self)
    }

    /// As a picture, which needs nothing else to be seen.
    pub fn to_svg(&self) -> String {
        svg::render(self)
    }
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
        let of_path =
            |path: &Option<Arc<str>>| path.as_ref().map(|path| visible(path)).unwrap_or("any path".to_owned());
        match self {
            Self::Request(path) => format!("a request of {} ({REQUESTING}.{REQUEST})", of_path(path)),
            Self::Action(name) => format!("the action {name}"),
            Self::Outcome(name, Outcome::Success) => format!("the success of {name}"),
            Self::Outcome(name, Outcome::Failure) => format!("the failure of {name}"),
            Self::Rule(name) => format!("the rule {name}"),
            Self::Query(path, name) => format!("the query {name}, asked for {}", of_path(path)),
            Self::Answer(path) => format!("the answer to {} ({REQUESTING}.{RESPOND})", of_path(path)),
        }
    }
}

impl Name {
    fn new(concept: &Arc<str>, name: &Arc<str>) -> Self {
        Self {
            concept: concept.clone(),
            name: name.clone(),
        }
    }

    fn is(&self, concept: &str, name: &str) -> bool {
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
