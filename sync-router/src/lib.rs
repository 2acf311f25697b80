//! The sync-router: reads the log, asks the engine what follows from each completion, and publishes
//! the invocations.
//!
//! It owns no state that cannot be rebuilt from the log. Any number may run; one is active, the
//! others stand by.

mod active_rules;
mod effects;
pub mod files;
mod log_trimmer;
mod metrics;
mod queries;
mod query_timing;
mod reload;
mod rules;
mod run;

pub use active_rules::ActiveRulesError;
pub use rules::{LoadError, Rules, RulesArgs, load, load_unverified, read, specs};
pub use run::{RouterLimits, Running, StartError, run};
