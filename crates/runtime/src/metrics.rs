//! The figures of this process, in the text format of OpenMetrics, and where they are served.
//!
//! Each part registers its own once, whatever else runs in the process; figures that belong
//! together to a concept have it as a label. No label is what a client chooses.

use std::sync::{LazyLock, Mutex, PoisonError};

use axum::Router;
use axum::http::header;
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::address::ListenAddress;

/// The media type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(Mutex::default);

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address}: {source}; choose another address with telemetry.metrics_listen"
)]
pub struct ListenError {
    address: ListenAddress,
    source: std::io::Error,
}

/// Makes figures of this process; to be called once for each of them.
pub fn register<T>(figures: impl FnOnce(&mut Registry) -> T) -> T {
    figures(&mut REGISTRY.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Everything that was registered.
pub fn text() -> String {
    let mut text = String::new();
    // A string takes everything.
    match encode(&mut text, &REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)) {
        Ok(()) | Err(_) => text,
    }
}

/// Serves the figures of this process for as long as it lives.
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
    tracing::info!(%address, "figures are served at /metrics");
    let answer = async || ([(header::CONTENT_TYPE, CONTENT_TYPE)], text());
    let app = Router::new().route("/metrics", get(answer));
    tokio::spawn(axum::serve(listener, app).into_future());
    Ok(())
}
