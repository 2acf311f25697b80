//! Repeats of responses that hold a secret, such as the session of a login.
//!
//! An `Idempotency-Key` names one flow all day, so a late retry never repeats the action. The
//! response of that flow is repeated, but a secret in it only for a short time, only to the same
//! client, and only until the client has used it: then the client has the first response.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use concert_wire::envelope::Object;
use concert_wire::id::FlowId;
use concert_wire::large::any_text;
use concert_wire::nested;
use concert_wire::routes::Route;
use concert_wire::seal::Sealer;
use tokio::time::Instant;

/// Time in which a response with a secret is repeated.
pub(crate) const REPEAT_WINDOW: Duration = Duration::from_secs(60);
/// Maximum number of remembered secrets; the oldest is forgotten first.
const MAX_USED: usize = 100_000;

/// Secrets in recent requests, as keyed hashes.
#[derive(Default)]
pub(crate) struct UsedSecrets {
    hasher: RandomState,
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    hashes: HashSet<u64>,
    by_time: VecDeque<(Instant, u64)>,
}

impl UsedSecrets {
    /// Remembers the secrets of a request, in plain text. Returns their hashes.
    pub(crate) fn remember(&self, route: &Route, body: &Object) -> Vec<u64> {
        let secrets = route.keys.iter().filter(|(_, key)| key.secret);
        let hashes = secrets.filter_map(|(name, _)| nested::get(body, name)?.as_str());
        let hashes: Vec<u64> = hashes.map(|secret| self.hash(secret)).collect();
        let now = Instant::now();
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        // A response is repeated for one window after it was stored, and its secret cannot be used
        // before it is stored. So a use that is remembered for two windows is never missed.
        while let Some((at, hash)) = used.by_time.front().copied()
            && (now - at > 2 * REPEAT_WINDOW || used.by_time.len() > MAX_USED)
        {
            used.by_time.pop_front();
            used.hashes.remove(&hash);
        }
        for hash in &hashes {
            if used.hashes.insert(*hash) {
                used.by_time.push_back((now, *hash));
            }
        }
        hashes
    }

    fn contains(&self, hash: u64) -> bool {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).hashes.contains(&hash)
    }

    fn hash(&self, secret: &str) -> u64 {
        self.hasher.hash_one(secret)
    }

    /// True if a response of an earlier request may be sent again. `age`: since the response was
    /// stored. `own`: hashes of the secrets that the repeated request itself has; its client knows
    /// them.
    pub(crate) fn allow_repeat(
        &self,
        (sealer, flow): (&Sealer, FlowId),
        response: &Object,
        age: Duration,
        same_client: bool,
        own: &[u64],
    ) -> bool {
        let has = |holds: &dyn Fn(u64) -> bool| {
            let is_new = |text: &str| {
                let hash = sealer.open(flow, text).ok().map(|secret| self.hash(secret.expose()));
                hash.is_some_and(|hash| !own.contains(&hash) && holds(hash))
            };
            response.values().any(|value| any_text(value, &is_new))
        };
        !has(&|_| true)
            || (age <= REPEAT_WINDOW && same_client && !has(&|hash| self.contains(hash)))
    }
}

/// True if the response has a secret.
pub(crate) fn has_secret(sealer: &Sealer, flow: FlowId, response: &Object) -> bool {
    let is_secret = |text: &str| sealer.open(flow, text).is_ok();
    response.values().any(|value| any_text(value, &is_secret))
}

#[cfg(test)]
mod tests {
    use concert_wire::id::ActionId;
    use concert_wire::keyring::{Key, Keyring};
    use concert_wire::routes::{RouteKey, ValueType};
    use serde_json::{Value, json};

    use super::*;

    const TOKEN: &str = "a-session-token";

    #[tokio::test(start_paused = true)]
    async fn secret_is_repeated_shortly_to_the_same_client_until_it_is_used() {
        let sealer = Sealer::new(Keyring::parse(&Key::new("k1", [1; 64]).to_line()).unwrap());
        let flow = ActionId::injected("S", 1, 1).as_root();
        let object = |value: Value| value.as_object().unwrap().clone();
        let secret = object(json!({ "user": [{ "session": sealer.seal(flow, TOKEN) }] }));
        let plain = object(json!({ "user": "ada" }));
        let (soon, late) = (Duration::from_secs(59), Duration::from_secs(61));
        let used = UsedSecrets::default();
        let allowed = |response: &Object, age, same_client| {
            used.allow_repeat((&sealer, flow), response, age, same_client, &[])
        };
        for (response, age, same_client, expected) in [
            (&secret, soon, true, true),
            (&secret, late, true, false),
            (&secret, soon, false, false),
            (&plain, late, false, true),
        ] {
            assert_eq!(allowed(response, age, same_client), expected, "{age:?} {same_client}");
        }
        let key = RouteKey { required: true, secret: true, kind: ValueType::Secret };
        let logout = Route { keys: [("session".to_owned(), key)].into_iter().collect() };
        used.remember(&logout, &object(json!({ "session": "another" })));
        assert!(allowed(&secret, soon, true));
        used.remember(&logout, &object(json!({ "session": TOKEN })));
        assert!(!allowed(&secret, soon, true));
        assert!(allowed(&plain, soon, true));
        // A client that sends the secret itself knows it.
        let own = used.remember(&logout, &object(json!({ "session": TOKEN })));
        assert!(used.allow_repeat((&sealer, flow), &secret, late, false, &own));
        // Old secrets are forgotten; their responses are not repeated any more.
        tokio::time::advance(3 * REPEAT_WINDOW).await;
        used.remember(&logout, &object(json!({ "session": "another" })));
        assert_eq!(used.used.lock().unwrap().hashes.len(), 1);
    }
}
