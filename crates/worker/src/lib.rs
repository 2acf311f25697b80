//! The worker host: everything that a concept's worker needs beside the concept itself.
//!
//! A worker is a spec, handlers for its actions and queries, and [`run`]. The host takes the concept's invocations from its stream, checks them against the spec, opens secrets,
//! calls the handler, publishes the completion and acknowledges, in the order that makes every action happen once in effect (`docs/delivery.md`).
//! The host knows no database: how an action is made idempotent is the handler's part, with the action's id as the stamp.

mod audit;
mod concept;
mod figures;
mod host;
pub mod intake;
mod lease;
mod log_start;
pub mod order;
pub mod outcome;
mod query;
mod sealing;
mod service;
mod stopwatch;
pub mod store;
mod worker;

// For concepts that show what happens without their stamps.
pub use concept::{BadConcept, Call, Concept, ConceptBuilder, Failure, Outcome, Query, Rows, row};
pub use concert_runtime::clock::now_ms;
pub use concert_runtime::{metrics, sabotaged, setting};
pub use lease::{Lease, MayNotWrite};
pub use stopwatch::part;
pub use worker::{HostLimits, Running, StartError, run};
