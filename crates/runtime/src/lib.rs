//! What every process needs and no process should write twice: the bus, the log, keys, telemetry,
//! shutdown, retries and the clock.
//!
//! All I/O with NATS that more than one process does is here; what is said over it is fixed by
//! `concert-wire`.

pub mod ack;
pub mod address;
pub mod atomic_file;
pub mod bus;
pub mod chaos;
pub mod clock;
pub mod dead;
pub mod feed;
pub mod keys;
pub mod log;
pub mod metrics;
#[cfg(feature = "mongodb")]
pub mod mongodb;
pub mod nats;
pub mod process;
mod raw;
pub mod retry;
pub mod route_table;
pub mod seeds;
pub mod service;
pub mod setting;
pub mod streams;
pub mod telemetry;
pub mod terminal;
pub mod unreadable;

/// Of every process: a message is some dozens of small allocations, made on one thread and freed on
/// another, which this allocator is made for (ADR 1).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
