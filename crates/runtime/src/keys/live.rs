//! Keys that are reread from their file while a process runs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use concert_wire::keyring::{Key, Keyring, LiveKeyring};
use tokio::time::Instant;

use super::{KeyError, Purpose, load};
use crate::process::Shutdown;

/// Interval between reads of a key file. `concert keys` waits longer before it uses a new key.
const READ_INTERVAL: Duration = Duration::from_secs(1);

/// Minimum time before an extra read, which an unknown key id causes. A limit is necessary because
/// anyone can send unknown ids.
const MIN_EXTRA_READ_INTERVAL: Duration = Duration::from_millis(10);

/// Reads the keys of one purpose, and rereads the file at a fixed interval until shutdown, and on
/// each lookup of an unknown key. An invalid file is logged, and the current keys stay active.
///
/// # Errors
/// The keys cannot be read.
pub fn watch(dir: &Path, purpose: Purpose, shutdown: &Shutdown) -> Result<LiveKeyring, KeyError> {
    let file = Arc::new(KeyFile { dir: dir.to_owned(), purpose, last_read: Mutex::default() });
    let shared = file.clone();
    let live = LiveKeyring::from(load(dir, &file.purpose)?)
        .with_reload(move |live| shared.extra_read(live));
    let (followed, ended) = (live.clone(), shutdown.clone());
    tokio::spawn(async move {
        let follow = async {
            loop {
                tokio::time::sleep(READ_INTERVAL).await;
                let mut last_read = file.last_read.lock().unwrap_or_else(PoisonError::into_inner);
                file.read(&mut last_read, &followed);
            }
        };
        tokio::select! {
            () = follow => {}
            // Requests that are in progress at shutdown still use the keys; their lookups reread
            // the file.
            () = ended.requested() => {}
        }
    });
    Ok(live)
}

fn ids(keys: &Keyring) -> Vec<&str> {
    keys.keys().map(Key::id).collect()
}

struct KeyFile {
    dir: PathBuf,
    purpose: Purpose,
    last_read: Mutex<LastRead>,
}

/// Result of the last read.
#[derive(Default)]
struct LastRead {
    at: Option<Instant>,
    /// Last logged error about the file.
    logged: Option<String>,
}

impl KeyFile {
    fn extra_read(&self, live: &LiveKeyring) {
        let mut last_read = self.last_read.lock().unwrap_or_else(PoisonError::into_inner);
        // A thread that waited for another thread's read uses its result.
        if last_read.at.is_none_or(|at| at.elapsed() > MIN_EXTRA_READ_INTERVAL) {
            self.read(&mut last_read, live);
        }
    }

    /// The lock allows one read at a time, so the last read determines the active keys.
    fn read(&self, last_read: &mut LastRead, live: &LiveKeyring) {
        match load(&self.dir, &self.purpose) {
            Ok(keys) => {
                last_read.logged = None;
                if !same(&live.now(), &keys) {
                    tracing::info!(
                        file = self.purpose.file_name(),
                        keys = ?ids(&keys),
                        "the keys have changed; the first one encrypts new values"
                    );
                    live.replace(keys);
                }
            }
            Err(error) => {
                let error = error.to_string();
                if last_read.logged.as_ref() != Some(&error) {
                    tracing::error!(
                        error,
                        "the changed key file is invalid; the current keys stay active"
                    );
                }
                last_read.logged = Some(error);
            }
        }
        last_read.at = Some(Instant::now());
    }
}

fn same(one: &Keyring, other: &Keyring) -> bool {
    let of = |key| (Key::id(key), Key::bytes(key));
    one.keys().map(of).eq(other.keys().map(of))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys;

    #[tokio::test(start_paused = true)]
    async fn changed_file_is_activated_and_invalid_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        keys::make_missing(dir.path(), &[]).unwrap();
        let live = watch(dir.path(), Purpose::Seal, &Shutdown::new()).unwrap();
        let of_now = || ids(&live.now()).join(" ");
        let k1 = of_now();
        let seal = keys::Subject::Ring(Purpose::Seal);
        let add = || keys::add(dir.path(), &seal).unwrap();
        let k2 = add();
        tokio::time::sleep(READ_INTERVAL * 5 / 2).await;
        assert_eq!(of_now(), format!("{k1} {k2}"));
        // A lookup of an unknown key does not wait for the next read.
        let k3 = add();
        tokio::time::advance(MIN_EXTRA_READ_INTERVAL * 2).await;
        assert_eq!(of_now(), format!("{k1} {k2}"));
        assert!(live.get("unknown").is_none());
        assert_eq!(of_now(), format!("{k1} {k2} {k3}"));
        let k4 = add();
        assert!(live.get(&k4).is_none(), "an extra read happens after each lookup");
        tokio::time::advance(MIN_EXTRA_READ_INTERVAL * 2).await;
        assert!(live.get(&k4).is_some());
        std::fs::write(dir.path().join("seal.key"), "broken").unwrap();
        tokio::time::sleep(READ_INTERVAL * 2).await;
        assert_eq!(of_now(), format!("{k1} {k2} {k3} {k4}"));
    }
}
