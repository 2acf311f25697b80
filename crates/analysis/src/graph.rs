//! The rules as a graph: which action leads to which, through which rule.
//!
//! A rule is a node of its own, since it joins several patterns and leads to several calls.
//! Requests and answers stand once for each path, and so do queries: if all rules met in one
//! `Requesting.respond`, nobody could follow a line. The same program gives the same graph, byte
//! for byte.

mod build;
mod dot;
mod layout;
mod mermaid;
mod model;
mod reach;
mod svg;

pub use self::model::{Graph, Link, LinkKind, Name, Place};
use crate::paths::{UnknownPath, unknown};
use concert_lang::program::Program;

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
