//! `concert bench`: prints the command that replaces it. For one version only.

use anyhow::bail;
use clap::Args;

/// Arguments of the benchmark, in any form.
#[derive(Debug, Clone, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct BenchArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    args: Vec<String>,
}

/// Fails with the command to type instead.
pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let command = ["cargo run --release -p concert-benchmarks --"]
        .into_iter()
        .chain(args.args.iter().map(String::as_str));
    bail!(
        "the benchmark is a separate program; in the repository, run `{}`",
        command.collect::<Vec<_>>().join(" ")
    )
}
