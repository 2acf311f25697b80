//! `concert worker <Concept>`.

use std::time::Duration;

use clap::Args;
use concert_runtime::process::Shutdown;
use concert_worker::{Running, Worker};

use super::Service;
use crate::config::{SettingFlags, Settings, of};
use crate::workers;

/// Arguments of `concert worker`.
#[derive(Debug, Clone, Args)]
pub(crate) struct WorkerServiceArgs {
    /// Name of the concept; upper and lower case are equal
    #[arg(value_name = "CONCEPT")]
    pub(crate) concept: String,
    #[command(flatten)]
    pub(crate) settings: SettingFlags<of::Worker>,
}

/// Time for actions in progress to finish at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs the worker of one concept until a signal stops it.
pub(crate) async fn run(worker: &Worker, settings: Settings) -> anyhow::Result<()> {
    let service = Service {
        name: worker.concept(),
        bus: settings.nats.bus(),
        metrics: settings.telemetry.metrics_listen.clone(),
    };
    let start = async |bus, shutdown| {
        let store = settings.store();
        Ok(worker.start(bus, workers::options(worker, &settings, store, shutdown)).await?)
    };
    let drain = async |worker: Running, shutdown: Shutdown| {
        if !shutdown.drained(DRAIN_TIMEOUT).await {
            tracing::warn!(
                "shutdown timed out with actions in progress; another worker will process them"
            );
        }
        worker.ended().await;
        Ok(())
    };
    service.run(start, drain).await
}
