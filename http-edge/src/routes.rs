//! The route table, watched.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use concert_runtime::bus::Bus;
use concert_runtime::process::Shutdown;
use concert_runtime::route_table;
use concert_wire::routes::RouteTable;
use tokio::sync::watch;

/// The table in force; `None` until a router has published one.
pub(crate) type Routes = watch::Receiver<Option<Arc<RouteTable>>>;

/// How long to wait before the bucket is watched anew.
const RETRY: Duration = Duration::from_millis(250);

/// Follows the table until shutdown.
pub(crate) fn watch(bus: Bus, shutdown: Shutdown) -> Routes {
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        let follow = async {
            loop {
                if let Err(error) = follow(&bus, &sender).await {
                    tracing::debug!(error, "waiting for a router to publish the route table");
                }
                tokio::time::sleep(RETRY).await;
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
    let mut in_force = Bytes::new();
    loop {
        let Some(text) = watched.next().await.map_err(|error| error.to_string())? else {
            continue;
        };
        if text == in_force {
            continue;
        }
        match serde_json::from_slice::<RouteTable>(&text) {
            Ok(table) => {
                tracing::info!(version = %table.version, routes = table.routes.len(), "route table in force");
                sender.send_replace(Some(Arc::new(table)));
            }
            // The table that is in force stays so.
            Err(error) => tracing::error!(%error, "a route table cannot be read"),
        }
        in_force = text;
    }
}
