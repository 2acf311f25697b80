//! Keys with ids, so that they can be rotated: the first of a file is used for what is new, the
//! others still open what is old.

use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

/// The length of a key, in bytes.
pub const KEY_BYTES: usize = 64;

/// One key.
#[derive(Clone)]
pub struct Key {
    id: String,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

/// The keys of one purpose; there is at least one.
#[derive(Clone)]
pub struct Keyring {
    current: Key,
    others: Vec<Key>,
}

/// Why a key file was refused. No message repeats what the file holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKeyring {
    /// No line holds a key.
    #[error("the file holds no key")]
    Empty,
    /// A line is not `<id> <base64url>`.
    #[error(
        "line {0} is not `<id> <{KEY_BYTES} bytes as base64url without padding>`, with an id of lower-case letters and digits"
    )]
    Line(usize),
    /// An id stands twice.
    #[error("line {0} repeats a key id")]
    Repeated(usize),
}

impl Key {
    /// Makes a key of bytes that the caller drew at random.
    pub fn new(id: &str, bytes: [u8; KEY_BYTES]) -> Self {
        Self { id: id.to_owned(), bytes: Zeroizing::new(bytes) }
    }

    /// The id that stands beside what was made with this key.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key itself.
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.bytes
    }

    /// The key as a line of a key file.
    pub fn to_line(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{} {}\n", self.id, URL_SAFE_NO_PAD.encode(*self.bytes)))
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
    /// Reads a key file: a key a line, the current one first; empty lines and lines that begin with
    /// `#` do not count.
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

    /// The key for what is new.
    pub fn current(&self) -> &Key {
        &self.current
    }

    /// The keys that are not used for what is new: no longer, or not yet.
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

/// The keys in force in a process, which may be replaced while it runs. What is made of one look at
/// them is made of one keyring.
#[derive(Debug, Clone)]
pub struct LiveKeyring {
    in_force: Arc<RwLock<Arc<Keyring>>>,
    look: Option<Look>,
}

/// Looks where the keys come from, and puts in force what is there.
#[derive(Clone)]
struct Look(Arc<dyn Fn(&LiveKeyring) + Send + Sync>);

impl std::fmt::Debug for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Look")
    }
}

impl From<Keyring> for LiveKeyring {
    fn from(keys: Keyring) -> Self {
        Self { in_force: Arc::new(RwLock::new(Arc::new(keys))), look: None }
    }
}

impl LiveKeyring {
    /// The same keys, with a way to look for newer ones: it is taken by [`get`](Self::get), may
    /// take no time to speak of, and says itself how often it looks.
    #[must_use]
    pub fn with_look(self, look: impl Fn(&Self) + Send + Sync + 'static) -> Self {
        Self { look: Some(Look(Arc::new(look))), ..self }
    }

    /// The keys in force now.
    pub fn now(&self) -> Arc<Keyring> {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The key with this id. One that is not in force is looked for: whoever used it may have heard
    /// of it first.
    pub fn get(&self, id: &str) -> Option<Key> {
        let known = || self.now().get(id).cloned();
        known().or_else(|| {
            let Look(look) = self.look.as_ref()?;
            look(self);
            known()
        })
    }

    /// Puts others in force, everywhere in the process.
    pub fn replace(&self, keys: Keyring) {
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }
}

fn parse_line(line: &str) -> Option<Key> {
    let (id, encoded) = line.split_once(' ')?;
    let decoded = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded.trim()).ok()?);
    let bytes: [u8; KEY_BYTES] = decoded.as_slice().try_into().ok()?;
    is_key_id(id).then(|| Key::new(id, bytes))
}

/// Whether a key can be called so.
pub(crate) fn is_key_id(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= 16
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_is_the_current_one_and_the_others_still_open() {
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
    fn a_bad_file_is_refused_by_line_and_not_repeated() {
        assert_eq!(Keyring::parse("\n# x\n").unwrap_err(), BadKeyring::Empty);
        assert_eq!(Keyring::parse("k1 c2hvcnQ").unwrap_err(), BadKeyring::Line(1));
        let line = Key::new("k1", [1; 64]).to_line();
        assert_eq!(
            Keyring::parse(&format!("{}{}", *line, *line)).unwrap_err(),
            BadKeyring::Repeated(2)
        );
    }
}
