//! The I/O shell around the pure part: NATS, tasks and clocks.

mod delivery;
mod letter;
pub(crate) mod turns;
