//! The sync-router: reads the log, asks the engine what follows from each completion, and publishes the invocations.
//!
//! It owns no state that cannot be rebuilt from the log. Any number may run; one is active, the others stand by.

mod effects;
mod log_end;
mod queries;
mod rules;
mod run;

pub use rules::{LoadError, RulesArgs, load};
pub use run::{RouterLimits, Running, StartError, run};
