//! The rule language: from text to a checked program.
//!
//! Text becomes tokens ([`lexer`]), tokens a syntax tree ([`parser`]), a tree with the concept
//! specs ([`concept`]) a checked [`program`], which
//! `concert-engine` runs. A later stage looks only at what is clean in the earlier ones, and each reports every mistake at once ([`diagnostics`]).
//! [`format()`] needs the first two only: it lays out a file anew.
//!
//! The crate is pure: texts come in, and nothing here reads a file, a clock or a random number.

mod check;
mod compile;
pub mod concept;
pub mod diagnostics;
pub mod expr;
mod format;
pub mod lexer;
mod names;
pub mod parser;
pub mod program;
pub mod requesting;
mod routes;
pub mod shipped;
pub mod source;
pub mod spec;
pub mod syntax;

pub use compile::{Compiled, Texts, compile, staged};
pub use format::format;
pub use names::KEYWORDS;
