//! Metrics of this process in the OpenMetrics text format, and the listener that serves them.
//!
//! Each component registers its metrics once, no matter what else the process runs. Metrics of a
//! concept have its name as a label. No label has a value that a client chooses.

use std::sync::{LazyLock, Mutex, PoisonError};

use axum::Router;
use axum::http::header;
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::address::ListenAddress;

/// Media type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(Mutex::default);

/// Error for an address that is not available.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address}: {source}; choose another address with telemetry.metrics_listen"
)]
pub struct ListenError {
    address: ListenAddress,
    source: std::io::Error,
}

/// Registers metrics of this process. Call it once for each metric.
pub fn register<T>(metrics: impl FnOnce(&mut Registry) -> T) -> T {
    metrics(&mut REGISTRY.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Text of all registered metrics.
pub fn text() -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    match encode(&mut text, &REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)) {
        Ok(()) | Err(_) => text,
    }
}

/// Serves the metrics of this process for its lifetime.
///
/// # Errors
/// See [`ListenError`].
pub async fn serve(listen: Option<&ListenAddress>) -> Result<(), ListenError> {
    let Some(address) = listen else {
        return Ok(());
    };
    let failed = |source| ListenError { address: address.clone(), source };
    let listener = address.bind().await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tracing::info!(%address, "serving metrics at /metrics");
    let respond = async || ([(header::CONTENT_TYPE, CONTENT_TYPE)], text());
    let app = Router::new().route("/metrics", get(respond));
    tokio::spawn(axum::serve(listener, app).into_future());
    Ok(())
}
