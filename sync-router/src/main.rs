//! `sync-router`: the router as a process of its own.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use concert_runtime::bus::{Bus, BusArgs};
use concert_runtime::metrics::{self, MetricsArgs};
use concert_runtime::process::{self, Shutdown};
use concert_runtime::streams::LogLimits;
use concert_runtime::telemetry::LogArgs;
use concert_sync_router::{RouterLimits, RulesArgs};

/// Reads the log of completed actions and publishes what the rules say follows from them.
#[derive(Debug, Parser)]
#[command(name = "sync-router", version)]
struct Args {
    #[command(flatten)]
    bus: BusArgs,
    #[command(flatten)]
    rules: RulesArgs,
    #[command(flatten)]
    limits: RouterLimits,
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
    let rules = concert_sync_router::load(&args.rules)?;
    let shutdown = Shutdown::new();
    let start = Box::pin(async {
        let bus = Bus::connect(&args.bus, "sync-router").await?;
        let router =
            concert_sync_router::run(bus.clone(), rules, &args.limits, args.log_limits, shutdown.clone()).await?;
        metrics::serve(&args.metrics).await?;
        anyhow::Ok((bus, router))
    });
    let Some(router) = process::until_asked_to_stop(start).await? else {
        return Ok(());
    };
    shutdown.begin();
    tokio::time::timeout(Duration::from_secs(15), router.ended()).await?;
    Ok(())
}
