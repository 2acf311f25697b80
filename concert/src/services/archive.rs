//! `concert archive`.

use clap::{Args, Subcommand};
use concert_worker::Worker;

use super::{DRAIN_TIMEOUT, Service};
use crate::config::{SettingFlags, Settings, of};
use crate::{output, running};

/// Arguments of `concert archive`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ArchiveServiceArgs {
    #[command(subcommand)]
    pub(crate) command: Option<ArchiveCommand>,
    #[command(flatten)]
    pub(crate) settings: SettingFlags<of::Archive>,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ArchiveCommand {
    /// Delete all flows in which an input or output has one of these texts as a value, for example
    /// the ID and the name of a deleted user
    Forget {
        /// Texts, compared exactly
        #[arg(value_name = "TEXT", required = true)]
        texts: Vec<String>,
    },
}

/// Runs the archive until a signal stops it.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    let service = Service {
        name: "archive",
        bus: settings.nats.bus(),
        metrics: settings.telemetry.metrics_listen.clone(),
    };
    let start = async |bus, shutdown| {
        let (store, args) = (settings.store(), (&settings.archive, &settings.telemetry.traces));
        Ok(concert_archive::run(bus, &store, args, settings.log.clone(), shutdown).await?)
    };
    let drain = async |archive: concert_archive::Running, _| {
        tokio::time::timeout(DRAIN_TIMEOUT, archive.ended()).await?;
        Ok(())
    };
    service.run(start, drain).await
}

/// Deletes flows from the archive of the configured database, or else of the running `concert up`.
pub(crate) async fn forget(
    flags: &SettingFlags<of::Archive>,
    workers: &[Worker],
    texts: &[String],
) -> anyhow::Result<()> {
    let loaded = flags.load_all_and_warn(workers)?;
    let forgotten = concert_archive::forget(&running::store(loaded.settings)?, texts).await?;
    output::print_line(format_args!(
        "deleted {} flows and {} dead letters from the archive",
        forgotten.flows, forgotten.dead_letters
    ));
    Ok(())
}
