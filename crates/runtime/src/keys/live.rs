//! Key files that change while a process runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use concert_wire::keyring::{Keyring, LiveKeyring};

use super::{KeyError, Purpose, load};
use crate::process::Shutdown;

/// How often a key file is looked at. `concert keys` waits for a while longer before it uses a key.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Reads the keys of one purpose, and reads them again when they change, until shutdown is done. A broken file is told of, and the keys in force stay.
///
/// # Errors
/// The keys cannot be read now.
pub fn watch(dir: &Path, purpose: Purpose, shutdown: &Shutdown) -> Result<LiveKeyring, KeyError> {
    let live = LiveKeyring::from(load(dir, purpose)?);
    let followed = follow(dir.to_owned(), purpose, live.clone());
    let ended = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = followed => {}
            // What is under way when shutdown is asked for needs the keys still, and they do not change any more.
            () = ended.requested() => {}
        }
    });
    Ok(live)
}

fn ids(keys: &Keyring) -> Vec<&str> {
    keys.keys().map(concert_wire::keyring::Key::id).collect()
}

async fn follow(dir: PathBuf, purpose: Purpose, live: LiveKeyring) {
    let mut told = None;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        match load(&dir, purpose) {
            Ok(keys) => {
                told = None;
                let now = live.now();
                let same = now
                    .keys()
                    .zip(keys.keys())
                    .all(|(a, b)| a.id() == b.id() && a.bytes() == b.bytes());
                if !same || now.others().len() != keys.others().len() {
                    tracing::info!(file = purpose.file_name(), keys = ?ids(&keys), "the keys have changed; the first is used for what is new");
                    live.replace(keys);
                }
            }
            Err(error) => {
                let error = error.to_string();
                if told.as_ref() != Some(&error) {
                    tracing::error!(error, "changed keys cannot be used, and those in force stay");
                }
                told = Some(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys;

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_comes_into_force_and_a_broken_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        keys::make_missing(dir.path()).unwrap();
        let live = watch(dir.path(), Purpose::Seal, &Shutdown::new()).unwrap();
        let of_now = || ids(&live.now()).join(" ");
        assert_eq!(of_now(), "k1");
        let seal = keys::Subject::Ring(Purpose::Seal);
        assert_eq!(keys::add(dir.path(), &seal).unwrap(), "k2");
        tokio::time::sleep(LOOK_EVERY * 2).await;
        assert_eq!(of_now(), "k1 k2");
        std::fs::write(dir.path().join("seal.key"), "broken").unwrap();
        tokio::time::sleep(LOOK_EVERY * 2).await;
        assert_eq!(of_now(), "k1 k2");
    }
}
