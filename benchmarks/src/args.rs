//! Command-line arguments of the benchmark.

use std::path::PathBuf;

use clap::Parser;

use crate::kind::Kind;

/// Benchmark Concert, and compare it with what this machine can do at best
#[derive(Debug, Clone, Parser)]
#[command(name = "bench", version)]
pub(crate) struct BenchArgs {
    /// Duration of each run, in seconds
    #[arg(
        long,
        default_value_t = 5,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u64).range(1..=600)
    )]
    pub(crate) seconds: u64,
    /// Numbers of concurrent requests
    #[arg(long, default_values_t = [1, 16, 64], value_delimiter = ',', value_name = "N")]
    pub(crate) in_flight: Vec<usize>,
    /// Run only these scenarios
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SCENARIO")]
    pub(crate) only: Vec<Kind>,
    /// Measure memory over this many logouts instead
    #[arg(long, value_name = "FLOWS")]
    pub(crate) soak: Option<u64>,
    /// Same as in `concert up`
    #[arg(long, default_value = "1s", value_name = "INTERVAL")]
    pub(crate) sync_interval: String,
    /// Same as in `concert up`
    #[arg(long)]
    pub(crate) isolate_parts: bool,
    /// Same as in `concert up`
    #[arg(long)]
    pub(crate) no_archive: bool,
    /// Print only JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Directory of the concept specs (`*.concept`)
    #[arg(long, env = "CONCERT_CONCEPTS", default_value = "concepts", value_name = "DIR")]
    pub(crate) concepts: PathBuf,
    /// Directory of the rules (`*.sync`)
    #[arg(long, env = "CONCERT_SYNCS", default_value = "syncs", value_name = "DIR")]
    pub(crate) syncs: PathBuf,
}
