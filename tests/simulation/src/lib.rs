//! The whole system in one thread, with a clock and random choices that a seed determines.
//!
//! The engine is the real one. The log, the queues, the routers' shells, the workers with their
//! state, the edges and the clients are modelled step by step. A crash, a loss or a pause can occur
//! between any two steps. `docs/simulation.md` lists the parts of the model.

mod chance;
mod client;
mod coverage;
mod edge;
mod faults;
mod letters;
mod log;
mod nemesis;
mod network;
mod oracle;
mod packet;
mod program;
mod queue;
mod reference;
mod router;
mod server;
mod state;
mod worker;
mod world;

pub use coverage::{Coverage, Mark};
pub use faults::Sabotage;
pub use program::Programs;

use world::World;

/// A violation in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken(pub String);

/// Runs the world of a seed to its end; returns its coverage.
///
/// # Errors
/// The first violation.
pub fn run(seed: u64, programs: &Programs, sabotage: Option<Sabotage>) -> Result<Coverage, Broken> {
    let mut world = World::new(seed, programs, sabotage, false);
    world.run().map_err(Broken)?;
    Ok(world.coverage)
}

/// Like `run`, and also records the whole history, line by line.
pub fn replay(
    seed: u64,
    programs: &Programs,
    sabotage: Option<Sabotage>,
) -> (Vec<String>, Result<(), Broken>) {
    let mut world = World::new(seed, programs, sabotage, true);
    let result = world.run().map_err(Broken);
    (world.lines.unwrap_or_default(), result)
}
