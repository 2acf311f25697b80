//! Why a server does not start.

use std::path::PathBuf;

use crate::binaries::Program;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Something listens on the port already.
    #[error(
        "port {port} is taken, so {program} cannot listen there; choose another with {flag} (0 is any free one)"
    )]
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
