//! Analysis of a whole program: exploration of every run of every path ([`explore`]), errors and
//! warnings about those runs ([`verify`]), the graph of rules ([`graph`]) and descriptions for
//! tools ([`describe`]).
//!
//! The crate is pure: it reads no file, clock or random number.

pub mod describe;
pub mod explore;
pub mod graph;
pub mod paths;
mod verify;
mod whole;

pub use verify::verify;
