//! References to large values: strings that are stored outside the log.
//!
//! A string of more than [`INLINE_MAX_BYTES`] is stored as encrypted chunks and a manifest
//! ([`blob`]). Messages contain `large:<place>:<bytes>:<digest>` instead. The digest is the SHA-256
//! of the chunks' SHA-256s, so equal strings have equal digests at every place. Whoever has the
//! reference can read the value; without it, the stored messages reveal only their sizes.

pub mod blob;

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Sha256;

use crate::envelope::Object;
use crate::keyring::Key;

/// Longest string that a message contains itself, in bytes of UTF-8.
pub const INLINE_MAX_BYTES: u64 = 32 * 1024;
/// Longest string that can be stored, in bytes of UTF-8.
pub const VALUE_MAX_BYTES: u64 = 64 * 1024 * 1024;

const PREFIX: &str = "large:";
const PLACE_BYTES: usize = 16;

/// Separates the blobs of one request or action from those of others. It is secret, because keys
/// are derived from it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place([u8; PLACE_BYTES]);

impl Place {
    /// A place from random bytes of the caller.
    pub const fn new(bytes: [u8; PLACE_BYTES]) -> Self {
        Self(bytes)
    }

    /// The place of a repeatable request or action: equal parts have the same place under one key,
    /// so a repetition finds its blobs instead of storing them again.
    pub fn derived(key: &Key, parts: &[&[u8]]) -> Self {
        let mut mac = keyed(key.bytes());
        mac.update(b"concert large place\0");
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        let derived: [u8; 32] = mac.finalize().into_bytes().into();
        let mut bytes = [0; PLACE_BYTES];
        bytes.iter_mut().zip(derived).for_each(|(to, from)| *to = from);
        Self(bytes)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Place")
    }
}

/// HMAC-SHA256 under a key.
#[expect(clippy::expect_used, reason = "HMAC accepts keys of every length")]
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("a key of any length")
}

/// SHA-256 of the chunks' SHA-256s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ValueDigest([u8; 32]);

impl From<ValueDigest> for String {
    fn from(digest: ValueDigest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for ValueDigest {
    type Error = NotAReference;

    fn try_from(hex: String) -> Result<Self, NotAReference> {
        digest_bytes(&hex).map(Self).ok_or(NotAReference)
    }
}

impl ValueDigest {
    /// The digest of a text.
    pub fn of(text: &str) -> Self {
        blob::digest_of_text(text)
    }

    /// Its bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ValueDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The text is not a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a reference to a large value")]
pub struct NotAReference;

/// A reference to a large value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reference {
    place: Place,
    bytes: u64,
    digest: ValueDigest,
}

impl Reference {
    /// The reference to a value at a place. `bytes` is more than [`INLINE_MAX_BYTES`]. A writer
    /// uses it to find out whether the value is stored already.
    pub const fn new(place: Place, bytes: u64, digest: ValueDigest) -> Self {
        Self { place, bytes, digest }
    }

    /// The reference to a text at a place.
    pub fn to_text(place: Place, text: &str) -> Self {
        Self::new(place, text.len() as u64, ValueDigest::of(text))
    }

    /// Returns whether this denotes a text.
    pub fn is_text(&self, text: &str) -> bool {
        self.bytes == text.len() as u64 && self.digest == ValueDigest::of(text)
    }

    /// Place of the value.
    pub(crate) const fn place(&self) -> Place {
        self.place
    }

    /// Length of the value, in bytes of UTF-8.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Digest of the value.
    pub const fn digest(&self) -> ValueDigest {
        self.digest
    }

    /// Returns whether two references denote equal strings; their places may differ.
    pub fn is_same_value(&self, other: &Self) -> bool {
        (self.bytes, self.digest) == (other.bytes, other.digest)
    }

    /// The reference in a value.
    pub fn of(value: &Value) -> Option<Self> {
        value.as_str()?.parse().ok()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = URL_SAFE_NO_PAD.encode(self.place.0);
        write!(f, "{PREFIX}{place}:{}:{}", self.bytes, self.digest)
    }
}

impl FromStr for Reference {
    type Err = NotAReference;

    /// Accepts only the exact form that [`Display`](fmt::Display) writes.
    fn from_str(text: &str) -> Result<Self, NotAReference> {
        let rest = text.strip_prefix(PREFIX).ok_or(NotAReference)?;
        let mut parts = rest.split(':');
        let (Some(place), Some(bytes), Some(digest), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NotAReference);
        };
        let place = URL_SAFE_NO_PAD.decode(place).ok().and_then(|place| place.try_into().ok());
        let reference = Self {
            place: Place(place.ok_or(NotAReference)?),
            bytes: bytes.parse().map_err(|_| NotAReference)?,
            digest: ValueDigest(digest_bytes(digest).ok_or(NotAReference)?),
        };
        let is_large = (INLINE_MAX_BYTES + 1..=VALUE_MAX_BYTES).contains(&reference.bytes);
        // Rejects other spellings of the numbers, such as `+40000`.
        if is_large && reference.to_string() == text { Ok(reference) } else { Err(NotAReference) }
    }
}

fn digest_bytes(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// Returns whether a value contains a text in the form of a reference, at any depth. Input from
/// outside must not: it would read a value of another client.
pub fn holds_reference(value: &Value) -> bool {
    holds_other(value, &|_| false)
}

/// Returns whether a value contains a reference other than the `known` ones, at any depth.
pub fn holds_other(value: &Value, known: &impl Fn(&Reference) -> bool) -> bool {
    any_text(value, &|text| text.parse().is_ok_and(|reference| !known(&reference)))
}

/// Returns whether a condition holds for a text in a value, at any depth.
pub fn any_text(value: &Value, holds: &impl Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => holds(text),
        Value::Array(values) => values.iter().any(|value| any_text(value, holds)),
        Value::Object(members) => members.values().any(|value| any_text(value, holds)),
        _ => false,
    }
}

/// The texts in the values of an object, at any depth.
pub fn texts_mut(object: &mut Object) -> Vec<&mut String> {
    fn add<'a>(value: &'a mut Value, found: &mut Vec<&'a mut String>) {
        match value {
            Value::String(text) => found.push(text),
            Value::Array(values) => values.iter_mut().for_each(|value| add(value, found)),
            Value::Object(members) => members.values_mut().for_each(|value| add(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    object.values_mut().for_each(|value| add(value, &mut found));
    found
}

/// Returns whether a value of the object holds a reference; see [`holds_reference`].
pub fn is_in(object: &Object) -> bool {
    object.values().any(holds_reference)
}

/// Returns whether a value of the object holds a reference other than the `known` ones.
pub fn is_other_in(object: &Object, known: &impl Fn(&Reference) -> bool) -> bool {
    object.values().any(|value| holds_other(value, known))
}

/// Reason why input with a text in the form of a reference is refused.
pub const NOT_ACCEPTED: &str =
    "the input contains a text in the form of a reference to a large value";

#[cfg(test)]
mod tests;
