//! `concert explain`: explains how a request is handled, in sentences.

use anyhow::Context as _;
use clap::Args;
use concert_analysis::explore::explain;
use concert_wire::routes::split;
use concert_worker::Worker;

use crate::config::{SettingFlags, of};
use crate::output;

/// Arguments of `concert explain`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ExplainArgs {
    /// Path as in the rules, such as `/auth/login` or `GET /articles/:slug`, with or without the
    /// base
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
    // The path of a rule may start with the base.
    let is_known = program.routes.routes.contains_key(&args.path);
    let path = without_base(&args.path, base).filter(|_| !is_known);
    let text = explain(&program, path.as_deref().unwrap_or(&args.path), base)?;
    output::print_text(&text).context("cannot print the explanation")
}

/// A path of the rules without the base. `None` if it does not begin with the base.
fn without_base(text: &str, base: &str) -> Option<String> {
    let (_, path) = split(text);
    let rest = path.strip_prefix(base).filter(|rest| rest.starts_with('/'))?;
    let method = text.strip_suffix(path)?;
    Some(format!("{method}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_is_removed_after_the_method() {
        for (text, expected) in [
            ("/api/auth/login", Some("/auth/login")),
            ("GET /api/articles/:slug", Some("GET /articles/:slug")),
            ("GET /articles/:slug", None),
            ("/apis", None),
        ] {
            assert_eq!(without_base(text, "/api").as_deref(), expected, "{text}");
        }
    }
}
