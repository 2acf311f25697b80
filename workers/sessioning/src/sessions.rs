//! Sessions in MongoDB. An ended session stays as its own tombstone until no redelivery can ask for it any more.

use std::fmt::Write as _;
use std::time::Duration;

use concert_wire::id::{ActionId, uuid_v5};
use concert_wire::keyring::LiveKeyring;
use concert_wire::secret::Secret;
use concert_worker::store::operation::{FIND, INSERT, UPDATE};
use concert_worker::store::{Index, Lookups, Retention, StoreError, index, is_duplicate, run, stamp, unavailable};
use concert_worker::{Failure, Lease, part, sabotaged};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, DateTime, Document, doc};
use mongodb::{Collection, Database};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::sweeps::Sweeps;
use crate::token;

#[derive(Debug, Serialize, Deserialize)]
struct Session {
    #[serde(rename = "_id")]
    token_hash: Binary,
    user: String,
    /// The key that the token was derived with; as long as there are sessions of a key it must stay in the file.
    key: String,
    created_by: String,
    created_at: DateTime,
    idle_expires_at: DateTime,
    expires_at: DateTime,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<Ended>,
    /// When the document may go: long after the session's end.
    purge_at: DateTime,
}

#[derive(Debug, Serialize, Deserialize)]
struct Ended {
    by: String,
    at: DateTime,
}

impl Session {
    /// Expiry holds from its moment on, not from when the sweep comes by.
    fn is_live(&self, now: DateTime) -> bool {
        self.ended.is_none() && now < self.idle_expires_at && now < self.expires_at
    }
}

/// What may be told of a session: no token, and nothing that it could be found by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) id: String,
    pub(crate) created_at: String,
    pub(crate) expires_at: String,
}

impl Session {
    /// The id under which a session is listed. It follows from the action that made the session, and leads nowhere.
    fn public_id(&self) -> String {
        let made_by = Uuid::try_parse(&self.created_by).unwrap_or_default();
        uuid_v5(&made_by, b"listed session").to_string()
    }
}

/// Sessions that one operation ends at most; between operations the lease is asked.
const ENDED_AT_ONCE: usize = 500;
/// Sessions in one answer at most.
const LISTED_MAX: usize = 1000;

/// The sessions of an application.
pub struct Sessions {
    collection: Collection<Session>,
    by_token: Lookups<Session>,
    sweeps: Sweeps,
    keys: LiveKeyring,
    idle: Duration,
    absolute: Duration,
    retention: Retention,
}

/// The idle expiry is moved only after this part of the idle time, so that not every look at a session is a write.
const TOUCH_FRACTION: u32 = 10;

impl Sessions {
    pub(crate) async fn open(
        database: &Database,
        keys: LiveKeyring,
        idle: Duration,
        absolute: Duration,
        retention: Retention,
    ) -> Result<Self, StoreError> {
        let collection = database.collection("sessions");
        index(&collection, "purge_at", Index::Expiry).await?;
        index(&collection, "user", Index::Lookup).await?;
        Ok(Self {
            by_token: Lookups::new(&collection),
            collection,
            sweeps: Sweeps::open(database, retention).await?,
            keys,
            idle,
            absolute,
            retention,
        })
    }

    /// Makes the session of this action; the same action always makes the same one.
    pub(crate) async fn create(&self, action: ActionId, user: &str, lease: &Lease) -> Result<Secret, Failure> {
        if let Some(token) = self.made_under_another_key(action).await? {
            return Ok(token);
        }
        let keys = self.keys.now();
        let key = keys.current();
        // Without the stamp each delivery makes a session of its own.
        let token = if sabotaged!("stamp") {
            token::derive(key, concert_wire::id::FlowId::new(Uuid::now_v7()).root())
        } else {
            token::derive(key, action)
        };
        let now = concert_worker::store::now();
        let expires_at = now.saturating_add_duration(self.absolute);
        let session = Session {
            token_hash: hashed(&token),
            user: user.to_owned(),
            key: key.id().to_owned(),
            created_by: action.to_string(),
            created_at: now,
            idle_expires_at: now.saturating_add_duration(self.idle),
            expires_at,
            ended: None,
            purge_at: self.retention.until(expires_at),
        };
        lease.may_write().await?;
        match part(INSERT, self.collection.insert_one(session)).await {
            // An earlier delivery of this action made it.
            Err(error) if is_duplicate(&error) => Ok(token),
            Err(error) => Err(unavailable(error)),
            Ok(_) => Ok(token),
        }
    }

    /// The token that an earlier delivery of this action made, before the key was rotated.
    async fn made_under_another_key(&self, action: ActionId) -> Result<Option<Secret>, Failure> {
        for key in self.keys.now().others() {
            let token = token::derive(key, action);
            if self.of_token(&token).await?.is_some() {
                return Ok(Some(token));
            }
        }
        Ok(None)
    }

    /// The session of a token, whether or not it is live.
    async fn of_token(&self, token: &Secret) -> Result<Option<Session>, Failure> {
        part(FIND, self.by_token.find(&token::hash(token))).await
    }

    /// Ends a session; whether there was one to end. The action that ended it hears so at every delivery.
    pub(crate) async fn end(&self, action: ActionId, token: &Secret, lease: &Lease) -> Result<bool, Failure> {
        let Some(session) = self.of_token(token).await? else {
            return Ok(false);
        };
        let now = concert_worker::store::now();
        if let Some(ended) = session.ended {
            return Ok(ended.by == action.to_string() && !sabotaged!("stamp"));
        }
        if !session.is_live(now) {
            return Ok(false);
        }
        lease.may_write().await?;
        let live = doc! { "_id": hashed(token), "ended": { "$exists": false } };
        let end =
            doc! { "$set": { "ended": { "by": stamp(action), "at": now }, "purge_at": self.retention.until(now) } };
        let updated = run(UPDATE, self.collection.update_one(live, end)).await?;
        if updated.matched_count == 1 {
            return Ok(true);
        }
        let faster = self.of_token(token).await?;
        let faster = faster.and_then(|session| session.ended);
        Ok(faster.is_some_and(|ended| ended.by == action.to_string()))
    }

    /// Ends the live sessions of a user, but for one if that is named.
    ///
    /// Which they are is written down before the first of them is ended, so that a redelivery, however late, ends those and no session that was made since.
    /// A session whose making has been confirmed when this is asked for is among them; one that is made at the same time may be, or not.
    pub(crate) async fn end_all(
        &self,
        action: ActionId,
        user: &str,
        but: Option<&Secret>,
        lease: &Lease,
    ) -> Result<(), Failure> {
        let ended = match self.sweeps.of(action).await? {
            Some(ended) => ended,
            None => {
                let but = but.map(hashed);
                let live = self.live_of(user, None).await?.into_iter();
                let tokens = live.map(|session| session.token_hash);
                let tokens = tokens.filter(|token| Some(token) != but.as_ref()).collect();
                lease.may_write().await?;
                self.sweeps.begin(action, user, tokens).await?
            }
        };
        let now = concert_worker::store::now();
        // Many documents, each changed in one atomic step of its own.
        for token_hashes in ended.chunks(ENDED_AT_ONCE) {
            lease.may_write().await?;
            let live = doc! { "_id": { "$in": token_hashes }, "ended": { "$exists": false } };
            let end =
                doc! { "$set": { "ended": { "by": stamp(action), "at": now }, "purge_at": self.retention.until(now) } };
            run(UPDATE, self.collection.update_many(live, end)).await?;
        }
        Ok(())
    }

    /// The live sessions of a user, the newest first.
    pub(crate) async fn list(&self, user: &str) -> Result<Vec<Listed>, Failure> {
        let live = self.live_of(user, Some(LISTED_MAX)).await?;
        let list = live.iter().map(|session| {
            Ok(Listed {
                id: session.public_id(),
                created_at: rfc3339(session.created_at)?,
                expires_at: rfc3339(session.expires_at.min(session.idle_expires_at))?,
            })
        });
        list.collect()
    }

    /// The id under which a live session is listed.
    pub(crate) async fn public_id(&self, token: &Secret) -> Result<Option<String>, Failure> {
        let found = self.of_token(token).await?;
        let live = found.filter(|session| session.is_live(concert_worker::store::now()));
        Ok(live.as_ref().map(Session::public_id))
    }

    async fn live_of(&self, user: &str, most: Option<usize>) -> Result<Vec<Session>, Failure> {
        let now = concert_worker::store::now();
        let live: Document = doc! {
            "user": user, "ended": { "$exists": false }, "idle_expires_at": { "$gt": now }, "expires_at": { "$gt": now },
        };
        let limit = most.and_then(|most| i64::try_from(most).ok()).unwrap_or(0);
        let newest_first = doc! { "created_at": -1, "_id": 1 };
        let found = self.collection.find(live).sort(newest_first).limit(limit);
        let mut cursor = run(FIND, found).await?;
        let mut found = Vec::new();
        while cursor.advance().await.map_err(unavailable)? {
            found.push(cursor.deserialize_current().map_err(unavailable)?);
        }
        Ok(found)
    }

    /// Whose session this is, if it is live; using it puts off its idle expiry.
    pub(crate) async fn user(&self, token: &Secret) -> Result<Option<String>, Failure> {
        let found = self.of_token(token).await?;
        let now = concert_worker::store::now();
        let Some(session) = found.filter(|session| session.is_live(now)) else {
            return Ok(None);
        };
        let idle_expires_at = now.saturating_add_duration(self.idle);
        let moved_ms = idle_expires_at.timestamp_millis() - session.idle_expires_at.timestamp_millis();
        if u128::try_from(moved_ms).unwrap_or(0) > (self.idle / TOUCH_FRACTION).as_millis() {
            let live = doc! { "_id": hashed(token), "ended": { "$exists": false } };
            let touch = doc! { "$max": { "idle_expires_at": idle_expires_at } };
            run(UPDATE, self.collection.update_one(live, touch)).await?;
        }
        Ok(Some(session.user))
    }
}

/// Always with three digits after the point, so that times that are compared as text are in their order.
fn rfc3339(time: DateTime) -> Result<String, Failure> {
    let mut text = String::new();
    write!(text, "{}", humantime::format_rfc3339_millis(time.to_system_time())).map_err(Failure::retry)?;
    Ok(text)
}

fn hashed(token: &Secret) -> Binary {
    Binary {
        subtype: BinarySubtype::Generic,
        bytes: token::hash(token).to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_the_order_of_their_text() {
        let texts: Vec<String> = [0, 1, 10, 100, 684, 690, 695, 1000, 253_402_300_799_999]
            .map(|ms| rfc3339(DateTime::from_millis(ms)).unwrap())
            .to_vec();
        assert_eq!(texts[5], "1970-01-01T00:00:00.690Z");
        assert!(texts.is_sorted_by(|earlier, later| earlier < later), "{texts:?}");
        assert!(rfc3339(DateTime::from_millis(253_402_300_800_000)).is_err());
    }
}
