//! The engine that runs checked rules: [`Event`] in, [`Effect`]s out. Also the causes of everything
//! in a flow, derived from its log ([`provenance`]).
//!
//! The crate is pure: no I/O, no clock and no randomness.

mod budget;
mod event;
mod flow;
mod frames;
mod index;
mod machine;
mod matching;
pub mod provenance;
mod record;
pub mod requesting;
mod versions;

pub use event::{Context, Effect, Event, Invocation, Limits, Logged, Record};
pub use flow::{
    Mismatch, Stopped, StoppedAt, Trace, TracedCall, TracedFiring, TracedFrame, TracedQuestion,
};
pub use frames::{QueryBatch, Question};
pub use machine::Engine;
pub use versions::Version;
