//! `concert http-edge`.

use std::time::Duration;

use clap::Args;
use concert_http_edge::EdgeArgs;
use concert_runtime::bus::BusArgs;
use concert_runtime::keys::KeyArgs;
use concert_runtime::streams::LogLimits;
use concert_runtime::telemetry::LogArgs;
use concert_worker::HostLimits;

use super::Service;

/// Arguments of `concert http-edge`.
#[derive(Debug, Clone, Args)]
pub(crate) struct HttpEdgeArgs {
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
    pub(crate) log: LogArgs,
}

/// Long enough for a load balancer to poll `/readyz` twice.
const DRAIN_DELAY_MS: u64 = 1000;

/// Runs the edge until it is asked to stop.
pub(crate) async fn run(mut args: HttpEdgeArgs) -> anyhow::Result<()> {
    args.edge.limits.drain_delay_ms.get_or_insert(DRAIN_DELAY_MS);
    let service = Service {
        name: "http-edge",
        bus: &args.bus,
        metrics: None,
    };
    let listener = concert_http_edge::listen(&args.edge).await?;
    let start = async |bus, shutdown| {
        let (keys, host, log) = (&args.keys.keys, args.host.clone(), args.log_limits.clone());
        Ok(concert_http_edge::run(bus, listener, &args.edge, keys, host, log, shutdown).await?)
    };
    let deadline = Duration::from_millis(args.edge.limits.deadline_ms);
    let drain = async |edge: concert_http_edge::Running, _| {
        edge.ended(deadline).await;
        Ok(())
    };
    service.run(start, drain).await
}
