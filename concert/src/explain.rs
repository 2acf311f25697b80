//! `concert explain`: what happens to a request, in sentences.

use anyhow::Context as _;
use concert_analysis::explore::explain;

use crate::cli::ExplainArgs;
use crate::say;

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
