//! `concert explain`: what happens to a request, in sentences.

use anyhow::Context as _;
use clap::Args;
use concert_analysis::explore::explain;
use concert_worker::Worker;

use crate::config::{SettingFlags, of};
use crate::say;

/// Arguments of `concert explain`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ExplainArgs {
    /// The path, such as `/auth/login`, with or without the base.
    #[arg(value_name = "PATH")]
    pub(crate) path: String,
    #[command(flatten)]
    settings: SettingFlags<of::Rules>,
}

/// Prints the story of a path.
pub(crate) fn run(args: &ExplainArgs, workers: &[Worker]) -> anyhow::Result<()> {
    let settings = args.settings.load_aloud(workers)?;
    let program = concert_sync_router::load_unverified(&settings.rules)?;
    let base = settings.http.base.trim_end_matches('/');
    let path = match args.path.strip_prefix(base) {
        // A rule may wait for a path that begins like the base.
        Some(rest) if rest.starts_with('/') && !program.routes.routes.contains_key(&args.path) => {
            rest
        }
        _ => &args.path,
    };
    let text = explain(&program, path, base)?;
    say::text(&text).context("the story cannot be printed")
}
