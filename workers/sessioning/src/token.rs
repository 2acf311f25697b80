//! Session tokens.
//!
//! A redelivered action must return the same token, so the token is derived from the action's id
//! and a random key. There is a key for each hour. The database stores it as a seal until the log
//! has lost the flows of that hour. The sealing keys are destroyed soon after that, so nothing that
//! is stored later yields a token.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use concert_worker::store::{Documents, Page, doc, now};
use concert_worker::{ActionId, Call, Key, Sealer, Secret, Start, StartError, Stop, retry};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::settings::Settings;

/// Length of a key, in bytes.
const KEY_BYTES: usize = 32;
/// Time after which new tokens have another key.
const HOUR: Duration = Duration::from_secs(3600);

/// A stored key. Its id names the hour and the sealing key.
#[derive(Debug, Serialize, Deserialize)]
struct StoredKey {
    sealed: String,
    /// The flow that the seal belongs to.
    flow: String,
}

impl StoredKey {
    /// The key, if this process has the sealing key.
    fn open(&self, sealer: &Sealer) -> Option<Secret> {
        sealer.open(self.flow.parse().ok()?, &self.sealed).ok()
    }
}

/// The keys of the hours that the log still has.
pub(crate) struct Tokens {
    stored: Documents<StoredKey>,
    sealer: Sealer,
    /// The id of the last used key, and the key.
    current: Mutex<Option<(String, Secret)>>,
}

impl Tokens {
    pub(crate) async fn open(start: &Start<Settings>) -> Result<Self, StartError> {
        let stored = start.documents("token_keys").open().await?;
        Ok(Self { stored, sealer: start.sealer()?, current: Mutex::default() })
    }

    /// The token of the session that this action creates, with the key of this hour.
    pub(crate) async fn of<I>(&self, call: &Call<I>) -> Result<Secret, Stop> {
        let hour = now().timestamp_millis().unsigned_abs() / HOUR.as_millis() as u64;
        // With another sealing key, there is another key: the old one may be stolen.
        let id = format!("{hour}-{}", self.sealer.current_key_id());
        let known = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, key)) = known.filter(|(known, _)| *known == id) {
            return derive(key.expose().as_bytes(), call.id);
        }
        let key = self.create(call, &id).await?;
        let token = derive(key.expose().as_bytes(), call.id);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some((id, key));
        token
    }

    /// Stores a random key under this id, unless there is one; returns the stored one.
    async fn create<I>(&self, call: &Call<I>, id: &str) -> Result<Secret, Stop> {
        let sealed = self.sealer.seal(call.flow, random()?.expose());
        let purge_at = self.stored.until_log_lost().saturating_add_duration(HOUR);
        let set = doc! {
            "sealed": { "$ifNull": ["$sealed", sealed] },
            "flow": { "$ifNull": ["$flow", call.flow.to_string()] },
            "purge_at": { "$ifNull": ["$purge_at", purge_at] },
        };
        self.stored.upsert(call.permit().await?, id, vec![doc! { "$set": set }]).await?;
        let stored = self.stored.get(id).await?;
        let key = stored.and_then(|stored| stored.value.open(&self.sealer));
        key.ok_or_else(|| retry("the key of this hour's tokens was removed or altered"))
    }

    /// The tokens that this action can have with the keys that can be read.
    pub(crate) async fn all<I>(&self, call: &Call<I>) -> Result<Vec<Secret>, Stop> {
        let stored = self.stored.page(Page::all()).await?;
        let keys = stored.iter().filter_map(|stored| stored.value.open(&self.sealer));
        keys.map(|key| derive(key.expose().as_bytes(), call.id)).collect()
    }
}

fn random() -> Result<Secret, Stop> {
    let mut bytes = [0_u8; KEY_BYTES];
    getrandom::fill(&mut bytes).map_err(retry)?;
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(bytes)))
}

/// Separates these derivations from other uses of the key.
const PURPOSE: &[u8] = b"concert session token\0";

/// A token: 256 bits, as 43 characters of base64url.
fn derive(key: &[u8], action: ActionId) -> Result<Secret, Stop> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(retry)?;
    mac.update(PURPOSE);
    mac.update(action.uuid().as_bytes());
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())))
}

/// The token of the session that `action` created in release 0.1.0.
pub(crate) fn released(key: &Key, action: ActionId) -> Result<Secret, Stop> {
    derive(key.bytes(), action)
}

/// The stored form of a token. A plain hash is enough, because a token has 256 bits and cannot be
/// guessed.
pub(crate) type TokenHash = [u8; 32];

pub(crate) fn hash(token: &Secret) -> TokenHash {
    Sha256::digest(token.expose().as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_random() {
        assert_ne!(random().unwrap(), random().unwrap());
    }

    #[test]
    fn token_depends_on_key_and_action() {
        let (one, other) = (Key::new("k1", [1; 64]), Key::new("k2", [2; 64]));
        let (first, second) = (ActionId::injected("S", 1, 1), ActionId::injected("S", 2, 1));
        let token = released(&one, first).unwrap();
        assert_eq!(token.expose().len(), 43);
        assert_eq!(token, released(&one, first).unwrap());
        assert_ne!(token, released(&one, second).unwrap());
        assert_ne!(token, released(&other, first).unwrap());
    }
}
