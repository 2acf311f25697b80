//! `concert explain`: what happens to a request, in sentences.

use anyhow::Context as _;
use clap::Args;
use concert_analysis::explore::explain;
use concert_sync_router::RulesArgs;

use crate::say;

/// Arguments of `concert explain`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ExplainArgs {
    /// The path, such as `/auth/login`, with or without what stands before all paths.
    #[arg(value_name = "PATH")]
    pub(crate) path: String,
    /// What stands before all paths.
    #[arg(long, env = "CONCERT_BASE", default_value = "/api", value_name = "PATH")]
    pub(crate) base: String,
    #[command(flatten)]
    pub(crate) rules: RulesArgs,
}

/// Prints the story of a path.
pub(crate) fn run(args: &ExplainArgs) -> anyhow::Result<()> {
    let program = concert_sync_router::peruse(&args.rules)?;
    let base = args.base.trim_end_matches('/');
    let path = match args.path.strip_prefix(base) {
        // A rule may wait for a path that begins like the base.
        Some(rest) if rest.starts_with('/') && !program.routes.routes.contains_key(&args.path) => rest,
        _ => &args.path,
    };
    let text = explain(&program, path, base)?;
    say::text(&text).context("the story cannot be printed")
}
