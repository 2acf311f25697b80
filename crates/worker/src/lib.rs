//! The worker host: everything that a concept's worker needs beside the concept itself.
//!
//! A worker is a spec, handlers for its actions and queries, and `run`. The host takes the concept's invocations from its stream, checks them against the spec, opens secrets,
//! calls the handler, publishes the completion and acknowledges, in the order that makes every action happen once in effect (`docs/delivery.md`).
//! The host knows no database: how an action is made idempotent is the handler's part, with the action's id as the stamp.
//!
//! [`intake`], [`order`] and [`outcome`] decide without I/O, and are all that there is without the
//! feature `host`.

pub mod intake;
pub mod order;
pub mod outcome;
mod sealing;

#[cfg(feature = "host")]
mod audit;
#[cfg(feature = "host")]
mod concept;
#[cfg(feature = "host")]
mod figures;
#[cfg(feature = "host")]
mod host;
#[cfg(feature = "host")]
mod lease;
#[cfg(feature = "host")]
mod log_start;
#[cfg(feature = "host")]
mod query;
#[cfg(feature = "host")]
mod service;
#[cfg(feature = "host")]
mod stopwatch;
#[cfg(feature = "store")]
pub mod store;
#[cfg(feature = "host")]
mod worker;

#[cfg(feature = "host")]
pub use concept::{BadConcept, Call, Concept, ConceptBuilder, Failure, Outcome, Query, Rows, row};
// For concepts that show what happens without their stamps.
#[cfg(feature = "host")]
pub use concert_runtime::{clock::now_ms, metrics, sabotaged, setting};
#[cfg(feature = "host")]
pub use lease::{Lease, MayNotWrite};
#[cfg(feature = "host")]
pub use stopwatch::part;
#[cfg(feature = "host")]
pub use worker::{HostLimits, Running, StartError, run};
