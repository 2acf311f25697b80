//! Key files: where they are, how they are read, and how they are made on a machine that has none.

mod live;
mod rotation;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use concert_wire::access::User;
use concert_wire::keyring::{BadKeyring, KEY_BYTES, Key, Keyring};
use zeroize::Zeroizing;

pub use self::live::watch;
pub use self::rotation::{Listed, NotChanged, Subject, add, drop_key, list, put_first};
use crate::atomic_file;
use crate::seeds::{self, SeedError, Seeds};

/// The purpose of a key file; each process reads only those that it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// Encrypts secrets between the edge and the workers.
    Seal,
    /// A key of a concept's own, by its name; only the worker of that concept reads it.
    Concept(String),
    /// Derives the flow of a repeatable request; only the edge reads it.
    Edge,
}

impl Purpose {
    /// The name of the keys.
    pub fn name(&self) -> &str {
        match self {
            Self::Seal => "seal",
            Self::Concept(name) => name,
            Self::Edge => "edge",
        }
    }

    /// The name of the file within the directory of keys.
    pub fn file_name(&self) -> String {
        format!("{}.key", self.name())
    }

    /// The purpose of this name.
    pub(crate) fn named(name: &str) -> Self {
        [Self::Seal, Self::Edge]
            .into_iter()
            .find(|purpose| purpose.name() == name)
            .unwrap_or_else(|| Self::Concept(name.to_owned()))
    }

    /// All purposes of an application whose concepts have these keys of their own.
    pub fn all(own: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let own = own.into_iter();
        [Self::Seal].into_iter().chain(own).chain([Self::Edge]).collect()
    }
}

/// Why keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("the key file {path} cannot be {doing}: {source}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is no key file.
    #[error("the key file {path} cannot be used: {source}", path = .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: BadKeyring,
    },
    /// The system has no randomness.
    #[error("no key can be drawn: {0}")]
    Random(getrandom::Error),
    /// A file of seeds cannot be used.
    #[error(transparent)]
    Seeds(#[from] SeedError),
}

/// Reads the keys of one purpose.
///
/// # Errors
/// See [`KeyError`].
pub fn load(dir: &Path, purpose: &Purpose) -> Result<Keyring, KeyError> {
    let path = dir.join(purpose.file_name());
    match std::fs::read_to_string(&path).map(Zeroizing::new) {
        Ok(text) => Keyring::parse(&text).map_err(|source| KeyError::Content { path, source }),
        Err(source) => Err(KeyError::File { path, doing: "read", source }),
    }
}

/// The file of a user's seeds within the directory of keys.
pub fn seeds_path(dir: &Path, user: &User) -> PathBuf {
    seeds_file(dir, &user.name())
}

fn seeds_file(dir: &Path, user: &str) -> PathBuf {
    dir.join("nats").join(format!("{user}.nk"))
}

/// The public keys of a user; none if it has no file.
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

/// Creates missing key files, readable by their owner only, among them those of concepts' own.
/// Existing ones stay.
///
/// # Errors
/// See [`KeyError`].
pub fn make_missing(dir: &Path, own: &[Purpose]) -> Result<(), KeyError> {
    for purpose in Purpose::all(own.iter().cloned()) {
        make(&dir.join(purpose.file_name()), || Ok(draw("k1")?.to_line().to_string()))?;
    }
    Ok(())
}

/// Makes the files of seeds that are missing, as [`make_missing`] does.
///
/// # Errors
/// See [`KeyError`].
pub fn make_missing_seeds(dir: &Path, users: &[User]) -> Result<(), KeyError> {
    for user in users {
        let path = seeds_path(dir, user);
        make(&path, || Ok(seeds::draw(&path)?))?;
    }
    Ok(())
}

fn draw(id: &str) -> Result<Key, KeyError> {
    let mut bytes = [0_u8; KEY_BYTES];
    getrandom::fill(&mut bytes).map_err(KeyError::Random)?;
    Ok(Key::new(id, bytes))
}

fn make(path: &Path, text: impl FnOnce() -> Result<String, KeyError>) -> Result<(), KeyError> {
    let failed = |source| KeyError::File { path: path.to_owned(), doing: "written", source };
    if path.try_exists().map_err(failed)? {
        return Ok(());
    }
    match atomic_file::create_new(path, &text()?) {
        // Another process was faster.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_and_differ_by_purpose() {
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
        make_missing(dir.path(), &own).unwrap();
        assert!(before == files.map(bytes));
    }
}
