//! Key rotation without downtime: a new key is added, then used, and the old one is dropped. Each
//! step requires that every process has read the previous one.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use concert_wire::keyring::Keyring;
use zeroize::Zeroizing;

use super::{KeyError, Purpose, generate, schedule, seeds_file};
use crate::atomic_file;
use crate::clock;
use crate::seeds::{self, Seeds};

/// Owner of the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A keyring.
    Ring(Purpose),
    /// A MongoDB user: `archive`, or a concept in lower case.
    Database(String),
    /// A NATS user, by name.
    Bus(String),
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_plain = |text: &str| {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            !text.is_empty() && text.bytes().all(plain)
        };
        match text.split_once('/') {
            Some(("nats", user)) if is_plain(user) => Ok(Self::Bus(user.to_owned())),
            Some(("mongo", user)) if is_plain(user) => Ok(Self::Database(user.to_owned())),
            None if is_plain(text) => Ok(Self::Ring(Purpose::named(text))),
            _ => {
                Err("not a name of keys; use a name such as `seal` or `edge`, a NATS user such as \
                 `nats/profile`, or a MongoDB user such as `mongo/profile`"
                    .to_owned())
            }
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ring(purpose) => f.pad(purpose.name()),
            Self::Database(user) => f.pad(&format!("mongo/{user}")),
            Self::Bus(user) => f.pad(&format!("nats/{user}")),
        }
    }
}

/// Error of a key rotation.
#[derive(Debug, thiserror::Error)]
pub enum NotChanged {
    /// The file cannot be read or written.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The key does not exist.
    #[error("{subject} has no key `{id}`; it has {has}")]
    Unknown {
        /// Owner of the keys.
        subject: String,
        /// Requested id.
        id: String,
        /// Existing ids.
        has: String,
    },
    /// The first key is in use.
    #[error("the key `{0}` is in use; use another key first")]
    InUse(String),
}

/// A key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its id; for a NATS user, the public key.
    pub id: String,
    /// `true` for the key that encrypts or signs new values.
    pub in_use: bool,
}

/// Lines of a key file; those without a key are kept unchanged.
struct KeyFile {
    path: PathBuf,
    subject: Subject,
    lines: Vec<Line>,
}

struct Line {
    id: Option<String>,
    text: Zeroizing<String>,
}

impl KeyFile {
    fn read(dir: &Path, subject: &Subject) -> Result<Self, KeyError> {
        let path = match subject {
            Subject::Ring(purpose) => dir.join(purpose.file_name()),
            Subject::Database(user) => super::database_file(dir, user),
            Subject::Bus(user) => seeds_file(dir, user),
        };
        let text = std::fs::read_to_string(&path)
            .map(Zeroizing::new)
            .map_err(|source| KeyError::File { path: path.clone(), doing: "read", source })?;
        let ids: Vec<String> = match subject {
            Subject::Ring(_) | Subject::Database(_) => {
                let keys = Keyring::parse(&text)
                    .map_err(|source| KeyError::Content { path: path.clone(), source })?;
                keys.keys().map(|key| key.id().to_owned()).collect()
            }
            Subject::Bus(_) => Seeds::parse(&path, &text)?.public_keys(),
        };
        let mut ids = ids.into_iter();
        let lines = text.lines().map(|text| {
            let is_key = !text.trim().is_empty() && !text.trim().starts_with('#');
            Line {
                id: if is_key { ids.next() } else { None },
                text: Zeroizing::new(text.to_owned()),
            }
        });
        Ok(Self { lines: lines.collect(), path, subject: subject.clone() })
    }

    fn ids(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().filter_map(|line| line.id.as_deref())
    }

    fn add(&mut self) -> Result<String, KeyError> {
        let (id, text) = match &self.subject {
            Subject::Ring(_) | Subject::Database(_) => {
                let key = generate(&schedule::new_id(clock::now_ms())?)?;
                (key.id().to_owned(), key.to_line())
            }
            Subject::Bus(_) => {
                let seed = Zeroizing::new(seeds::generate(&self.path)?);
                let public = Seeds::parse(&self.path, &seed)?.public_keys();
                (public.into_iter().next().unwrap_or_default(), seed)
            }
        };
        self.lines
            .push(Line { id: Some(id.clone()), text: Zeroizing::new(text.trim_end().to_owned()) });
        Ok(id)
    }

    fn take(&mut self, id: &str) -> Result<Line, NotChanged> {
        let at = self.lines.iter().position(|line| line.id.as_deref() == Some(id));
        match at {
            Some(at) => Ok(self.lines.remove(at)),
            None => Err(NotChanged::Unknown {
                subject: self.subject.to_string(),
                id: id.to_owned(),
                has: self.ids().collect::<Vec<_>>().join(", "),
            }),
        }
    }

    fn put_first(&mut self, id: &str) -> Result<(), NotChanged> {
        let line = self.take(id)?;
        let first = self.lines.iter().position(|line| line.id.is_some());
        self.lines.insert(first.unwrap_or(self.lines.len()), line);
        Ok(())
    }

    fn write(self) -> Result<(), KeyError> {
        let mut text = Zeroizing::new(String::new());
        for line in &self.lines {
            text.push_str(&line.text);
            text.push('\n');
        }
        atomic_file::replace(&self.path, &text).map_err(|source| KeyError::File {
            path: self.path,
            doing: "written",
            source,
        })
    }
}

/// Waits until no other process changes a key file of this directory: the automatic rotation and an
/// operator may do so at the same time.
fn lock(dir: &Path) -> Result<File, KeyError> {
    let path = dir.join("keys.lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let locked = file.and_then(|file| file.lock().map(|()| file));
    locked.map_err(|source| KeyError::File { path, doing: "locked", source })
}

/// First words of the comment line that contains a file's origin.
const ORIGIN: &str = "# origin ";

/// A comment line that identifies a new key file.
pub(super) fn new_origin() -> Result<String, KeyError> {
    Ok(format!("{ORIGIN}{}\n", schedule::new_id(clock::now_ms())?))
}

/// Id of a key file, which survives rotations; a file of an earlier release gets one. A file that
/// was lost and created again has another id.
///
/// # Errors
/// The file cannot be read or written.
pub fn origin(dir: &Path, purpose: &Purpose) -> Result<String, KeyError> {
    let _lock = lock(dir)?;
    let mut file = KeyFile::read(dir, &Subject::Ring(purpose.clone()))?;
    if let Some(origin) = file.lines.iter().find_map(|line| line.text.strip_prefix(ORIGIN)) {
        return Ok(origin.trim().to_owned());
    }
    let line = new_origin()?;
    let origin = line.trim_start_matches(ORIGIN).trim().to_owned();
    file.lines.insert(0, Line { id: None, text: Zeroizing::new(line.trim_end().to_owned()) });
    file.write()?;
    Ok(origin)
}

/// Lists the keys of a file, the one in use first.
///
/// # Errors
/// The file cannot be read.
pub fn list(dir: &Path, subject: &Subject) -> Result<Vec<Listed>, KeyError> {
    let file = KeyFile::read(dir, subject)?;
    let listed =
        file.ids().enumerate().map(|(at, id)| Listed { id: id.to_owned(), in_use: at == 0 });
    Ok(listed.collect())
}

/// Adds a new key, which is not used yet. Returns its id.
///
/// # Errors
/// The file cannot be read or written.
pub fn add(dir: &Path, subject: &Subject) -> Result<String, KeyError> {
    let _lock = lock(dir)?;
    let mut file = KeyFile::read(dir, subject)?;
    let id = file.add()?;
    file.write()?;
    Ok(id)
}

/// Makes a key the one in use.
///
/// # Errors
/// See [`NotChanged`].
pub fn put_first(dir: &Path, subject: &Subject, id: &str) -> Result<(), NotChanged> {
    let _lock = lock(dir)?;
    let mut file = KeyFile::read(dir, subject)?;
    file.put_first(id)?;
    Ok(file.write()?)
}

/// Deletes a key permanently; values that it encrypted cannot be decrypted any more.
///
/// # Errors
/// See [`NotChanged`].
pub fn drop_key(dir: &Path, subject: &Subject, id: &str) -> Result<(), NotChanged> {
    let _lock = lock(dir)?;
    let mut file = KeyFile::read(dir, subject)?;
    if file.ids().next() == Some(id) {
        return Err(NotChanged::InUse(id.to_owned()));
    }
    drop(file.take(id)?);
    Ok(file.write()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys;

    #[test]
    fn key_is_added_used_and_dropped_unless_in_use() {
        let dir = tempfile::tempdir().unwrap();
        keys::make_missing(dir.path(), &[]).unwrap();
        keys::make_missing_seeds(dir.path(), &[concert_wire::access::User::Edge]).unwrap();
        keys::make_missing_database(dir.path(), &["archive".to_owned()]).unwrap();
        for subject in ["seal", "nats/edge", "mongo/archive"] {
            let subject: Subject = subject.parse().unwrap();
            let ids = || -> Vec<String> {
                let listed = list(dir.path(), &subject).unwrap();
                assert!(listed.iter().skip(1).all(|key| !key.in_use) && listed[0].in_use);
                listed.into_iter().map(|key| key.id).collect()
            };
            let old = ids().remove(0);
            let new = add(dir.path(), &subject).unwrap();
            assert_eq!(ids(), [&*old, &*new]);
            put_first(dir.path(), &subject, &new).unwrap();
            assert_eq!(ids(), [&*new, &*old]);
            assert!(matches!(drop_key(dir.path(), &subject, &new), Err(NotChanged::InUse(_))));
            drop_key(dir.path(), &subject, &old).unwrap();
            assert_eq!(ids(), [&*new]);
            let unknown = put_first(dir.path(), &subject, &old).unwrap_err();
            assert!(unknown.to_string().contains(&new), "{unknown}");
        }
    }

    #[test]
    fn invalid_owner_of_keys_is_rejected() {
        for wrong in
            ["", "nats/", "mongo/", "mongo/../seal", "nats/../seal", "nats/Edge", "../seal", "Seal"]
        {
            assert!(wrong.parse::<Subject>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn origin_survives_rotation_and_differs_for_a_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let seal = Subject::Ring(Purpose::Seal);
        let path = dir.path().join("seal.key");
        let origin = || origin(dir.path(), &Purpose::Seal).unwrap();
        keys::make_missing(dir.path(), &[]).unwrap();
        let before = origin();
        let old = list(dir.path(), &seal).unwrap().remove(0).id;
        let new = add(dir.path(), &seal).unwrap();
        put_first(dir.path(), &seal, &new).unwrap();
        drop_key(dir.path(), &seal, &old).unwrap();
        assert_eq!(origin(), before);
        std::fs::remove_file(&path).unwrap();
        keys::make_missing(dir.path(), &[]).unwrap();
        assert_ne!(origin(), before);
        // A file of an earlier release.
        let line = concert_wire::keyring::Key::new("k1", [1; 64]).to_line();
        std::fs::write(&path, &*line).unwrap();
        assert_eq!(origin(), origin());
        assert_eq!(list(dir.path(), &seal).unwrap().remove(0).id, "k1");
    }

    #[test]
    fn concurrent_changes_do_not_lose_keys() {
        let dir = tempfile::tempdir().unwrap();
        let seal = Subject::Ring(Purpose::Seal);
        keys::make_missing(dir.path(), &[]).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| add(dir.path(), &seal).unwrap());
            }
        });
        assert_eq!(list(dir.path(), &seal).unwrap().len(), 9);
    }
}
