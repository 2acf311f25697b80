//! `concert graph`: prints the graph of actions and rules.

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use concert_analysis::graph;
use concert_worker::Worker;

use crate::config::{SettingFlags, of};
use crate::output;

/// Arguments of `concert graph`.
#[derive(Debug, Clone, Args)]
pub(crate) struct GraphArgs {
    /// Only the part that a request to this path can reach
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Option<String>,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Mermaid, value_name = "FORMAT")]
    pub(crate) format: Format,
    #[command(flatten)]
    settings: SettingFlags<of::Rules>,
}

/// Output format of the graph.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    /// Mermaid flowchart, for Markdown pages
    Mermaid,
    /// Graphviz DOT
    Dot,
    /// SVG image
    Svg,
}

/// Prints the graph.
pub(crate) fn run(args: &GraphArgs, workers: &[Worker]) -> anyhow::Result<()> {
    let settings = args.settings.load_and_warn(workers)?;
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
    output::print_text(&text).context("cannot print the graph")
}
