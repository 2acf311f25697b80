//! The sync-router: consumes the log, computes the effects of each completion with the engine, and
//! publishes the invocations.
//!
//! It has no state that cannot be rebuilt from the log. Any number of routers may run; one is
//! active, the others are on standby.

mod active_rules;
mod effects;
pub mod files;
mod log_trimmer;
mod metrics;
mod queries;
mod query_timing;
mod reload;
mod requesting;
mod retry;
mod rules;
mod run;
mod takeover;
mod unanswered;
mod worker_specs;

pub use active_rules::ActiveRulesError;
pub use retry::{RetryError, retry};
pub use rules::{LoadError, Rules, RulesArgs, load, load_unverified, read, specs};
pub use run::{RouterLimits, Running, StartError, run};
