//! Watches the route table.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use concert_runtime::bus::Bus;
use concert_runtime::process::Shutdown;
use concert_runtime::route_table;
use concert_wire::routes::RouteTable;
use tokio::sync::watch;

/// Active route table; `None` until a router has published one.
pub(crate) type Routes = watch::Receiver<Option<Arc<RouteTable>>>;

/// Delay before the bucket is watched again after an error.
const RETRY_DELAY: Duration = Duration::from_millis(250);

/// Follows the table until shutdown.
pub(crate) fn watch(bus: Bus, shutdown: Shutdown) -> Routes {
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        let follow = async {
            loop {
                if let Err(error) = follow(&bus, &sender).await {
                    tracing::debug!(error, "waiting for a router to publish the route table");
                }
                tokio::time::sleep(RETRY_DELAY).await;
            }
        };
        tokio::select! {
            () = shutdown.requested() => {}
            () = follow => {}
        }
    });
    receiver
}

async fn follow(bus: &Bus, sender: &watch::Sender<Option<Arc<RouteTable>>>) -> Result<(), String> {
    let mut watched = route_table::watch(bus).await.map_err(|error| error.to_string())?;
    let (mut active, mut was_full) = (Bytes::new(), false);
    let mut table = sender.borrow().clone();
    loop {
        let text = watched.next().await.map_err(|error| error.to_string())?;
        // Accounts of earlier versions may not read this key.
        let is_full = watched.is_log_full().await.unwrap_or(false);
        let changed = text.filter(|text| *text != active);
        if changed.is_none() && is_full == was_full {
            continue;
        }
        if let Some(text) = changed {
            match serde_json::from_slice::<RouteTable>(&text) {
                Ok(read) => {
                    let routes = read.routes.len();
                    tracing::info!(version = %read.version, routes, "activated route table");
                    table = Some(Arc::new(read));
                }
                Err(error) => {
                    tracing::error!(%error, "cannot parse a route table; keeping the previous one")
                }
            }
            active = text;
        }
        if is_full != was_full {
            tracing::warn!(is_full, "the log is nearly full; while it is, requests get 503");
            was_full = is_full;
        }
        // Without a table, the edge is not ready, and requests get 503.
        sender.send_replace(table.clone().filter(|_| !is_full));
    }
}
