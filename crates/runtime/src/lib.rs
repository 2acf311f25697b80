//! Code that several processes share: the bus, the log, keys, telemetry, shutdown, retries and the
//! clock.
//!
//! All NATS I/O that more than one process uses is here; `concert-wire` defines the messages.

pub mod ack;
pub mod address;
pub mod atomic_file;
pub mod background;
pub mod blob_cache;
pub mod blobs;
pub mod bus;
pub mod chaos;
pub mod clock;
pub mod dead;
pub mod feed;
pub mod key_record;
pub mod keys;
pub mod log;
pub mod metrics;
#[cfg(feature = "mongodb")]
pub mod mongodb;
pub mod nats;
pub mod process;
mod raw;
pub mod repetitions;
pub mod retry;
pub mod route_table;
pub mod seeds;
pub mod service;
pub mod setting;
pub mod streams;
pub mod telemetry;
pub mod terminal;
pub mod unreadable;

/// Allocator of every process. A message is dozens of small allocations, created on one thread and
/// freed on another, which is the case that mimalloc optimises (ADR 1).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
