//! Repeatable requests: the same `Idempotency-Key`, path and body on one UTC day are one flow.

use concert_wire::envelope::Object;
use concert_wire::id::FlowId;
use concert_wire::keyring::Keyring;
use concert_wire::value;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;

use crate::error::EdgeError;

/// The longest key, in bytes.
const KEY_MAX_BYTES: usize = 255;

/// The flow of a repeatable request. It is made with the edge's key, so that a guessed `Idempotency-Key` opens nobody's answer: path and body must be known as well.
///
/// # Errors
/// The key is empty, too long, or not visible ASCII.
pub(crate) fn flow(keys: &Keyring, now_ms: u64, key: &[u8], path: &str, body: &Object) -> Result<FlowId, EdgeError> {
    if key.is_empty() || key.len() > KEY_MAX_BYTES || !key.iter().all(u8::is_ascii_graphic) {
        return Err(EdgeError::BadRequest(format!(
            "Idempotency-Key must be 1 to {KEY_MAX_BYTES} visible ASCII characters"
        )));
    }
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(keys.current().bytes()) else {
        return Err(EdgeError::Unavailable);
    };
    for part in [
        path.as_bytes(),
        key,
        value::canonical(&Value::Object(body.clone())).as_bytes(),
    ] {
        mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        mac.update(part);
    }
    Ok(FlowId::of_day(now_ms, &mac.finalize().into_bytes().into()))
}

#[cfg(test)]
mod tests {
    use concert_wire::keyring::Key;
    use serde_json::json;

    use super::*;

    #[test]
    fn path_key_and_body_make_the_flow_and_the_order_of_keys_does_not() {
        let keys = Keyring::parse(&Key::new("k1", [1; 64]).to_line()).unwrap();
        let flow_of = |key: &str, path: &str, body: Value| {
            flow(
                &keys,
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
        for wrong in ["", "a b", "é", &"x".repeat(256)] {
            assert!(flow_of(wrong, "/a", json!({})).is_err(), "{wrong}");
        }
    }
}
