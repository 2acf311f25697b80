//! `concert describe`: the application as tools read it.

use anyhow::Context as _;
use clap::ValueEnum;
use concert_analysis::describe;

use crate::cli::DescribeArgs;
use crate::say;

/// What is described.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Described {
    /// The paths that the edge answers, as OpenAPI 3.1.
    Openapi,
    /// What is said on the bus, as AsyncAPI 3.1.
    Asyncapi,
}

/// Prints the description.
pub(crate) fn run(args: &DescribeArgs) -> anyhow::Result<()> {
    let program = concert_sync_router::peruse(&args.rules)?;
    let document = match args.what {
        Described::Openapi => describe::openapi(&program, args.base.trim_end_matches('/')),
        Described::Asyncapi => describe::asyncapi(&program),
    };
    let text = serde_json::to_string_pretty(&document).context("the description cannot be written")?;
    say::text(&format!("{text}\n")).context("the description cannot be printed")
}
