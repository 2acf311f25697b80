//! The rule language and the engine that runs it.
//!
//! Text becomes tokens ([`lexer`]), tokens a syntax tree ([`parser`]), a tree with the concept specs ([`concept`]) a checked [`program`], and the [`engine`] runs that.
//! A later stage looks only at what is clean in the earlier ones, and each reports every mistake at once ([`diagnostics`]).
//! [`format()`] needs the first two only: it lays out a file anew.
//!
//! The crate is pure: texts and events come in, and nothing here reads a file, a clock or a random number.

mod check;
mod compile;
pub mod concept;
pub mod describe;
pub mod diagnostics;
pub mod engine;
pub mod explore;
pub mod expr;
mod format;
pub mod graph;
pub mod lexer;
mod names;
pub mod parser;
pub mod paths;
pub mod program;
pub mod provenance;
mod routes;
pub mod source;
pub mod spec;
pub mod syntax;

pub use compile::{Texts, compile, verify};
pub use format::format;
pub use names::KEYWORDS;
