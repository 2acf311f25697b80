//! The arguments of the benchmark.

use std::path::PathBuf;

use clap::Parser;

use crate::kind::Kind;

/// Measures a running Concert, and what this machine could do at best.
#[derive(Debug, Clone, Parser)]
#[command(name = "bench", version)]
pub(crate) struct BenchArgs {
    /// How long each run takes, in seconds.
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) seconds: u64,
    /// Requests in flight.
    #[arg(long, default_values_t = [1, 16, 64], value_delimiter = ',', value_name = "N")]
    pub(crate) in_flight: Vec<usize>,
    /// Runs only these scenarios.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SCENARIO")]
    pub(crate) only: Vec<Kind>,
    /// Measures memory over this many logouts instead.
    #[arg(long, value_name = "FLOWS")]
    pub(crate) soak: Option<u64>,
    /// As in `concert up`.
    #[arg(long, default_value = "1s", value_name = "INTERVAL")]
    pub(crate) sync_interval: String,
    /// As in `concert up`.
    #[arg(long)]
    pub(crate) isolate_parts: bool,
    /// As in `concert up`.
    #[arg(long)]
    pub(crate) no_archive: bool,
    /// Prints only JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// The directory of the concept specs (`*.concept`).
    #[arg(long, env = "CONCERT_CONCEPTS", default_value = "concepts", value_name = "DIR")]
    pub(crate) concepts: PathBuf,
    /// The directory of the rules (`*.sync`).
    #[arg(long, env = "CONCERT_SYNCS", default_value = "syncs", value_name = "DIR")]
    pub(crate) syncs: PathBuf,
}
