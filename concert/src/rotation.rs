//! Automatic rotation of the sealing keys: daily, and without a break.

use std::path::Path;
use std::time::Duration;

use concert_runtime::bus::Bus;
use concert_runtime::keys::{self, Purpose, Step, Subject};
use concert_runtime::{clock, streams};

/// Interval between two steps.
const INTERVAL: Duration = Duration::from_secs(60);

/// Rotates the keys until this is dropped. `changed` is called after each step; a failed step is
/// logged and repeated.
pub(crate) async fn run(bus: &Bus, keys_dir: &Path, changed: impl Fn() -> anyhow::Result<()>) {
    loop {
        match step(bus, keys_dir).await {
            Ok(Some(step)) => {
                tracing::info!(?step, "rotated the sealing keys");
                if let Err(error) = changed() {
                    tracing::error!(%error, "cannot distribute the rotated keys");
                }
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "cannot rotate the sealing keys"),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Executes the step that is due, if there is one.
pub(crate) async fn step(bus: &Bus, keys_dir: &Path) -> anyhow::Result<Option<Step>> {
    let subject = Subject::Ring(Purpose::Seal);
    let ids: Vec<String> =
        keys::list(keys_dir, &subject)?.into_iter().map(|listed| listed.id).collect();
    let oldest_ms = streams::log_state(bus).await?.first_ms;
    let step = keys::next_step(&ids, clock::now_ms(), oldest_ms);
    match &step {
        Some(Step::Add) => drop(keys::add(keys_dir, &subject)?),
        Some(Step::Use(id)) => keys::put_first(keys_dir, &subject, id)?,
        Some(Step::Drop(id)) => keys::drop_key(keys_dir, &subject, id)?,
        None => {}
    }
    Ok(step)
}
