//! The sync-router: reads the log, asks the engine what follows from each completion, and publishes
//! the invocations.
//!
//! It owns no state that cannot be rebuilt from the log. Any number may run; one is active, the
//! others stand by.

mod asked;
mod effects;
mod figures;
pub mod files;
mod in_force;
mod log_end;
mod queries;
mod reload;
mod rules;
mod run;

pub use in_force::InForceError;
pub use rules::{LoadError, Rules, RulesArgs, load, peruse, read, specs};
pub use run::{RouterLimits, Running, StartError, run};
