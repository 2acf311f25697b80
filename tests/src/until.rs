//! Waiting for something to come about, never for a time to pass.

use std::time::{Duration, Instant};

use anyhow::ensure;

/// How long after a look the next one begins.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Asks again and again until there is something.
///
/// # Errors
/// Asking fails, or nothing comes about in time.
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
        ensure!(began.elapsed() < within, "{what} does not come about");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
