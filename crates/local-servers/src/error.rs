//! Errors of starting a server.

use std::path::PathBuf;

use crate::program::Program;

/// Errors of starting a server.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process listens on the port.
    #[error(
        "{program} cannot listen on port {port}: another process uses it; choose another port with \
         {flag} (0 picks a free port)"
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
    #[error(
        "cannot write the data directory {path}: {source}; choose another with --data-dir",
        path = .path.display()
    )]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Another process uses the data directory.
    #[error(
        "the data directory {path} is in use by process {pid}; stop that process, or choose \
         another directory with --data-dir",
        path = .path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process that uses it.
        pid: u32,
    },
    /// The program cannot be executed.
    #[error("cannot run {program}: {source}; check that its file is executable")]
    Spawn {
        /// The program.
        program: Program,
        /// The cause.
        source: std::io::Error,
    },
    /// The program runs, but does not print its version.
    #[error(
        "{binary} does not run: {output}\n\
         Repair it, or take it off the PATH so that Concert downloads one",
        binary = .binary.display()
    )]
    DoesNotRun {
        /// The program.
        binary: PathBuf,
        /// Its output.
        output: String,
    },
    /// The data needs another version of the program.
    #[error(
        "{binary} is {program} {version}, which cannot use the data in {data_dir}: it was written \
         by version {written_by}; install {program} {written_by} or a newer release of the same \
         major version, or take {binary} off the PATH so that Concert downloads one",
        binary = .binary.display(), data_dir = .data_dir.display()
    )]
    OtherVersion {
        /// The program.
        program: Program,
        /// Path of the program.
        binary: PathBuf,
        /// Its version.
        version: String,
        /// The data directory.
        data_dir: PathBuf,
        /// Version that wrote the data.
        written_by: String,
    },
    /// The program exited during its start.
    #[error(
        "{program} failed to start ({status}); last lines of its log {log_file}:\n\
         {tail}",
        log_file = .log_file.display()
    )]
    Ended {
        /// The program.
        program: Program,
        /// Exit status.
        status: String,
        /// Its log.
        log_file: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// The program runs but is not ready.
    #[error(
        "{program} is not ready after {seconds} s: {why}; see its log {log_file}",
        log_file = .log_file.display()
    )]
    NotReady {
        /// The program.
        program: Program,
        /// Timeout in seconds.
        seconds: u64,
        /// Its last answer.
        why: String,
        /// Its log.
        log_file: PathBuf,
    },
}
