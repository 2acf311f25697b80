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
use crate::seeds::{self, SeedError, Seeds};
use crate::whole_file;

/// What a key file is for; each process reads only those that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Seals secrets between edge and workers.
    Seal,
    /// Derives session tokens (the worker of Sessioning alone).
    Session,
    /// Derives the flow of a repeatable request (the edge alone).
    Edge,
}

impl Purpose {
    /// Every purpose.
    pub const ALL: [Self; 3] = [Self::Seal, Self::Session, Self::Edge];

    /// The name by which people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seal => "seal",
            Self::Session => "session",
            Self::Edge => "edge",
        }
    }

    /// The name of the file within the directory of keys.
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Seal => "seal.key",
            Self::Session => "session.key",
            Self::Edge => "edge.key",
        }
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
pub fn load(dir: &Path, purpose: Purpose) -> Result<Keyring, KeyError> {
    let path = dir.join(purpose.file_name());
    match std::fs::read_to_string(&path).map(Zeroizing::new) {
        Ok(text) => Keyring::parse(&text).map_err(|source| KeyError::Content { path, source }),
        Err(source) => Err(KeyError::File {
            path,
            doing: "read",
            source,
        }),
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
        Err(SeedError::File { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Makes the key files that are missing, readable by their owner alone; those that are there stay as they are.
///
/// # Errors
/// See [`KeyError`].
pub fn make_missing(dir: &Path) -> Result<(), KeyError> {
    for purpose in Purpose::ALL {
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
    let failed = |source| KeyError::File {
        path: path.to_owned(),
        doing: "written",
        source,
    };
    if path.try_exists().map_err(failed)? {
        return Ok(());
    }
    match whole_file::make(path, &text()?) {
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
        assert!(matches!(load(dir.path(), Purpose::Seal), Err(KeyError::File { .. })));
        make_missing(dir.path()).unwrap();
        let bytes = |purpose| *load(dir.path(), purpose).unwrap().current().bytes();
        let before = Purpose::ALL.map(bytes);
        assert!(before[0] != before[1] && before[1] != before[2] && before[0] != before[2]);
        make_missing(dir.path()).unwrap();
        assert!(before == Purpose::ALL.map(bytes));
    }
}
