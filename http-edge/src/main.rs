//! `http-edge`: the edge as a process of its own.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use concert_http_edge::EdgeArgs;
use concert_runtime::bus::{Bus, BusArgs};
use concert_runtime::keys::KeyArgs;
use concert_runtime::process::{self, Shutdown};
use concert_runtime::streams::LogLimits;
use concert_runtime::telemetry::LogArgs;
use concert_worker::HostLimits;

/// Turns HTTP requests into actions, and the actions that answer them into responses.
#[derive(Debug, Parser)]
#[command(name = "http-edge", version)]
struct Args {
    #[command(flatten)]
    bus: BusArgs,
    #[command(flatten)]
    edge: EdgeArgs,
    #[command(flatten)]
    keys: KeyArgs,
    #[command(flatten)]
    host: HostLimits,
    #[command(flatten)]
    log_limits: LogLimits,
    #[command(flatten)]
    log: LogArgs,
}

/// Enough for two looks at `/readyz` of whoever stands before the edge.
const DRAIN_DELAY_MS: u64 = 1000;

#[tokio::main]
async fn main() -> ExitCode {
    let mut args = Args::parse();
    args.edge.limits.drain_delay_ms.get_or_insert(DRAIN_DELAY_MS);
    let log = args.log.clone();
    process::run(&log, run(args)).await
}

async fn run(args: Args) -> anyhow::Result<()> {
    let shutdown = Shutdown::new();
    let start = Box::pin(async {
        let bus = Bus::connect(&args.bus, "http-edge").await?;
        let edge = concert_http_edge::run(
            bus.clone(),
            &args.edge,
            &args.keys.keys,
            args.host,
            args.log_limits,
            shutdown.clone(),
        )
        .await?;
        anyhow::Ok((bus, edge))
    });
    let Some(edge) = process::until_asked_to_stop(start).await? else {
        return Ok(());
    };
    shutdown.begin();
    edge.ended(Duration::from_millis(args.edge.limits.deadline_ms)).await;
    Ok(())
}
