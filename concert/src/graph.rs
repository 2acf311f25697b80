//! `concert graph`: which action leads to which, through which rule.

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use concert_analysis::graph;
use concert_worker::Worker;

use crate::config::{SettingFlags, of};
use crate::say;

/// Arguments of `concert graph`.
#[derive(Debug, Clone, Args)]
pub(crate) struct GraphArgs {
    /// Only what a request of this path can lead to.
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Option<String>,
    /// What to write it as.
    #[arg(long, value_enum, default_value_t = Format::Mermaid, value_name = "FORMAT")]
    pub(crate) format: Format,
    #[command(flatten)]
    settings: SettingFlags<of::Rules>,
}

/// What the graph is written as.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    /// A flowchart for Markdown pages.
    Mermaid,
    /// The language of Graphviz.
    Dot,
    /// A picture.
    Svg,
}

/// Prints the graph.
pub(crate) fn run(args: &GraphArgs, workers: &[Worker]) -> anyhow::Result<()> {
    let settings = args.settings.load_aloud(workers)?;
    let program = concert_sync_router::load_unverified(&settings.rules)?;
    let graph = match &args.path {
        None => graph::of(&program),
        Some(path) => graph::of_path(&program, path)?,
    };
    let text = match args.format {
        Format::Mermaid => graph.to_mermaid(),
        Format::Dot => graph.to_dot(),
        Format::Svg => graph.to_svg(),
    };
    say::text(&text).context("the graph cannot be printed")
}
