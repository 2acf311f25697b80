//! Analysis of a whole program: every run of every path
//! ([`explore`]), errors and warnings found in those runs ([`verify`]), the graph of rules
//! ([`graph`]) and descriptions for tools ([`describe`]).
//!
//! The crate is pure: texts and programs come in, and nothing here reads a file, a clock or a
//! random number.

pub mod describe;
pub mod explore;
pub mod graph;
pub mod paths;
mod verify;
mod whole;

pub use verify::verify;
