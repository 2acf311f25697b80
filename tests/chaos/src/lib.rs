//! Runs the whole system as real processes under load and seeded faults. It records the history of
//! the clients and checks it (`docs/reliability.md`).
//!
//! `client` sends requests and checks responses immediately. `nemesis` injects faults. `checker`
//! folds the log and compares everything with it.

pub mod bad_messages;
pub mod build;
pub mod bus;
pub mod checker;
pub mod client;
pub mod cluster;
pub mod disk;
pub mod fault;
pub mod history;
pub mod keys;
pub mod log;
pub mod nemesis;
pub mod nodes;
pub mod options;
pub mod partition;
pub mod points;
pub mod proxy;
pub mod run;
mod tunnel;

pub use options::Options;
pub use run::{Report, run};
