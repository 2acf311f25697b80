//! Repeatable requests: the same `Idempotency-Key`, path and body on one UTC day are one flow.

use concert_runtime::bus::Bus;
use concert_runtime::log;
use concert_wire::envelope::Object;
use concert_wire::id::FlowId;
use concert_wire::keyring::{Key, Keyring};
use concert_wire::{REQUEST, REQUESTING, subject, value};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::error::EdgeError;

/// Maximum length of a key, in bytes.
const KEY_MAX_BYTES: usize = 255;

/// Derives the flow of a repeatable request. If the log has the request under an older key of the
/// edge, returns that flow; otherwise the flow under the current key.
///
/// # Errors
/// The `Idempotency-Key` is empty, too long, or not visible ASCII. Or the search of the log for the
/// first request fails; it happens only while the edge has several keys.
pub(crate) async fn flow(
    bus: &Bus,
    keys: &Keyring,
    now_ms: u64,
    key: &[u8],
    path: &str,
    body: &Object,
) -> Result<FlowId, EdgeError> {
    let flow = flow_under(keys.current(), now_ms, key, path, body)?;
    for other in keys.others() {
        let before = flow_under(other, now_ms, key, path, body)?;
        let root = subject::completion(before, REQUESTING, REQUEST, before.root());
        match log::find(bus, &root).await {
            Ok(Some(_)) => return Ok(before),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot search the log for an earlier, equal request");
                return Err(EdgeError::Unavailable);
            }
        }
    }
    Ok(flow)
}

/// Flow under one key of the edge. It depends on path and body, so a guessed `Idempotency-Key`
/// alone does not give access to a response. Large values count, and where they are stored does
/// not.
fn flow_under(
    edge_key: &Key,
    now_ms: u64,
    key: &[u8],
    path: &str,
    body: &Object,
) -> Result<FlowId, EdgeError> {
    if key.is_empty() || key.len() > KEY_MAX_BYTES || !key.iter().all(u8::is_ascii_graphic) {
        return Err(EdgeError::BadRequest(format!(
            "Idempotency-Key must be 1 to {KEY_MAX_BYTES} visible ASCII characters"
        )));
    }
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(edge_key.bytes()) else {
        return Err(EdgeError::Unavailable);
    };
    for part in [path.as_bytes(), key, value::canonical_object(body).as_bytes()] {
        mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        mac.update(part);
    }
    Ok(FlowId::of_day(now_ms, &mac.finalize().into_bytes().into()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn flow_depends_on_path_key_and_body_but_not_on_member_order() {
        let edge_key = Key::new("k1", [1; 64]);
        let flow_of = |key: &str, path: &str, body: Value| {
            flow_under(
                &edge_key,
                1_700_000_000_000,
                key.as_bytes(),
                path,
                body.as_object().unwrap(),
            )
        };
        let one = flow_of("k", "/a", json!({"a": 1, "b": "x"})).unwrap();
        assert_eq!(flow_of("k", "/a", json!({"b": "x", "a": 1.0})), Ok(one));
        for other in [
            flow_of("l", "/a", json!({"a": 1, "b": "x"})),
            flow_of("k", "/b", json!({"a": 1, "b": "x"})),
            flow_of("k", "/a", json!({"a": 2, "b": "x"})),
        ] {
            assert_ne!(other, Ok(one));
        }
        let large = |place: &str, bytes: usize| {
            let place = place.repeat(22);
            json!({ "a": format!("large:{place}:{bytes}:{}", "0".repeat(64)) })
        };
        let stored = flow_of("k", "/a", large("A", 40_000));
        assert_eq!(flow_of("k", "/a", large("Q", 40_000)), stored);
        assert_ne!(flow_of("k", "/a", large("A", 40_001)), stored);
        for wrong in ["", "a b", "é", &"x".repeat(256)] {
            assert!(flow_of(wrong, "/a", json!({})).is_err(), "{wrong}");
        }
    }
}
