//! Key files that change while a process runs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use concert_wire::keyring::{Key, Keyring, LiveKeyring};
use tokio::time::Instant;

use super::{KeyError, Purpose, load};
use crate::process::Shutdown;

/// How often a key file is looked at. `concert keys` waits for a while longer before it uses a key.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often it is looked at out of turn at most, when a key is asked for that is not in force:
/// anybody may write down an id that nobody has.
const LOOK_OUT_OF_TURN_EVERY: Duration = Duration::from_millis(10);

/// Reads the keys of one purpose, and reads them again when they change, until shutdown is asked
/// for, and when one is asked for that is not there, for as long as they are used. A broken file is
/// told of, and the keys in force stay.
///
/// # Errors
/// The keys cannot be read now.
pub fn watch(dir: &Path, purpose: Purpose, shutdown: &Shutdown) -> Result<LiveKeyring, KeyError> {
    let file = Arc::new(KeyFile { dir: dir.to_owned(), purpose, looked: Mutex::default() });
    let looked_into = file.clone();
    let live = LiveKeyring::from(load(dir, &file.purpose)?)
        .with_look(move |live| looked_into.look_out_of_turn(live));
    let (followed, ended) = (live.clone(), shutdown.clone());
    tokio::spawn(async move {
        let follow = async {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let mut looked = file.looked.lock().unwrap_or_else(PoisonError::into_inner);
                file.look(&mut looked, &followed);
            }
        };
        tokio::select! {
            () = follow => {}
            // What is under way when shutdown is asked for needs the keys still, and looks for
            // itself.
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
    looked: Mutex<Looked>,
}

/// What came of the last look.
#[derive(Default)]
struct Looked {
    at: Option<Instant>,
    /// What was told of a broken file.
    told: Option<String>,
}

impl KeyFile {
    fn look_out_of_turn(&self, live: &LiveKeyring) {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        // Who waited for another's look has what that one found.
        if looked.at.is_none_or(|at| at.elapsed() > LOOK_OUT_OF_TURN_EVERY) {
            self.look(&mut looked, live);
        }
    }

    /// One look at a time: whoever has read last puts it in force last.
    fn look(&self, looked: &mut Looked, live: &LiveKeyring) {
        match load(&self.dir, &self.purpose) {
            Ok(keys) => {
                looked.told = None;
                if !same(&live.now(), &keys) {
                    tracing::info!(file = self.purpose.file_name(), keys = ?ids(&keys), "the keys have changed; the first is used for what is new");
                    live.replace(keys);
                }
            }
            Err(error) => {
                let error = error.to_string();
                if looked.told.as_ref() != Some(&error) {
                    tracing::error!(error, "changed keys cannot be used, and those in force stay");
                }
                looked.told = Some(error);
            }
        }
        looked.at = Some(Instant::now());
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
    async fn a_changed_file_comes_into_force_and_a_broken_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        keys::make_missing(dir.path(), &[]).unwrap();
        let live = watch(dir.path(), Purpose::Seal, &Shutdown::new()).unwrap();
        let of_now = || ids(&live.now()).join(" ");
        assert_eq!(of_now(), "k1");
        let seal = keys::Subject::Ring(Purpose::Seal);
        assert_eq!(keys::add(dir.path(), &seal).unwrap(), "k2");
        tokio::time::sleep(LOOK_EVERY * 5 / 2).await;
        assert_eq!(of_now(), "k1 k2");
        // Who asks for a key need not wait for the next look.
        assert_eq!(keys::add(dir.path(), &seal).unwrap(), "k3");
        tokio::time::advance(LOOK_OUT_OF_TURN_EVERY * 2).await;
        assert_eq!(of_now(), "k1 k2");
        assert!(live.get("k4").is_none());
        assert_eq!(of_now(), "k1 k2 k3");
        assert_eq!(keys::add(dir.path(), &seal).unwrap(), "k4");
        assert!(live.get("k4").is_none(), "it looks as often as it is asked");
        tokio::time::advance(LOOK_OUT_OF_TURN_EVERY * 2).await;
        assert!(live.get("k4").is_some());
        std::fs::write(dir.path().join("seal.key"), "broken").unwrap();
        tokio::time::sleep(LOOK_EVERY * 2).await;
        assert_eq!(of_now(), "k1 k2 k3 k4");
    }
}
