//! Watches the route table, and finds the route of a request.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http;
use concert_runtime::bus::Bus;
use concert_runtime::process::Shutdown;
use concert_runtime::route_table;
use concert_wire::routes::{Found, Method, Route, RouteIndex, RouteTable};
use tokio::sync::watch;

use crate::error::EdgeError;

/// Active route table; `None` until a router has published one.
pub(crate) type Routes = watch::Receiver<Option<Arc<ActiveRoutes>>>;

/// A route table with its index.
#[derive(Debug)]
pub(crate) struct ActiveRoutes {
    pub(crate) table: RouteTable,
    index: RouteIndex,
}

/// The route of a request.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    /// Text of the pattern; the key `path` of the request.
    pub(crate) pattern: String,
    pub(crate) method: Method,
    pub(crate) route: &'a Route,
    /// Parameters of the path with their values.
    pub(crate) parameters: Vec<(String, String)>,
}

impl ActiveRoutes {
    fn new(table: RouteTable) -> Self {
        let index = table.index();
        Self { table, index }
    }

    /// Finds the route of a path, without the base.
    ///
    /// # Errors
    /// The path is unknown, or has no route with this method.
    pub(crate) fn find(&self, method: &http::Method, path: &str) -> Result<Target<'_>, EdgeError> {
        let name = if *method == http::Method::HEAD { "GET" } else { method.as_str() };
        let found =
            Method::of(name).and_then(|method| Some((method, self.index.find(method, path)?)));
        let Some((method, Found { pattern, parameters })) = found else {
            let methods = self.index.methods(path);
            let is_unknown = methods.is_empty();
            return Err(if is_unknown { EdgeError::NotFound } else { EdgeError::Method(methods) });
        };
        let route = self.table.routes.get(&pattern).ok_or(EdgeError::NotFound)?;
        Ok(Target { pattern, method, route, parameters })
    }

    /// The methods with which a path, without the base, has a route.
    pub(crate) fn methods(&self, path: &str) -> Vec<Method> {
        self.index.methods(path)
    }

    /// The pattern of a path with any method, for metrics. `found`: what [`Self::find`] returned.
    pub(crate) fn pattern(
        &self,
        path: &str,
        found: &Result<Target<'_>, EdgeError>,
    ) -> Option<String> {
        match found {
            Ok(target) => Some(target.pattern.clone()),
            Err(EdgeError::Method(methods)) => {
                self.index.find(*methods.first()?, path).map(|found| found.pattern)
            }
            Err(_) => None,
        }
    }
}

/// Value of `Allow` for a path with routes of these methods.
pub(crate) fn allow(methods: &[Method]) -> String {
    let mut names: Vec<&str> = methods.iter().map(|method| method.name()).collect();
    if methods.contains(&Method::Get) {
        names.push("HEAD");
    }
    names.sort_unstable();
    names.join(", ")
}

/// Delay between an error and the next attempt to watch the bucket.
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

async fn follow(
    bus: &Bus,
    sender: &watch::Sender<Option<Arc<ActiveRoutes>>>,
) -> Result<(), String> {
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
                    table = Some(Arc::new(ActiveRoutes::new(read)));
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
