//! `concert sync-router`.

use super::{DRAIN_TIMEOUT, Service};
use crate::config::Settings;

/// Runs the router until a signal stops it.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    // Errors in the rules are reported even if NATS cannot be reached.
    let rules = concert_sync_router::load(&settings.rules)?;
    let service = Service {
        name: "sync-router",
        bus: settings.nats.bus(),
        metrics: settings.telemetry.metrics_listen.clone(),
    };
    let start = async |bus, shutdown| {
        Ok(concert_sync_router::run(bus, rules, &settings.router, settings.log.clone(), shutdown)
            .await?)
    };
    let drain = async |router: concert_sync_router::Running, _| {
        tokio::time::timeout(DRAIN_TIMEOUT, router.ended()).await?;
        Ok(())
    };
    service.run(start, drain).await
}
