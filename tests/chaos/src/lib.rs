//! The whole system as real processes, under load and under faults from a seed, with a history of
//! what clients saw and a checker that judges it (`docs/reliability.md`).
//!
//! Load, history, nemesis, checker: `client` asks and judges what it can at once, `nemesis` breaks
//! things, `checker` folds the log and holds everything against it.

pub mod border;
pub mod build;
pub mod bus;
pub mod checker;
pub mod client;
pub mod cluster;
pub mod disk;
pub mod forge;
pub mod history;
pub mod keys;
pub mod nemesis;
pub mod nodes;
pub mod points;
pub mod proxy;
pub mod run;

pub use run::{Options, Report, run};
