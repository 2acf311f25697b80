//! `concert worker <Concept>`.

use std::time::Duration;

use clap::Args;
use concert_runtime::bus::BusArgs;
use concert_runtime::keys::KeyArgs;
use concert_runtime::metrics::MetricsArgs;
use concert_runtime::process::Shutdown;
use concert_runtime::streams::LogLimits;
use concert_runtime::telemetry::LogArgs;
use concert_worker::Running;
use concert_worker::store::StoreArgs;

use super::Service;
use crate::workers::{self, Options, Worker, WorkerArgs};

/// Arguments of `concert worker`.
#[derive(Debug, Clone, Args)]
pub(crate) struct WorkerServiceArgs {
    /// The concept, in any case.
    #[arg(value_name = "CONCEPT")]
    concept: String,
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
    pub(crate) log: LogArgs,
}

/// How long actions that have started may take to finish.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs the worker of one concept until it is asked to stop.
pub(crate) async fn run(args: WorkerServiceArgs, workers: &[Worker]) -> anyhow::Result<()> {
    let worker = workers::named(workers, &args.concept)?;
    let service = Service {
        name: worker.concept(),
        bus: &args.bus,
        metrics: Some(&args.metrics),
    };
    let start = async |bus, shutdown| {
        let options = Options {
            store: &args.store,
            keys_dir: &args.keys.keys,
            args: &args.worker,
            log: &args.log_limits,
            shutdown,
        };
        worker.start(bus, options).await
    };
    let drain = async |worker: Running, shutdown: Shutdown| {
        if !shutdown.drained(DRAIN_TIMEOUT).await {
            tracing::warn!("what was begun is left to another worker");
        }
        worker.ended().await;
        Ok(())
    };
    service.run(start, drain).await
}
