//! `concert graph`: which action leads to which, through which rule.

use anyhow::Context as _;
use clap::ValueEnum;
use concert_analysis::graph;

use crate::cli::GraphArgs;
use crate::say;

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
pub(crate) fn run(args: &GraphArgs) -> anyhow::Result<()> {
    let program = concert_sync_router::peruse(&args.rules)?;
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
