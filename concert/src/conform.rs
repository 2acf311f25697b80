//! `concert conform`: drives a worker program over a real bus, and checks each rule of the worker
//! protocol (`docs/wire.md`).
//!
//! The kit acts as the router and as an operator. The worker connects through a proxy, so that the
//! kit can stop it at an exact step of a delivery.

mod call;
mod frame;
mod journal;
mod report;
mod rows;
mod tap;
mod worker;
mod world;

use std::path::PathBuf;

use clap::Args;

use self::world::World;
use crate::output;

/// Arguments of `concert conform`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConformArgs {
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Print the spec of the concept that the worker must implement, and exit
    #[arg(long, exclusive = true)]
    spec: bool,
    /// Check only rows whose name contains this text; may be repeated
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Directory for downloaded servers; by default `concert` in the user's cache directory
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Command that starts the worker; it runs in the current directory, with the variables of
    /// docs/wire.md
    #[arg(value_name = "COMMAND", last = true, required_unless_present = "spec")]
    command: Vec<String>,
}

/// Runs `concert conform`.
///
/// # Errors
/// A server or the worker does not start, or a row fails.
pub(crate) async fn run(args: ConformArgs) -> anyhow::Result<()> {
    if args.spec {
        return Ok(output::print_text(world::SPEC)?);
    }
    let world = World::start(args.command, args.cache_dir).await?;
    let report = rows::run(&world, &args.only).await;
    world.stop().await;
    output::print_text(&if args.json { report.json()? } else { report.table() })?;
    report.check()
}
