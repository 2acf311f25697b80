//! `concert explain`: explains how a request is handled, in sentences.

use anyhow::Context as _;
use clap::Args;
use concert_analysis::explore::explain;
use concert_worker::Worker;

use crate::config::{SettingFlags, of};
use crate::output;

/// Arguments of `concert explain`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ExplainArgs {
    /// Path, such as `/auth/login`, with or without the base
    #[arg(value_name = "PATH")]
    pub(crate) path: String,
    #[command(flatten)]
    settings: SettingFlags<of::Rules>,
}

/// Prints the explanation of a path.
pub(crate) fn run(args: &ExplainArgs, workers: &[Worker]) -> anyhow::Result<()> {
    let settings = args.settings.load_and_warn(workers)?;
    let program = concert_sync_router::load_unverified(&settings.rules)?;
    let base = settings.http.base.trim_end_matches('/');
    let path = match args.path.strip_prefix(base) {
        // The path of a rule may start with the base.
        Some(rest) if rest.starts_with('/') && !program.routes.routes.contains_key(&args.path) => {
            rest
        }
        _ => &args.path,
    };
    let text = explain(&program, path, base)?;
    output::print_text(&text).context("cannot print the explanation")
}
