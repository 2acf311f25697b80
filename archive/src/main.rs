//! `archive`: the archive as a process of its own.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use concert_archive::ArchiveArgs;
use concert_runtime::bus::{Bus, BusArgs};
use concert_runtime::metrics::{self, MetricsArgs};
use concert_runtime::mongodb::StoreArgs;
use concert_runtime::process::{self, Shutdown};
use concert_runtime::streams::LogLimits;
use concert_runtime::telemetry::LogArgs;

/// Keeps what happened in every flow, and answers questions about it.
#[derive(Debug, Parser)]
#[command(name = "archive", version)]
struct Args {
    #[command(flatten)]
    bus: BusArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    archive: ArchiveArgs,
    #[command(flatten)]
    metrics: MetricsArgs,
    #[command(flatten)]
    log_limits: LogLimits,
    #[command(flatten)]
    log: LogArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let log = args.log.clone();
    process::run(&log, run(args)).await
}

async fn run(args: Args) -> anyhow::Result<()> {
    let shutdown = Shutdown::new();
    let start = Box::pin(async {
        let bus = Bus::connect(&args.bus, "archive").await?;
        let archive = concert_archive::run(
            bus.clone(),
            &args.store,
            &args.archive,
            args.log_limits,
            shutdown.clone(),
        )
        .await?;
        metrics::serve(&args.metrics).await?;
        anyhow::Ok((bus, archive))
    });
    let Some(archive) = process::until_asked_to_stop(start).await? else {
        return Ok(());
    };
    shutdown.begin();
    tokio::time::timeout(Duration::from_secs(15), archive.ended()).await?;
    Ok(())
}
