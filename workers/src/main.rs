//! `worker <concept>`: the worker of one concept as a process of its own.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use concert_runtime::bus::{Bus, BusArgs};
use concert_runtime::keys::KeyArgs;
use concert_runtime::metrics::{self, MetricsArgs};
use concert_runtime::process::{self, Shutdown};
use concert_runtime::streams::LogLimits;
use concert_runtime::telemetry::LogArgs;
use concert_worker::store::StoreArgs;
use concert_workers::{Name, WorkerArgs};

/// Carries out the actions of one concept.
#[derive(Debug, Parser)]
#[command(name = "worker", version)]
struct Args {
    /// The concept.
    #[arg(value_enum)]
    concept: Name,
    #[command(flatten)]
    bus: BusArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    keys: KeyArgs,
    #[command(flatten)]
    worker: WorkerArgs,
    #[command(flatten)]
    metrics: MetricsArgs,
    #[command(flatten)]
    log_limits: LogLimits,
    #[command(flatten)]
    log: LogArgs,
}

/// How long actions that were begun may take once shutdown is asked for.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let log = args.log.clone();
    process::run(&log, run(args)).await
}

async fn run(args: Args) -> anyhow::Result<()> {
    let shutdown = Shutdown::new();
    let start = Box::pin(async {
        let bus = Bus::connect(&args.bus, args.concept.concept()).await?;
        let worker = concert_workers::run(
            args.concept,
            bus.clone(),
            &args.store,
            &args.keys.keys,
            &args.worker,
            &args.log_limits,
            shutdown.clone(),
        )
        .await?;
        metrics::serve(&args.metrics).await?;
        anyhow::Ok((bus, worker))
    });
    let Some(worker) = process::until_asked_to_stop(start).await? else {
        return Ok(());
    };
    if !shutdown.drained(DRAIN_TIMEOUT).await {
        tracing::warn!("what was begun is left to another worker");
    }
    worker.ended().await;
    Ok(())
}
