//! Command-line arguments of the benchmark.

use std::path::PathBuf;

use clap::Parser;

use crate::kind::Kind;
use crate::peer::Peer;

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
    /// Number of routers; the second and further ones are processes. Each service then has its own
    /// account, as with `--isolate-parts`. One router is active
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) routers: usize,
    /// Number of edges, in the same way; the clients use them in turn
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) edges: usize,
    /// Number of workers of each concept that the scenarios need, in the same way
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) workers: usize,
    /// Number of rounds; the report has the medians of flows/s and ratios
    #[arg(
        long,
        default_value_t = 1,
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=100)
    )]
    pub(crate) rounds: u16,
    /// Start a second stack with this environment variable, such as `CONCERT_NATS__ISOLATE=true`;
    /// each round measures both, and the report has their ratio
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    pub(crate) versus: Vec<(String, String)>,
    /// Start the second stack with this program, such as an earlier build of the benchmark
    #[arg(long, value_name = "FILE")]
    pub(crate) versus_program: Option<PathBuf>,
    /// Also measure another system: a POST of `{"session": "…"}` to its URL returns 404 and
    /// `Session not found`, as in `benchmarks/peers`
    #[arg(long, value_name = "NAME=URL")]
    pub(crate) peer: Vec<Peer>,
    /// Size of the books that `large` uploads during logins, in MiB before base64
    #[arg(
        long,
        default_value_t = 23,
        value_name = "MIB",
        value_parser = clap::value_parser!(u8).range(1..=47)
    )]
    pub(crate) upload_mib: u8,
    /// Number of books of 3 MB that `large` lists
    #[arg(
        long,
        default_value_t = 40,
        value_name = "N",
        value_parser = clap::value_parser!(u8).range(1..=100)
    )]
    pub(crate) books: u8,
    /// Print JSON instead of Markdown, and no progress
    #[arg(long)]
    pub(crate) json: bool,
    /// Also write the report to bench.json and bench.md in this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Directory of the concept specs (`*.concept`)
    #[arg(long, env = "CONCERT_CONCEPTS", default_value = "concepts", value_name = "DIR")]
    pub(crate) concepts: PathBuf,
    /// Directory of the rules (`*.sync`)
    #[arg(long, env = "CONCERT_SYNCS", default_value = "syncs", value_name = "DIR")]
    pub(crate) syncs: PathBuf,
}

impl BenchArgs {
    /// Returns whether each service has its own account.
    pub(crate) fn isolates_parts(&self) -> bool {
        self.isolate_parts || self.routers.max(self.edges).max(self.workers) > 1
    }

    /// Returns whether a second stack is measured.
    pub(crate) fn has_second_stack(&self) -> bool {
        !self.versus.is_empty() || self.versus_program.is_some()
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
