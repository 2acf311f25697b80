//! The options of a run.

use std::path::PathBuf;
use std::time::Duration;

use crate::fault::Fault;

/// The options of a run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The seed of the random choices.
    pub seed: u64,
    /// The duration of load and faults.
    pub time: Duration,
    /// Requests per second.
    pub rate: u32,
    /// The interval between faults.
    pub fault_every: Duration,
    /// `true` if there are three servers of each kind instead of one.
    pub three: bool,
    /// `true` if all connections are encrypted; only with one server of each kind.
    pub tls: bool,
    /// `true` if MongoDB has a user for each concept; only with one server of each kind.
    pub mongodb_users: bool,
    /// `true` if the servers' data is on small disks, which can be filled. If that is not
    /// permitted, the run reports it.
    pub small_disks: bool,
    /// The only fault to inject.
    pub only: Option<Fault>,
    /// The guard to disable.
    pub sabotage: Option<String>,
    /// The `concert` program of an earlier release, which runs one router, one archive and the
    /// workers.
    pub beside: Option<PathBuf>,
    /// The directory of `concepts` and `syncs`, if not those of this repository.
    pub rules: Option<PathBuf>,
    /// The programs, built with the feature `chaos`.
    pub programs: PathBuf,
    /// The directory of logs and results.
    pub dir: PathBuf,
}
