//! `concert archive`.

use super::{DRAIN_TIMEOUT, Service};
use crate::config::Settings;

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
