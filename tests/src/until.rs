//! Waits for a condition instead of a fixed time.

use std::time::{Duration, Instant};

use anyhow::ensure;

/// Interval between polls.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Polls until the condition yields a value.
///
/// # Errors
/// The poll fails, or yields no value in time.
pub async fn until<T>(
    what: &str,
    within: Duration,
    mut ask: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = ask().await? {
            return Ok(found);
        }
        ensure!(began.elapsed() < within, "timed out waiting until {what}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
