//! The route table, watched.

use std::sync::Arc;
use std::time::Duration;

use concert_runtime::bus::Bus;
use concert_runtime::nats::kv::{Operation, Store};
use concert_runtime::process::Shutdown;
use concert_runtime::streams;
use concert_wire::routes::{ROUTES_KEY, RouteTable};
use futures_util::StreamExt as _;
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
    let bucket: Store = streams::existing_bucket(bus).await.map_err(|error| error.to_string())?;
    let mut changes = bucket
        .watch_with_history(ROUTES_KEY)
        .await
        .map_err(|error| error.to_string())?;
    while let Some(change) = changes.next().await {
        let change = change.map_err(|error| error.to_string())?;
        if change.operation != Operation::Put {
            continue;
        }
        match serde_json::from_slice::<RouteTable>(&change.value) {
            Ok(table) => {
                tracing::info!(version = %table.version, routes = table.routes.len(), "route table in force");
                sender.send_replace(Some(Arc::new(table)));
            }
            // The table that is in force stays so.
            Err(error) => tracing::error!(%error, "a route table cannot be read"),
        }
    }
    Ok(())
}
