//! `concert http-edge`.

use std::time::Duration;

use super::Service;
use crate::config::Settings;

/// Runs the edge until a signal stops it.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    let service = Service { name: "http-edge", bus: settings.nats.bus(), metrics: None };
    let listeners = concert_http_edge::listen(&settings.http, &settings.console).await?;
    let start = async |bus, shutdown| {
        let keys = settings.app.keys_dir();
        let args = (&settings.http, &settings.console, &settings.log);
        Ok(concert_http_edge::run(bus, listeners, args, &keys, shutdown).await?)
    };
    let deadline = Duration::from_millis(settings.http.limits.deadline_ms);
    let drain = async |edge: concert_http_edge::Running, _| {
        edge.ended(deadline).await;
        Ok(())
    };
    service.run(start, drain).await
}
