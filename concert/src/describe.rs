//! `concert describe`: the application as tools read it.

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use concert_analysis::describe;
use concert_worker::Worker;

use crate::config::{SettingFlags, of};
use crate::say;

/// Arguments of `concert describe`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DescribeArgs {
    /// What is described.
    #[arg(value_enum, value_name = "WHAT")]
    pub(crate) what: Described,
    #[command(flatten)]
    settings: SettingFlags<of::Rules>,
}

/// What is described.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Described {
    /// The paths that the edge answers, as OpenAPI 3.1.
    Openapi,
    /// What is said on the bus, as AsyncAPI 3.1.
    Asyncapi,
}

/// Prints the description.
pub(crate) fn run(args: &DescribeArgs, workers: &[Worker]) -> anyhow::Result<()> {
    let settings = args.settings.load_aloud(workers)?;
    let program = concert_sync_router::load_unverified(&settings.rules)?;
    let document = match args.what {
        Described::Openapi => describe::openapi(&program, settings.http.base.trim_end_matches('/')),
        Described::Asyncapi => describe::asyncapi(&program),
    };
    let text =
        serde_json::to_string_pretty(&document).context("the description cannot be written")?;
    say::text(&format!("{text}\n")).context("the description cannot be printed")
}
