//! Session tokens.
//!
//! A redelivered action must return the same token. Until the log has lost its flow, the token is
//! stored as a seal of the flow, as in the log. The sealing keys are destroyed soon after that, so
//! nothing that is stored later yields the token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use concert_worker::store::{Documents, doc};
use concert_worker::{ActionId, Call, Key, Sealer, Secret, Start, StartError, Stop, retry};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::settings::Settings;

/// Length of a token before it is encoded, in bytes.
const TOKEN_BYTES: usize = 32;

/// The token of a session that is being created.
#[derive(Debug, Serialize, Deserialize)]
struct Issued {
    sealed: String,
}

/// The tokens of the actions that the log still has.
pub(crate) struct Tokens {
    issued: Documents<Issued>,
    sealer: Sealer,
}

impl Tokens {
    pub(crate) async fn open(start: &Start<Settings>) -> Result<Self, StartError> {
        Ok(Self { issued: start.documents("tokens").open().await?, sealer: start.sealer()? })
    }

    /// The token of the session that this action creates: random, and the same at each delivery.
    pub(crate) async fn of<I>(&self, call: &Call<I>) -> Result<Secret, Stop> {
        let id = call.id.to_string();
        let sealed = self.sealer.seal(call.flow, random()?.expose());
        let set = doc! {
            "sealed": { "$ifNull": ["$sealed", sealed] },
            "purge_at": { "$ifNull": ["$purge_at", self.issued.until_log_lost()] },
        };
        self.issued.upsert(call.permit().await?, &id, vec![doc! { "$set": set }]).await?;
        let issued = self.issued.get(&id).await?;
        let issued = issued.ok_or_else(|| retry("the token of this session was removed"))?;
        self.sealer.open(call.flow, &issued.value.sealed).map_err(retry)
    }
}

/// A token: 256 random bits, as 43 characters of base64url.
fn random() -> Result<Secret, Stop> {
    let mut bytes = [0_u8; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(retry)?;
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(bytes)))
}

/// Separates these derivations from other uses of the key.
const PURPOSE: &[u8] = b"concert session token\0";

/// The token of the session that `action` created in release 0.1.0.
pub(crate) fn released(key: &Key, action: ActionId) -> Secret {
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
    fn tokens_are_random() {
        let (one, other) = (random().unwrap(), random().unwrap());
        assert_eq!(one.expose().len(), 43);
        assert_ne!(one, other);
    }

    #[test]
    fn released_token_depends_on_key_and_action() {
        let (one, other) = (Key::new("k1", [1; 64]), Key::new("k2", [2; 64]));
        let (first, second) = (ActionId::injected("S", 1, 1), ActionId::injected("S", 2, 1));
        let token = released(&one, first);
        assert_eq!(token, released(&one, first));
        assert_ne!(token, released(&one, second));
        assert_ne!(token, released(&other, first));
    }
}
