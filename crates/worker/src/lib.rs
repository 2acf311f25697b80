//! The SDK for workers. A concept is a spec, a state type, and methods; the host does the rest.
//!
//! The host fetches a concept's invocations, checks them against the spec, decrypts secrets, calls
//! the handler, publishes the completion, and acknowledges. In this order, every action takes
//! effect once (`docs/delivery.md`). `store` makes the writes of a handler idempotent.
//! `examples/labels/src/label.rs` is a complete concept.
//!
//! [`intake`], [`order`] and [`outcome`] decide without I/O. Without the feature `host`, the crate
//! consists of these three only.

pub mod intake;
pub mod order;
pub mod outcome;
mod sealing;

#[cfg(feature = "host")]
mod audit;
#[cfg(feature = "host")]
mod boxed;
#[cfg(feature = "host")]
mod call;
#[cfg(feature = "host")]
mod concept;
#[cfg(feature = "host")]
mod define;
#[cfg(feature = "host")]
mod host;
#[cfg(feature = "host")]
mod large;
#[cfg(feature = "host")]
mod lease;
#[cfg(feature = "host")]
mod oldest_message;
#[cfg(feature = "host")]
mod permit;
#[cfg(feature = "host")]
mod process;
#[cfg(feature = "host")]
mod query;
#[cfg(feature = "host")]
mod service;
#[cfg(feature = "host")]
mod settings;
#[cfg(feature = "host")]
mod start;
#[cfg(feature = "host")]
mod stopwatch;
#[cfg(feature = "host")]
pub mod store;
#[cfg(feature = "test-support")]
pub mod trial;
#[cfg(feature = "host")]
mod worker;
#[cfg(feature = "host")]
mod worker_metrics;

#[cfg(feature = "host")]
pub use {
    call::{Call, NoPermit, Query, Stop, refused, retry, reveal, throttled},
    concert_runtime::{
        background::{lower_priority, pause_after},
        clock::now_ms,
        metrics,
    },
    concert_wire::client::ClientTag,
    concert_wire::id::{ActionId, FlowId},
    concert_wire::keyring::{Key, LiveKeyring},
    concert_wire::position::Position,
    concert_wire::seal::Sealer,
    concert_wire::secret::Secret,
    define::{Define, Handler, Handlers, IntoRows, Mismatch, One, Worker, concept, given},
    large::{Fingerprint, Large},
    permit::WritePermit,
    process::{ProcessError, main, run},
    settings::{NoSettings, Ranges, list},
    start::{Options, Start, StartError},
    stopwatch::part,
    worker::{HostLimits, Running, StartError as HostError},
};
