//! The whole system in one thread, under a clock and a chance that follow from a seed.
//!
//! The engine is the real one. Around it the log, the queues, the routers' shells, the workers,
//! their state, the edges and the clients are modelled step by step, so that a crash, a loss or a
//! pause can come between any two. `docs/simulation.md` says what is modelled and what is not.

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

/// What a run showed that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken(pub String);

/// Runs the world of a seed to its end, and tells where it has been.
///
/// # Errors
/// What must not be.
pub fn run(seed: u64, programs: &Programs, sabotage: Option<Sabotage>) -> Result<Coverage, Broken> {
    let mut world = World::new(seed, programs, sabotage, false);
    world.run().map_err(Broken)?;
    Ok(world.coverage)
}

/// The same, with its whole history, line by line.
pub fn replay(
    seed: u64,
    programs: &Programs,
    sabotage: Option<Sabotage>,
) -> (Vec<String>, Result<(), Broken>) {
    let mut world = World::new(seed, programs, sabotage, true);
    let result = world.run().map_err(Broken);
    (world.told.unwrap_or_default(), result)
}
