//! Sealed (encrypted) secrets: values of type `Secret` are transmitted and stored only in this
//! form.
//!
//! A sealed value is the string `sealed:<key id>:<base64url>`. The encryption is AES-256-SIV with
//! the flow id as associated data. Within a flow, equal secrets have equal seals under one key. A
//! seal cannot be opened in another flow, so a value copied from the log is not a credential.

use aes_siv::KeyInit;
use aes_siv::siv::Aes256Siv;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::id::FlowId;
use crate::keyring::{Key, LiveKeyring, is_key_id};
use crate::large::{Place, Reference};
use crate::secret::Secret;

const PREFIX: &str = "sealed:";
/// Plaintexts are padded to a multiple of this, so that a seal does not reveal the length of a
/// password.
const BLOCK_BYTES: usize = 32;
/// Length of the synthetic initialization vector, in bytes (RFC 5297).
const TAG_BYTES: usize = 16;
/// First byte of the padding (ISO 7816-4).
const PAD: u8 = 0x80;

/// Errors of opening a sealed value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The text does not have the form of a sealed value.
    #[error("not a sealed value")]
    Form,
    /// The key is not in the keyring.
    #[error("sealed with a key that this process does not have")]
    UnknownKey,
    /// The value was sealed for another flow, or altered.
    #[error("sealed for another flow, or altered")]
    Broken,
}

/// Seals and opens secrets with one keyring.
#[derive(Debug, Clone)]
pub struct Sealer {
    keys: LiveKeyring,
}

impl Sealer {
    /// Creates a sealer that seals with the current key and opens with all keys.
    pub fn new(keys: impl Into<LiveKeyring>) -> Self {
        Self { keys: keys.into() }
    }

    /// Id of the key that seals now.
    pub fn current_key_id(&self) -> String {
        self.keys.now().current().id().to_owned()
    }

    /// Seals a secret for a flow.
    pub fn seal(&self, flow: FlowId, secret: &str) -> String {
        let keys = self.keys.now();
        let key = keys.current();
        let mut padded = Zeroizing::new(Vec::with_capacity(secret.len() + BLOCK_BYTES));
        padded.extend_from_slice(secret.as_bytes());
        padded.push(PAD);
        let length = padded.len().next_multiple_of(BLOCK_BYTES);
        padded.resize(length, 0);
        // Encryption fails only for more associated data than AES-SIV allows; there is one item.
        let sealed = cipher(key).encrypt([flow.uuid().as_bytes()], &padded).unwrap_or_default();
        format!("{PREFIX}{}:{}", key.id(), URL_SAFE_NO_PAD.encode(sealed))
    }

    /// A place for a large value that this process writes; equal parts have the same place until
    /// the key changes.
    pub fn large_place(&self, parts: &[&[u8]]) -> Place {
        Place::derived(self.keys.now().current(), parts)
    }

    /// The place of large values in the input of an action that starts this flow.
    pub fn root_place(&self, flow: FlowId) -> Place {
        root_place(self.keys.now().current(), flow)
    }

    /// Returns whether a value was stored for the action that starts this flow, under any key.
    /// References of other flows are not accepted there: they could be copied from the log.
    pub fn is_of_root(&self, flow: FlowId, reference: &Reference) -> bool {
        let keys = self.keys.now();
        keys.keys().any(|key| root_place(key, flow) == reference.place())
    }

    /// Opens a sealed value of this flow.
    ///
    /// # Errors
    /// See [`SealError`].
    pub fn open(&self, flow: FlowId, sealed: &str) -> Result<Secret, SealError> {
        let (id, bytes) = parts(sealed).ok_or(SealError::Form)?;
        let key = self.keys.get(id).ok_or(SealError::UnknownKey)?;
        let padded = Zeroizing::new(
            cipher(&key)
                .decrypt([flow.uuid().as_bytes()], &bytes)
                .map_err(|_| SealError::Broken)?,
        );
        let end = padded.iter().rposition(|byte| *byte == PAD).ok_or(SealError::Broken)?;
        let text = padded.get(..end).map(<[u8]>::to_vec).ok_or(SealError::Broken)?;
        String::from_utf8(text).map(Secret::new).map_err(|_| SealError::Broken)
    }
}

/// Returns whether a text has exactly the form of a seal, including key id, encoding and length.
pub fn is_seal(text: &str) -> bool {
    parts(text).is_some()
}

/// Key id and sealed bytes.
fn parts(sealed: &str) -> Option<(&str, Vec<u8>)> {
    let (id, encoded) = sealed.strip_prefix(PREFIX)?.split_once(':')?;
    let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
    (is_key_id(id) && bytes.len() >= TAG_BYTES + BLOCK_BYTES).then_some((id, bytes))
}

/// Returns whether a value has the prefix of a seal. Only [`Sealer::open`] verifies it.
pub fn looks_sealed(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.starts_with(PREFIX))
}

fn root_place(key: &Key, flow: FlowId) -> Place {
    Place::derived(key, &[b"root", flow.uuid().as_bytes()])
}

fn cipher(key: &Key) -> Aes256Siv {
    Aes256Siv::new(key.bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::Keyring;

    fn sealer(ids: &[&str]) -> Sealer {
        let text: String = ids
            .iter()
            .map(|id| Key::new(id, [id.as_bytes()[1]; 64]).to_line().to_string())
            .collect();
        Sealer::new(Keyring::parse(&text).unwrap())
    }

    fn flow(n: u64) -> FlowId {
        crate::id::ActionId::injected("S", n, n).as_root()
    }

    #[test]
    fn seal_opens_only_in_its_flow() {
        let sealer = sealer(&["k1"]);
        let sealed = sealer.seal(flow(1), "correct horse");
        assert_eq!(sealed, sealer.seal(flow(1), "correct horse"));
        assert_ne!(sealed, sealer.seal(flow(2), "correct horse"));
        assert_eq!(sealer.open(flow(1), &sealed).unwrap().expose(), "correct horse");
        assert_eq!(sealer.open(flow(2), &sealed), Err(SealError::Broken));
    }

    #[test]
    fn seal_does_not_reveal_the_length() {
        let sealer = sealer(&["k1"]);
        assert_eq!(sealer.seal(flow(1), "").len(), sealer.seal(flow(1), &"x".repeat(31)).len());
        for text in
            ["", "é", "ends with \u{80}", &"x".repeat(31), &"x".repeat(32), "sealed:k1:AAAA"]
        {
            assert_eq!(sealer.open(flow(1), &sealer.seal(flow(1), text)).unwrap().expose(), text);
        }
    }

    #[test]
    fn older_key_opens_and_unknown_key_is_its_own_error() {
        let sealed = sealer(&["k1"]).seal(flow(1), "x");
        assert!(sealer(&["k2", "k1"]).open(flow(1), &sealed).is_ok());
        assert_eq!(sealer(&["k2"]).open(flow(1), &sealed), Err(SealError::UnknownKey));
    }

    #[test]
    fn unknown_key_is_reloaded() {
        let sealed = sealer(&["k2"]).seal(flow(1), "x");
        let ring = |ids: &[&str]| -> Keyring {
            let lines =
                ids.iter().map(|id| Key::new(id, [id.as_bytes()[1]; 64]).to_line().to_string());
            Keyring::parse(&lines.collect::<String>()).unwrap()
        };
        let (both, one) = (ring(&["k1", "k2"]), ring(&["k1"]));
        let looking =
            Sealer::new(LiveKeyring::from(one).with_reload(move |live| live.replace(both.clone())));
        assert_eq!(looking.open(flow(1), &sealed).unwrap().expose(), "x");
    }

    #[test]
    fn is_seal_accepts_only_the_exact_form() {
        assert!(is_seal(&sealer(&["k1"]).seal(flow(1), "")));
        let long = "A".repeat(64);
        assert!(is_seal(&format!("sealed:k9:{long}")));
        for text in [
            "sealed: with a kiss",
            "sealed:k1:AAAA",
            "sealed::",
            &long,
            &format!("sealed:K 1:{long}"),
        ] {
            assert!(!is_seal(text), "{text}");
        }
    }

    #[test]
    fn altered_seal_does_not_open() {
        let sealer = sealer(&["k1"]);
        for wrong in ["", "sealed:", "sealed:k1", "plain", "sealed:k1:!!", "sealed:k1:AAAA"] {
            assert_eq!(sealer.open(flow(1), wrong), Err(SealError::Form), "{wrong}");
        }
        let altered = format!("sealed:k1:{}", "A".repeat(64));
        assert_eq!(sealer.open(flow(1), &altered), Err(SealError::Broken));
    }
}
