//! The rule language: compiles text to a checked program.
//!
//! The lexer ([`lexer`]) makes tokens, the parser ([`parser`]) a syntax tree. The checker combines
//! it with the concept specs ([`concept`]) to a [`program`], which `concert-engine` runs. Each
//! stage reports all its errors ([`diagnostics`]) and runs only if the earlier ones reported none.
//! [`format()`] needs only the first two stages.
//!
//! The crate is pure: it reads no file, clock or random number.

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
