//! `concert sync-router`.

use clap::Args;
use concert_runtime::bus::BusArgs;
use concert_runtime::metrics::MetricsArgs;
use concert_runtime::streams::LogLimits;
use concert_runtime::telemetry::LogArgs;
use concert_sync_router::{RouterLimits, RulesArgs};

use super::{DRAIN_TIMEOUT, Service};

/// Arguments of `concert sync-router`.
#[derive(Debug, Clone, Args)]
pub(crate) struct SyncRouterArgs {
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
    pub(crate) log: LogArgs,
}

/// Runs the router until it is asked to stop.
pub(crate) async fn run(args: SyncRouterArgs) -> anyhow::Result<()> {
    // Errors in the rules are reported even if NATS cannot be reached.
    let rules = concert_sync_router::load(&args.rules)?;
    let service = Service {
        name: "sync-router",
        bus: &args.bus,
        metrics: Some(&args.metrics),
    };
    let start =
        async |bus, shutdown| Ok(concert_sync_router::run(bus, rules, &args.limits, args.log_limits, shutdown).await?);
    let drain = async |router: concert_sync_router::Running, _| {
        tokio::time::timeout(DRAIN_TIMEOUT, router.ended()).await?;
        Ok(())
    };
    service.run(start, drain).await
}
