//! The stored form of a large value: chunks and a manifest, one message each.
//!
//! The subject and the key of a chunk are derived from the place, the index and the chunk's own
//! hash, those of the manifest from the place and the digest. A process with access to the stream
//! but without the reference can neither find nor decrypt them.

use std::borrow::Cow;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest as _, Sha256, Sha512};
use zeroize::Zeroizing;

use super::{Place, Reference, VALUE_MAX_BYTES, ValueDigest};

/// Stream of the stored chunks and manifests.
pub const BLOBS: &str = "BLOBS";
/// Subjects of [`BLOBS`].
pub const BLOBS_SUBJECTS: &str = "blob.*.*";
/// Length of every chunk but the last, in bytes. It is a part of the format, because the digest
/// depends on it.
pub const CHUNK_BYTES: usize = 512 * 1024;

/// First byte of a manifest: the version of its format.
const MANIFEST_VERSION: u8 = 1;
/// The version, and the length of the value as JSON.
const MANIFEST_HEAD_BYTES: usize = 1 + 8;
const HASH_BYTES: usize = 32;
const NAME_BYTES: usize = 16;

/// Errors of reading a stored message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// The message was altered, or is stored under a wrong subject.
    #[error("a stored part of a large value does not match its reference")]
    Broken,
    /// A newer version wrote the manifest.
    #[error("version {0} of the manifest of a large value is unknown; update this process")]
    Version(u8),
}

/// A message to store or to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its subject.
    pub subject: String,
    /// Its encrypted body.
    pub body: Vec<u8>,
}

/// Collects the hashes of a value while its chunks are written.
#[derive(Debug)]
pub struct Writer {
    place: Place,
    pub(super) bytes: u64,
    json_bytes: u64,
    hashes: Vec<[u8; HASH_BYTES]>,
    is_ended: bool,
}

/// The value does not fit: it exceeds [`VALUE_MAX_BYTES`], or a chunk has a wrong length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The value is too long.
    #[error("a value is larger than {VALUE_MAX_BYTES} bytes")]
    TooLarge,
    /// Only the last chunk may be shorter than [`CHUNK_BYTES`]; none is empty or longer.
    #[error("a chunk of a large value has a wrong length")]
    Length,
}

impl Writer {
    /// Starts a value at a place. The caller stores only strings of more than
    /// [`INLINE_MAX_BYTES`](super::INLINE_MAX_BYTES), because no shorter one has a reference.
    pub const fn new(place: Place) -> Self {
        Self { place, bytes: 0, json_bytes: 0, hashes: Vec::new(), is_ended: false }
    }

    /// Encrypts the next chunk.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn chunk(&mut self, chunk: &[u8]) -> Result<Message, WriteError> {
        if chunk.is_empty() || chunk.len() > CHUNK_BYTES || self.is_ended {
            return Err(WriteError::Length);
        }
        if self.bytes + chunk.len() as u64 > VALUE_MAX_BYTES {
            return Err(WriteError::TooLarge);
        }
        self.is_ended = chunk.len() < CHUNK_BYTES;
        self.bytes += chunk.len() as u64;
        self.json_bytes += escaped_bytes(chunk);
        let hash = Sha256::digest(chunk).into();
        let part = Part::chunk(self.place, self.hashes.len(), &hash);
        self.hashes.push(hash);
        Ok(part.seal(chunk))
    }

    /// The manifest, which is stored after all chunks, and the reference.
    pub fn finish(self) -> (Message, Reference) {
        let digest = digest_of(&self.hashes);
        let mut text = Vec::with_capacity(MANIFEST_HEAD_BYTES + self.hashes.len() * HASH_BYTES);
        text.push(MANIFEST_VERSION);
        text.extend_from_slice(&self.json_bytes.to_be_bytes());
        text.extend(self.hashes.iter().flatten());
        let message = Part::manifest(self.place, digest).seal(&text);
        (message, Reference { place: self.place, bytes: self.bytes, digest })
    }
}

/// A manifest that was read and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    reference: Reference,
    json_bytes: u64,
    hashes: Vec<[u8; HASH_BYTES]>,
}

impl Manifest {
    /// Subject of the manifest of a value.
    pub fn subject(reference: &Reference) -> String {
        Part::manifest(reference.place, reference.digest).subject
    }

    /// Decrypts and verifies a manifest.
    ///
    /// # Errors
    /// See [`BlobError`].
    pub fn open(reference: &Reference, body: &[u8]) -> Result<Self, BlobError> {
        let text = Part::manifest(reference.place, reference.digest).open(body.to_vec())?;
        let (version, text) = text.split_first().ok_or(BlobError::Broken)?;
        if *version != MANIFEST_VERSION {
            return Err(BlobError::Version(*version));
        }
        let (json_bytes, hashes) = text.split_first_chunk().ok_or(BlobError::Broken)?;
        let (hashes, []) = hashes.as_chunks::<HASH_BYTES>() else {
            return Err(BlobError::Broken);
        };
        let chunks = reference.bytes.div_ceil(CHUNK_BYTES as u64);
        if hashes.len() as u64 != chunks || digest_of(hashes) != reference.digest {
            return Err(BlobError::Broken);
        }
        let json_bytes = u64::from_be_bytes(*json_bytes);
        Ok(Self { reference: *reference, json_bytes, hashes: hashes.to_vec() })
    }

    /// Length of the value inside the quotes of a JSON string, in bytes; see [`escaped_bytes`].
    pub const fn json_bytes(&self) -> u64 {
        self.json_bytes
    }

    /// Returns whether no character is escaped in a JSON string.
    pub const fn is_plain(&self) -> bool {
        self.json_bytes == self.reference.bytes
    }

    /// Number of chunks.
    pub fn chunks(&self) -> usize {
        self.hashes.len()
    }

    /// Subject of a chunk; `None` past the last one.
    pub fn chunk_subject(&self, index: usize) -> Option<String> {
        let hash = self.hashes.get(index)?;
        Some(Part::chunk(self.reference.place, index, hash).subject)
    }

    /// Decrypts a chunk and verifies its hash and length. The end of a chunk may divide a
    /// character.
    ///
    /// # Errors
    /// [`BlobError::Broken`]
    pub fn open_chunk(&self, index: usize, body: &[u8]) -> Result<Vec<u8>, BlobError> {
        let hash = self.hashes.get(index).ok_or(BlobError::Broken)?;
        let chunk = self.reopen_chunk(index, body.to_vec())?;
        let start = index as u64 * CHUNK_BYTES as u64;
        let length = (self.reference.bytes - start).min(CHUNK_BYTES as u64);
        let is_right = chunk.len() as u64 == length
            && <[u8; HASH_BYTES]>::from(Sha256::digest(&chunk)) == *hash;
        if is_right { Ok(chunk) } else { Err(BlobError::Broken) }
    }

    /// Decrypts a chunk that the caller has kept since [`open_chunk`](Self::open_chunk) verified it.
    ///
    /// # Errors
    /// [`BlobError::Broken`]: the body was altered.
    pub fn reopen_chunk(&self, index: usize, body: Vec<u8>) -> Result<Vec<u8>, BlobError> {
        let hash = self.hashes.get(index).ok_or(BlobError::Broken)?;
        Part::chunk(self.reference.place, index, hash).open(body)
    }
}

/// A part of a text as it is in a JSON string, escaped as `serde_json` does. The part may divide a
/// character.
pub fn escaped(text: &[u8]) -> Cow<'_, [u8]> {
    let length = escaped_bytes(text);
    if length == text.len() as u64 {
        return Cow::Borrowed(text);
    }
    let mut escaped = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    for byte in text {
        match byte {
            b'"' => escaped.extend_from_slice(br#"\""#),
            b'\\' => escaped.extend_from_slice(br"\\"),
            b'\n' => escaped.extend_from_slice(br"\n"),
            b'\r' => escaped.extend_from_slice(br"\r"),
            b'\t' => escaped.extend_from_slice(br"\t"),
            0x08 => escaped.extend_from_slice(br"\b"),
            0x0c => escaped.extend_from_slice(br"\f"),
            // Writing to a vector cannot fail.
            0x00..=0x1f => write!(escaped, "\\u{byte:04x}").unwrap_or_default(),
            _ => escaped.push(*byte),
        }
    }
    Cow::Owned(escaped)
}

/// Length of a part of a text in a JSON string, in bytes, escaped as `serde_json` does. The part
/// may divide a character.
pub fn escaped_bytes(text: &[u8]) -> u64 {
    // Most chunks are base64.
    if is_plain(text) {
        return text.len() as u64;
    }
    let escaped = |byte: &u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0x00..=0x1f => 6,
        _ => 1,
    };
    text.iter().map(escaped).sum()
}

/// The text at the beginning of a part of a JSON string, without the escapes and other characters
/// that follow it. Empty if it begins with an escape, the closing quote, or a byte that is not UTF-8.
pub fn plain_prefix(part: &[u8]) -> &[u8] {
    /// Bytes that are checked together.
    const STEP: usize = 64;
    let plain = part.chunks(STEP).take_while(|step| is_plain(step)).map(<[u8]>::len).sum();
    let (plain, rest) = part.split_at(plain);
    let more = rest.iter().take_while(|byte| !is_escaped(**byte)).count();
    let plain = part.get(..plain.len() + more).unwrap_or(plain);
    match str::from_utf8(plain) {
        Ok(text) => text.as_bytes(),
        Err(error) => plain.get(..error.valid_up_to()).unwrap_or_default(),
    }
}

fn is_plain(text: &[u8]) -> bool {
    // The compiler turns this into vector instructions.
    !text.iter().fold(false, |any, byte| any | is_escaped(*byte))
}

const fn is_escaped(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// The digest of a text.
pub(super) fn digest_of_text(text: &str) -> ValueDigest {
    let chunks = text.as_bytes().chunks(CHUNK_BYTES);
    let hashes: Vec<_> = chunks.map(|chunk| Sha256::digest(chunk).into()).collect();
    digest_of(&hashes)
}

fn digest_of(hashes: &[[u8; HASH_BYTES]]) -> ValueDigest {
    let mut all = Sha256::new();
    hashes.iter().for_each(|hash| all.update(hash));
    ValueDigest(all.finalize().into())
}

/// Subject and key of one message.
struct Part {
    subject: String,
    /// Its first 32 bytes encrypt.
    key: Zeroizing<[u8; 64]>,
}

/// Each key encrypts one text only, so all texts have the same nonce.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

impl Part {
    fn chunk(place: Place, index: usize, hash: &[u8; HASH_BYTES]) -> Self {
        Self::new(place, b"chunk", &[&(index as u64).to_be_bytes(), hash])
    }

    fn manifest(place: Place, digest: ValueDigest) -> Self {
        Self::new(place, b"manifest", &[&digest.0])
    }

    /// No label is a prefix of another and the parts have fixed lengths, so inputs are unambiguous.
    fn new(place: Place, label: &[u8], parts: &[&[u8]]) -> Self {
        let folder = short(&derive(place, &[b"folder"]));
        let name = [&[b"name ", label], parts].concat();
        let key = [&[b"key ", label], parts].concat();
        let name = short(&derive(place, &name));
        Self { subject: format!("blob.{folder}.{name}"), key: derive(place, &key) }
    }

    fn seal(self, text: &[u8]) -> Message {
        let mut body = Vec::with_capacity(text.len() + AES_256_GCM.tag_len());
        body.extend_from_slice(text);
        let sealed = self.cipher().seal_in_place_append_tag(nonce(), Aad::empty(), &mut body);
        // Encryption fails only for more than 64 GiB.
        if sealed.is_err() {
            body.clear();
        }
        Message { subject: self.subject, body }
    }

    fn open(&self, mut body: Vec<u8>) -> Result<Vec<u8>, BlobError> {
        let opened = self.cipher().open_in_place(nonce(), Aad::empty(), &mut body);
        let length = opened.map_err(|_| BlobError::Broken)?.len();
        body.truncate(length);
        Ok(body)
    }

    #[expect(clippy::expect_used, reason = "a key of AES-256 has 32 bytes")]
    fn cipher(&self) -> LessSafeKey {
        let (key, _) = self.key.split_at(AES_256_GCM.key_len());
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("a key of 32 bytes"))
    }
}

/// HMAC-SHA512 under the place.
#[expect(clippy::expect_used, reason = "HMAC accepts keys of every length")]
fn derive(place: Place, parts: &[&[u8]]) -> Zeroizing<[u8; 64]> {
    let mut mac =
        <Hmac<Sha512> as hmac::KeyInit>::new_from_slice(&place.0).expect("a key of any length");
    parts.iter().for_each(|part| mac.update(part));
    Zeroizing::new(mac.finalize().into_bytes().into())
}

fn short(derived: &[u8; 64]) -> String {
    URL_SAFE_NO_PAD.encode(derived.first_chunk::<NAME_BYTES>().unwrap_or(&[0; NAME_BYTES]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manifest that a writer with the reference sealed itself.
    #[test]
    fn forged_manifest_is_rejected() {
        let mut writer = Writer::new(Place::new([7; 16]));
        writer.chunk(b"a book").unwrap();
        let (_, reference) = writer.finish();
        let forge = |version: u8, hashes: &[u8]| {
            let text = [&[version], &6_u64.to_be_bytes()[..], hashes].concat();
            let body = Part::manifest(reference.place, reference.digest).seal(&text).body;
            Manifest::open(&reference, &body).map(|manifest| manifest.chunks())
        };
        let right: [u8; HASH_BYTES] = Sha256::digest(b"a book").into();
        assert_eq!(forge(1, &right), Ok(1));
        assert_eq!(forge(2, &right), Err(BlobError::Version(2)));
        for wrong in [&[9; HASH_BYTES][..], &[], &right[1..], &[right, right].concat()] {
            assert_eq!(forge(1, wrong), Err(BlobError::Broken));
        }
    }
}
