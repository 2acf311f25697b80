//! `concert worker <Concept>`.

use clap::Args;
use concert_runtime::process::Shutdown;
use concert_worker::Worker;

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

/// Runs the worker of one concept until a signal stops it.
pub(crate) async fn run(worker: &Worker, settings: Settings) -> anyhow::Result<()> {
    let options = workers::options(worker, &settings, settings.store(), Shutdown::new());
    let metrics = settings.telemetry.metrics_listen.as_ref();
    Ok(concert_worker::run(worker, &settings.nats.bus(), options, metrics).await?)
}
