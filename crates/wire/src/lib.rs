//! The protocol between the components of Concert: ids, names, values, envelopes, subjects,
//! headers, sealed (encrypted) secrets, references to large values, and the route table.
//!
//! The crate is pure: no I/O, no clock, no randomness, no NATS. Time and fresh ids are arguments.
//! `docs/wire.md` describes the protocol.

pub mod access;
pub mod client;
pub mod envelope;
pub mod header;
pub mod id;
pub mod keyring;
pub mod large;
pub mod name;
pub mod nested;
pub mod openapi;
pub mod position;
pub mod routes;
pub mod seal;
pub mod secret;
pub mod subject;
pub mod traceparent;
pub mod value;
mod value_type;
pub mod work;

/// The concept reserved for Concert: firing records are its completions, and no application may
/// define it.
pub const RESERVED_CONCEPT: &str = "Concert";
/// The action of [`RESERVED_CONCEPT`] that activates a version of the rules.
pub const IN_FORCE: &str = "inForce";
/// The action of [`RESERVED_CONCEPT`] whose completions are the firing records.
pub const FIRED: &str = "fired";

/// The concept whose worker is the HTTP edge.
pub const REQUESTING: &str = "Requesting";
/// The action of an HTTP request.
pub const REQUEST: &str = "request";
/// The action of an HTTP response.
pub const RESPOND: &str = "respond";
/// The action of an HTTP response whose body is any value.
pub const RESPOND_WITH: &str = "respondWith";

/// Returns whether the router itself made a call with this [`header::SYNC`], because no rule
/// responded to a fault (`Concert.fault`) or the flow reached a limit (`Concert.limit`).
pub fn is_of_router(sync: &str) -> bool {
    sync.split_once('.').is_some_and(|(of, _)| of == RESERVED_CONCEPT)
}

/// Returns whether this action of this concept is an HTTP response.
pub fn is_response(concept: &str, action: &str) -> bool {
    concept == REQUESTING && [RESPOND, RESPOND_WITH].contains(&action)
}
