//! What the parts of Concert say to each other: ids, names, values, envelopes, subjects, headers,
//! sealed secrets and the route table.
//!
//! The crate is pure: no I/O, no clock, no randomness, no NATS. Time and fresh ids come in as
//! arguments. What it fixes is described for people in `docs/wire.md`.

pub mod access;
pub mod client;
pub mod envelope;
pub mod header;
pub mod id;
pub mod keyring;
pub mod name;
pub mod routes;
pub mod seal;
pub mod secret;
pub mod subject;
pub mod traceparent;
pub mod value;
pub mod work;

/// The concept whose names are Concert's own: firing records are its completions, and no
/// application may define it.
pub const RESERVED_CONCEPT: &str = "Concert";
/// The action of [`RESERVED_CONCEPT`] that puts a version of the rules in force.
pub const IN_FORCE: &str = "inForce";
/// The action of [`RESERVED_CONCEPT`] that a firing record is the completion of.
pub const FIRED: &str = "fired";

/// The concept whose worker is the HTTP edge.
pub const REQUESTING: &str = "Requesting";
/// The action that an HTTP request is.
pub const REQUEST: &str = "request";
/// The action that an HTTP response is.
pub const RESPOND: &str = "respond";
