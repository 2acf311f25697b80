//! Replaces the encrypted secrets (seals) of archived messages with markers.
//!
//! The archive outlives the log, and its backups are stored elsewhere. With the sealing key, every
//! seal in it could be decrypted. A marker only shows that there was a secret. Equal secrets of a
//! flow have equal markers, because rules may compare secrets.

use std::collections::HashMap;

use concert_engine::provenance::Stored;
use concert_wire::seal;

/// Prefix of seals and markers: programs that display archived flows recognise a secret by it.
const PREFIX: &str = "sealed:";
/// Prefix of a marker. `-` is not the id of a key, so a marker is never taken for a seal.
const MARKER: &str = "sealed:-:";
/// Length of the longest key id.
const MAX_KEY_ID: usize = 16;

/// The markers of one flow, numbered by the first occurrence of each secret in its log.
///
/// The number depends only on earlier messages, so a redelivered message gets the same markers.
#[derive(Default)]
pub(crate) struct Markers {
    numbers: HashMap<String, usize>,
    scope: String,
}

impl Markers {
    /// Markers for messages whose earlier messages are unknown. They differ from all other markers
    /// of the flow.
    pub(crate) fn from_seq(seq: u64) -> Self {
        Self { scope: format!("{seq}-"), ..Self::default() }
    }

    /// Replaces the seals in the messages of a flow, which must be in the order of the log.
    pub(crate) fn redact(&mut self, messages: &mut [Stored]) {
        for message in messages {
            if let Some(body) = self.redacted(&message.body) {
                message.body = body;
            }
        }
    }

    /// The text with markers instead of seals; `None` if it has no seal.
    pub(crate) fn redacted(&mut self, text: &[u8]) -> Option<Vec<u8>> {
        let mut redacted = Vec::new();
        let mut is_changed = false;
        let mut rest = text;
        while let Some((before, from)) = position(rest).and_then(|at| rest.split_at_checked(at)) {
            redacted.extend_from_slice(before);
            let (token, after) = match from.split_at_checked(token_length(from)) {
                Some((token, after)) if is_seal(token) => {
                    is_changed = true;
                    (self.marker(token), after)
                }
                _ => (PREFIX.to_owned(), from.get(PREFIX.len()..).unwrap_or_default()),
            };
            redacted.extend_from_slice(token.as_bytes());
            rest = after;
        }
        redacted.extend_from_slice(rest);
        is_changed.then_some(redacted)
    }

    /// Like [`redacted`](Self::redacted), for a text.
    pub(crate) fn redacted_text(&mut self, text: &str) -> Option<String> {
        let redacted = self.redacted(text.as_bytes())?;
        // Seals and markers are ASCII, so the rest stays valid.
        Some(String::from_utf8_lossy(&redacted).into_owned())
    }

    fn marker(&mut self, seal: &[u8]) -> String {
        let next = self.numbers.len() + 1;
        let seal = String::from_utf8_lossy(seal).into_owned();
        format!("{MARKER}{}{}", self.scope, self.numbers.entry(seal).or_insert(next))
    }
}

/// Returns whether a message has a seal.
pub(crate) fn has_seal(message: &Stored) -> bool {
    Markers::default().redacted(&message.body).is_some()
}

fn position(text: &[u8]) -> Option<usize> {
    text.windows(PREFIX.len()).position(|window| window == PREFIX.as_bytes())
}

/// Length of the longest token at the start of a text that may be a seal.
fn token_length(text: &[u8]) -> usize {
    let after_prefix = text.iter().skip(PREFIX.len());
    let id = after_prefix.clone().take(MAX_KEY_ID + 1).take_while(|byte| **byte != b':').count();
    let is_base64url = |byte: &&u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    PREFIX.len() + id + 1 + after_prefix.skip(id + 1).take_while(is_base64url).count()
}

fn is_seal(token: &[u8]) -> bool {
    std::str::from_utf8(token).is_ok_and(seal::is_seal)
}

#[cfg(test)]
mod tests {
    use concert_wire::id::FlowId;
    use concert_wire::keyring::{KEY_BYTES, Key, Keyring};
    use concert_wire::seal::Sealer;

    use super::*;

    fn seals() -> [String; 2] {
        let key = Key::new("k1", [7; KEY_BYTES]).to_line();
        let sealer = Sealer::new(Keyring::parse(&key).unwrap());
        let flow = FlowId::of_rules();
        ["hunter22", "correct horse battery staple, twice over"].map(|text| sealer.seal(flow, text))
    }

    #[test]
    fn each_seal_becomes_a_marker_and_equal_seals_stay_equal() {
        let [one, two] = seals();
        let text =
            format!(r#"{{"a":"{one}","b":["{two}",{{"c":"x {one} y"}}],"d":"sealed:k1:x"}}"#);
        let mut markers = Markers::default();
        let redacted = markers.redacted_text(&text).unwrap();
        assert_eq!(
            redacted,
            r#"{"a":"sealed:-:1","b":["sealed:-:2",{"c":"x sealed:-:1 y"}],"d":"sealed:k1:x"}"#
        );
        assert_eq!(markers.redacted_text(&two).as_deref(), Some("sealed:-:2"));
        assert_eq!(markers.redacted(redacted.as_bytes()), None, "markers stay");
    }

    #[test]
    fn text_without_a_seal_stays_unchanged() {
        for text in ["", "sealed:", "sealed:k1", "sealed:k1:", "sealed::AAAA", "unsealed", "\u{e9}"]
        {
            assert_eq!(Markers::default().redacted(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Markers::default().redacted(b"sealed:\xff\xfe:AAAA sealed:"), None);
    }
}
