//! Key files: their paths, reading them, and creating missing ones.

mod live;
mod rotation;
mod schedule;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use concert_wire::access::User;
use concert_wire::keyring::{BadKeyring, KEY_BYTES, Key, Keyring};
use zeroize::Zeroizing;

pub use self::live::watch;
pub use self::rotation::{Listed, NotChanged, Subject, add, drop_key, list, origin, put_first};
pub use self::schedule::{Step, next_step};
use crate::atomic_file;
use crate::clock;
use crate::seeds::{self, SeedError, Seeds};

/// The purpose of a key file; each process reads only those that it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// Encrypts secrets between the edge and the workers.
    Seal,
    /// A concept's own key, by name; only the worker of that concept reads it.
    Concept(String),
    /// Derives the flow of a request with an idempotency key; only the edge reads it.
    Edge,
}

impl Purpose {
    /// Name of the keys.
    pub fn name(&self) -> &str {
        match self {
            Self::Seal => "seal",
            Self::Concept(name) => name,
            Self::Edge => "edge",
        }
    }

    /// File name in the directory of keys.
    pub fn file_name(&self) -> String {
        format!("{}.key", self.name())
    }

    /// Purpose with this name.
    pub(crate) fn named(name: &str) -> Self {
        [Self::Seal, Self::Edge]
            .into_iter()
            .find(|purpose| purpose.name() == name)
            .unwrap_or_else(|| Self::Concept(name.to_owned()))
    }

    /// All purposes of an application, given those of its concepts' own keys.
    pub fn all(own: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let own = own.into_iter();
        [Self::Seal].into_iter().chain(own).chain([Self::Edge]).collect()
    }
}

/// Error of reading or creating keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error(
        "the key file {path} cannot be {doing}: {source}; check that it exists and belongs to \
         this user",
        path = .path.display()
    )]
    File {
        /// The file.
        path: PathBuf,
        /// Failed operation.
        doing: &'static str,
        /// Cause.
        source: std::io::Error,
    },
    /// The file is not a key file.
    #[error(
        "the key file {path} is invalid: {source}; restore it from a backup",
        path = .path.display()
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: BadKeyring,
    },
    /// The system has no source of randomness.
    #[error("cannot generate a key: {0}")]
    Random(getrandom::Error),
    /// A file of seeds is invalid.
    #[error(transparent)]
    Seeds(#[from] SeedError),
}

/// Reads the keys of one purpose.
///
/// # Errors
/// See [`KeyError`].
pub fn load(dir: &Path, purpose: &Purpose) -> Result<Keyring, KeyError> {
    load_file(dir.join(purpose.file_name()))
}

/// Reads the keys of a MongoDB user: `archive`, or a concept in lower case.
///
/// # Errors
/// See [`KeyError`].
pub fn load_database(dir: &Path, user: &str) -> Result<Keyring, KeyError> {
    load_file(database_file(dir, user))
}

/// Path of a MongoDB user's keys in the directory of keys.
pub fn database_file(dir: &Path, user: &str) -> PathBuf {
    dir.join("mongo").join(format!("{user}.key"))
}

/// Path of the MongoDB server's key file in the directory of keys.
pub fn mongodb_server_key(dir: &Path) -> PathBuf {
    // No concept has a name with a hyphen.
    dir.join("mongo").join("mongod-keyfile")
}

fn load_file(path: PathBuf) -> Result<Keyring, KeyError> {
    match std::fs::read_to_string(&path).map(Zeroizing::new) {
        Ok(text) => Keyring::parse(&text).map_err(|source| KeyError::Content { path, source }),
        Err(source) => Err(KeyError::File { path, doing: "read", source }),
    }
}

/// Path of a user's seeds in the directory of keys.
pub fn seeds_path(dir: &Path, user: &User) -> PathBuf {
    seeds_file(dir, &user.name())
}

fn seeds_file(dir: &Path, user: &str) -> PathBuf {
    dir.join("nats").join(format!("{user}.nk"))
}

/// Public keys of a user; empty if it has no file.
///
/// # Errors
/// The file cannot be read.
pub fn public_keys(dir: &Path, user: &User) -> Result<Vec<String>, KeyError> {
    let path = seeds_path(dir, user);
    match Seeds::read(&path) {
        Ok(seeds) => Ok(seeds.public_keys()),
        Err(SeedError::File { source, .. }) if source.kind() == ErrorKind::NotFound => {
            Ok(Vec::new())
        }
        Err(error) => Err(error.into()),
    }
}

/// Creates missing key files, including those of concepts' own keys, readable only by their owner.
/// Existing files stay unchanged. Returns the purposes of the created files.
///
/// # Errors
/// See [`KeyError`].
pub fn make_missing(dir: &Path, own: &[Purpose]) -> Result<Vec<Purpose>, KeyError> {
    let mut created = Vec::new();
    for purpose in Purpose::all(own.iter().cloned()) {
        if create_if_missing(&dir.join(purpose.file_name()), new_ring)? {
            created.push(purpose);
        }
    }
    Ok(created)
}

/// Creates missing keys of MongoDB users, and the key file of the server, as [`make_missing`] does.
///
/// # Errors
/// See [`KeyError`].
pub fn make_missing_database(dir: &Path, users: &[String]) -> Result<(), KeyError> {
    for user in users {
        create_if_missing(&database_file(dir, user), new_ring)?;
    }
    create_if_missing(&mongodb_server_key(dir), || {
        let key = generate("server")?;
        Ok(key.bytes().iter().map(|byte| format!("{byte:02x}")).collect())
    })?;
    Ok(())
}

fn new_ring() -> Result<String, KeyError> {
    let id = schedule::new_id(clock::now_ms())?;
    Ok(format!("{}{}", rotation::new_origin()?, *generate(&id)?.to_line()))
}

/// Creates missing files of seeds, as [`make_missing`] does.
///
/// # Errors
/// See [`KeyError`].
pub fn make_missing_seeds(dir: &Path, users: &[User]) -> Result<(), KeyError> {
    for user in users {
        let path = seeds_path(dir, user);
        create_if_missing(&path, || Ok(seeds::generate(&path)?))?;
    }
    Ok(())
}

fn generate(id: &str) -> Result<Key, KeyError> {
    let mut bytes = [0_u8; KEY_BYTES];
    getrandom::fill(&mut bytes).map_err(KeyError::Random)?;
    Ok(Key::new(id, bytes))
}

fn create_if_missing(
    path: &Path,
    text: impl FnOnce() -> Result<String, KeyError>,
) -> Result<bool, KeyError> {
    let failed = |source| KeyError::File { path: path.to_owned(), doing: "written", source };
    if path.try_exists().map_err(failed)? {
        return Ok(false);
    }
    match atomic_file::create_new(path, &text()?) {
        // Another process created it first.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        made => made.map(|()| true).map_err(failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn make_missing_creates_each_key_once_with_different_bytes() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(load(dir.path(), &Purpose::Seal), Err(KeyError::File { .. })));
        let own = [Purpose::Concept("session".to_owned())];
        make_missing(dir.path(), &own).unwrap();
        let bytes = |file| {
            let text = std::fs::read_to_string(dir.path().join(file)).unwrap();
            *Keyring::parse(&text).unwrap().current().bytes()
        };
        let files = ["seal.key", "session.key", "edge.key"];
        let before = files.map(bytes);
        assert!(before[0] != before[1] && before[1] != before[2] && before[0] != before[2]);
        assert_eq!(make_missing(dir.path(), &own).unwrap(), []);
        assert!(before == files.map(bytes));
    }
}
