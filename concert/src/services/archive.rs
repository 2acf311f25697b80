//! `concert archive`.

use clap::Args;
use concert_archive::ArchiveArgs;
use concert_runtime::bus::BusArgs;
use concert_runtime::metrics::MetricsArgs;
use concert_runtime::streams::LogLimits;
use concert_runtime::telemetry::LogArgs;
use concert_worker::store::StoreArgs;

use super::{DRAIN_TIMEOUT, Service};

/// Arguments of `concert archive`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ArchiveServiceArgs {
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
    pub(crate) log: LogArgs,
}

/// Runs the archive until it is asked to stop.
pub(crate) async fn run(args: ArchiveServiceArgs) -> anyhow::Result<()> {
    let service = Service {
        name: "archive",
        bus: &args.bus,
        metrics: Some(&args.metrics),
    };
    let start = async |bus, shutdown| {
        Ok(concert_archive::run(bus, &args.store, &args.archive, args.log_limits, shutdown).await?)
    };
    let drain = async |archive: concert_archive::Running, _| {
        tokio::time::timeout(DRAIN_TIMEOUT, archive.ended()).await?;
        Ok(())
    };
    service.run(start, drain).await
}
