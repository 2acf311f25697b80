//! Keys with ids, for rotation: the first key of a file encrypts, all keys decrypt.

use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

/// Length of a key, in bytes.
pub const KEY_BYTES: usize = 64;

/// One key.
#[derive(Clone)]
pub struct Key {
    id: String,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

/// The keys of one purpose; at least one.
#[derive(Clone)]
pub struct Keyring {
    current: Key,
    others: Vec<Key>,
}

/// Errors in a key file. No message contains text of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKeyring {
    /// The file contains no key.
    #[error("the file contains no key")]
    Empty,
    /// A line is not `<id> <base64url>`.
    #[error(
        "line {0} is not `<id> <{KEY_BYTES} bytes as base64url without padding>`, with an id of \
         lower-case letters and digits"
    )]
    Line(usize),
    /// An id occurs twice.
    #[error("line {0} repeats a key id")]
    Repeated(usize),
}

impl Key {
    /// Creates a key from random bytes of the caller.
    pub fn new(id: &str, bytes: [u8; KEY_BYTES]) -> Self {
        Self { id: id.to_owned(), bytes: Zeroizing::new(bytes) }
    }

    /// Id of the key, which is stored with all values encrypted with it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Bytes of the key.
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.bytes
    }

    /// The key as a password, in base64url.
    pub fn password(&self) -> Zeroizing<String> {
        Zeroizing::new(URL_SAFE_NO_PAD.encode(*self.bytes))
    }

    /// The key as a line of a key file.
    pub fn to_line(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{} {}\n", self.id, *self.password()))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keyring({})", self.current.id)
    }
}

impl Keyring {
    /// Reads a key file: one key per line, the current one first. Empty lines and lines that begin
    /// with `#` are ignored.
    ///
    /// # Errors
    /// See [`BadKeyring`].
    pub fn parse(text: &str) -> Result<Self, BadKeyring> {
        let mut keys: Vec<Key> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = parse_line(line).ok_or(BadKeyring::Line(number))?;
            if keys.iter().any(|other| other.id == key.id) {
                return Err(BadKeyring::Repeated(number));
            }
            keys.push(key);
        }
        let mut keys = keys.into_iter();
        let current = keys.next().ok_or(BadKeyring::Empty)?;
        Ok(Self { current, others: keys.collect() })
    }

    /// The key for new values.
    pub fn current(&self) -> &Key {
        &self.current
    }

    /// The keys that only decrypt: earlier ones, and those to be used later.
    pub fn others(&self) -> &[Key] {
        &self.others
    }

    /// Every key, the current one first.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.current).chain(&self.others)
    }

    /// The key with this id.
    pub fn get(&self, id: &str) -> Option<&Key> {
        self.keys().find(|key| key.id == id)
    }
}

/// The current keys of a process, which can be replaced while it runs. [`now`](Self::now) returns
/// one consistent keyring.
#[derive(Debug, Clone)]
pub struct LiveKeyring {
    current: Arc<RwLock<Arc<Keyring>>>,
    reload: Option<Reload>,
}

/// Reloads the keys from their source.
#[derive(Clone)]
struct Reload(Arc<dyn Fn(&LiveKeyring) + Send + Sync>);

impl std::fmt::Debug for Reload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reload")
    }
}

impl From<Keyring> for LiveKeyring {
    fn from(keys: Keyring) -> Self {
        Self { current: Arc::new(RwLock::new(Arc::new(keys))), reload: None }
    }
}

impl LiveKeyring {
    /// The same keys, with a function that reloads them. [`get`](Self::get) calls it for an unknown
    /// id, so it must be fast and limit how often it reads the source.
    #[must_use]
    pub fn with_reload(self, reload: impl Fn(&Self) + Send + Sync + 'static) -> Self {
        Self { reload: Some(Reload(Arc::new(reload))), ..self }
    }

    /// The current keys.
    pub fn now(&self) -> Arc<Keyring> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The key with this id. If it is unknown, the keys are reloaded first: another process may
    /// have read it earlier.
    pub fn get(&self, id: &str) -> Option<Key> {
        let known = || self.now().get(id).cloned();
        known().or_else(|| {
            let Reload(reload) = self.reload.as_ref()?;
            reload(self);
            known()
        })
    }

    /// Replaces the keys in the whole process.
    pub fn replace(&self, keys: Keyring) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }
}

fn parse_line(line: &str) -> Option<Key> {
    let (id, encoded) = line.split_once(' ')?;
    let decoded = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded.trim()).ok()?);
    let bytes: [u8; KEY_BYTES] = decoded.as_slice().try_into().ok()?;
    is_key_id(id).then(|| Key::new(id, bytes))
}

/// Returns whether a text is a valid key id.
pub(crate) fn is_key_id(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= 16
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_key_is_current_and_others_still_decrypt() {
        let text = format!(
            "# rotated\n{}\n{}",
            *Key::new("k2", [2; 64]).to_line(),
            *Key::new("k1", [1; 64]).to_line()
        );
        let ring = Keyring::parse(&text).unwrap();
        assert_eq!(ring.current().id(), "k2");
        assert_eq!(ring.get("k1").unwrap().bytes(), &[1; 64]);
        assert!(ring.get("k3").is_none());
    }

    #[test]
    fn error_in_a_key_file_names_the_line_without_its_text() {
        assert_eq!(Keyring::parse("\n# x\n").unwrap_err(), BadKeyring::Empty);
        assert_eq!(Keyring::parse("k1 c2hvcnQ").unwrap_err(), BadKeyring::Line(1));
        let line = Key::new("k1", [1; 64]).to_line();
        assert_eq!(
            Keyring::parse(&format!("{}{}", *line, *line)).unwrap_err(),
            BadKeyring::Repeated(2)
        );
    }
}
