//! Finds, fetches, starts and stops `nats-server` and `mongod`, for `concert up` and for the tests.
//!
//! What is started here ends with the process that started it, however that ends, and is stopped by its process id.

mod binaries;
mod guardian;
mod mongo;
mod nats;
mod packages;
mod port;
mod throwaway;

pub use binaries::{Binaries, FindError, FindOptions, Program, find_or_fetch};
pub use guardian::Exited;
pub use mongo::{MongoOptions, MongoServer, initiate_replica_set};
pub use nats::{NatsOptions, NatsServer, include};
pub use packages::{FetchError, Progress};
pub use port::Port;
pub use throwaway::{Throwaway, ThrowawayError};

use std::path::PathBuf;

/// What a server shows to its clients.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// A file with the certificate and its private key, as PEM.
    pub file: PathBuf,
    /// A file with the certificate that it follows from.
    pub ca: PathBuf,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Something listens on the port already.
    #[error("port {port} is taken, so {program} cannot listen there; choose another with {flag} (0 is any free one)")]
    PortTaken {
        /// The program.
        program: Program,
        /// The port.
        port: u16,
        /// The flag of `concert up`.
        flag: &'static str,
    },
    /// The data directory cannot be used.
    #[error("the data directory {path} cannot be written: {source}", path = .path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Another process uses the data directory.
    #[error("the data directory {path} is in use by the process {pid}; stop that one, or choose another directory with --data-dir", path = .path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The server that uses it.
        pid: u32,
    },
    /// The program cannot be run.
    #[error("{program} cannot be run: {source}")]
    Spawn {
        /// The program.
        program: Program,
        /// Why not.
        source: std::io::Error,
    },
    /// The program ended at its start.
    #[error("{program} ended at its start ({status}); the end of its log {log_file}:\n{tail}", log_file = .log_file.display())]
    Ended {
        /// The program.
        program: Program,
        /// How.
        status: String,
        /// Its log.
        log_file: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// The program runs but does not serve.
    #[error("{program} is not ready after {seconds} s: {why}; its log is {log_file}", log_file = .log_file.display())]
    NotReady {
        /// The program.
        program: Program,
        /// How long it was waited for.
        seconds: u64,
        /// What it answered last.
        why: String,
        /// Its log.
        log_file: PathBuf,
    },
}
