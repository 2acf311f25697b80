//! Session tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use concert_worker::{ActionId, Key, Secret};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// Separates these derivations from other uses of the key.
const PURPOSE: &[u8] = b"concert session token\0";

/// The token of the session that `action` creates: 256 bits, as 43 characters of base64url. Without
/// the key it is indistinguishable from random.
pub fn derive(key: &Key, action: ActionId) -> Secret {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.bytes()) else {
        return Secret::new(String::new());
    };
    mac.update(PURPOSE);
    mac.update(action.uuid().as_bytes());
    Secret::new(URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// The stored form of a token. A plain hash is enough, because a token has 256 random bits.
pub(crate) type TokenHash = [u8; 32];

pub(crate) fn hash(token: &Secret) -> TokenHash {
    Sha256::digest(token.expose().as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_depends_on_key_and_action() {
        let (one, other) = (Key::new("k1", [1; 64]), Key::new("k2", [2; 64]));
        let (first, second) = (ActionId::injected("S", 1, 1), ActionId::injected("S", 2, 1));
        let token = derive(&one, first);
        assert_eq!(token.expose().len(), 43);
        assert_eq!(token, derive(&one, first));
        assert_ne!(token, derive(&one, second));
        assert_ne!(token, derive(&other, first));
    }
}
