//! Graph of the rules: which action leads to which other one, through which rule.
//!
//! A rule is a node, because it joins several patterns and makes several calls. Requests, responses
//! and queries have one node per path: if all rules met in one `Requesting.respond`, edges would be
//! impossible to follow. The same program gives the same graph, byte for byte.

mod build;
mod dot;
mod layout;
mod mermaid;
mod model;
mod reach;
mod svg;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use self::model::{Graph, Link, LinkKind, Name, Place};
use crate::paths::{UnknownPath, unknown};
use concert_lang::program::Program;

/// The graph of all rules.
pub fn of(program: &Program) -> Graph {
    build::build("All rules".to_owned(), &program.syncs, None)
}

/// The graph of the rules that a request to this path can reach.
///
/// # Errors
/// No rule handles the path; the error suggests a similar path.
pub fn of_path(program: &Program, path: &str) -> Result<Graph, UnknownPath> {
    if !program.routes.routes.contains_key(path) {
        return Err(unknown(program, path));
    }
    let title = format!("Rules after {}", Place::Request(Some(path.into())).label());
    Ok(build::build(title, &reach::reached(program, path), Some(path)))
}

/// The concepts that a request to this path can need: those that its rules call or query.
pub fn concepts_of_path(program: &Program, path: &str) -> BTreeSet<Arc<str>> {
    let reached = reach::reached(program, path);
    reached.iter().flat_map(|sync| sync.concepts()).cloned().collect()
}

impl Graph {
    /// As a Mermaid flowchart.
    pub fn to_mermaid(&self) -> String {
        mermaid::render(self)
    }

    /// In the DOT language of Graphviz.
    pub fn to_dot(&self) -> String {
        dot::render(self)
    }

    /// As a self-contained SVG image.
    pub fn to_svg(&self) -> String {
        svg::render(self)
    }
}
