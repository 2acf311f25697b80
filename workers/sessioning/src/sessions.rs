//! Sessions in MongoDB. An ended session stays as its own tombstone until no redelivery can ask for it any more.

use std::time::Duration;

use concert_host::{Failure, Lease};
use concert_store::{Index, Retention, StoreError, index, is_duplicate, stamp, unavailable};
use concert_wire::id::ActionId;
use concert_wire::keyring::Keyring;
use concert_wire::secret::Secret;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, DateTime, Document, doc};
use mongodb::{Collection, Database};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ending::{Ending, Endings};
use crate::token;

#[derive(Debug, Serialize, Deserialize)]
struct Session {
    #[serde(rename = "_id")]
    token_hash: Binary,
    user: String,
    /// The key that the token was derived with; as long as there are sessions of a key it must stay in the file.
    key: String,
    created_by: String,
    /// Later than that of every session that the user had before.
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

/// A session as its user may see it.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) id: Uuid,
    pub(crate) created_at: DateTime,
    pub(crate) expires_at: DateTime,
}

/// The sessions of an application.
pub struct Sessions {
    collection: Collection<Session>,
    endings: Endings,
    keys: Keyring,
    idle: Duration,
    absolute: Duration,
    retention: Retention,
}

/// The idle expiry is moved only after this part of the idle time, so that not every look at a session is a write.
const TOUCH_FRACTION: u32 = 10;
/// Sessions in one list at most, so that whoever makes many cannot keep the user from seeing the newest.
const LIST_MAX: i64 = 100;

impl Sessions {
    pub(crate) async fn open(
        database: &Database,
        keys: Keyring,
        idle: Duration,
        absolute: Duration,
        retention: Retention,
    ) -> Result<Self, StoreError> {
        let collection = database.collection("sessions");
        index(&collection, "purge_at", Index::Expiry).await?;
        index(&collection, "user", Index::NewestFirst).await?;
        Ok(Self {
            collection,
            endings: Endings::open(database, retention).await?,
            keys,
            idle,
            absolute,
            retention,
        })
    }

    /// Makes the session of this action; the same action always makes the same one.
    pub(crate) async fn create(&self, action: ActionId, user: &str, lease: &Lease) -> Result<Secret, Failure> {
        if let Some(token) = self.made_under_an_older_key(action).await? {
            return Ok(token);
        }
        let key = self.keys.current();
        let token = token::derive(key, action);
        let now = DateTime::now();
        let created_at = match self.newest_of(user).await? {
            Some(newest) => now.max(newest.saturating_add_duration(Duration::from_millis(1))),
            None => now,
        };
        let expires_at = now.saturating_add_duration(self.absolute);
        let session = Session {
            token_hash: hashed(&token),
            user: user.to_owned(),
            key: key.id().to_owned(),
            created_by: action.to_string(),
            created_at,
            idle_expires_at: now.saturating_add_duration(self.idle),
            expires_at,
            ended: None,
            purge_at: self.retention.until(expires_at),
        };
        lease.check()?;
        match self.collection.insert_one(session).await {
            // An earlier delivery of this action made it.
            Err(error) if is_duplicate(&error) => Ok(token),
            Err(error) => Err(unavailable(error)),
            Ok(_) => Ok(token),
        }
    }

    /// The token that an earlier delivery of this action made, before the key was rotated.
    async fn made_under_an_older_key(&self, action: ActionId) -> Result<Option<Secret>, Failure> {
        for key in self.keys.older() {
            let token = token::derive(key, action);
            let by_token = doc! { "_id": hashed(&token) };
            if self.collection.find_one(by_token).await.map_err(unavailable)?.is_some() {
                return Ok(Some(token));
            }
        }
        Ok(None)
    }

    /// Ends a session; whether there was one to end. The action that ended it hears so at every delivery.
    pub(crate) async fn end(&self, action: ActionId, token: &Secret, lease: &Lease) -> Result<bool, Failure> {
        let by_token = doc! { "_id": hashed(token) };
        let now = DateTime::now();
        let Some(session) = self.collection.find_one(by_token.clone()).await.map_err(unavailable)? else {
            return Ok(false);
        };
        if let Some(ended) = session.ended {
            return Ok(ended.by == action.to_string());
        }
        if !session.is_live(now) {
            return Ok(false);
        }
        lease.check()?;
        let live = doc! { "_id": hashed(token), "ended": { "$exists": false } };
        if self
            .collection
            .update_one(live, self.end_of(action, now))
            .await
            .map_err(unavailable)?
            .matched_count
            == 1
        {
            return Ok(true);
        }
        let faster = self
            .collection
            .find_one(by_token)
            .await
            .map_err(unavailable)?
            .and_then(|session| session.ended);
        Ok(faster.is_some_and(|ended| ended.by == action.to_string()))
    }

    /// Ends every session of a user.
    ///
    /// A session that was there when this was asked for has ended when this returns. One that is being made at the same time may end or stay. One whose making begins
    /// after the first delivery has begun to end sessions stays, however late another delivery comes.
    pub(crate) async fn end_all(&self, action: ActionId, user: &str, lease: &Lease) -> Result<(), Failure> {
        let ending = match self.endings.of(action).await? {
            Some(begun) => begun,
            None => self.endings.begin(action, self.newest_of(user).await?, lease).await?,
        };
        self.carry_out(&ending, doc! { "user": user }, action, lease).await
    }

    /// Ends every session of a user but this one, with the promise of [`Self::end_all`]; whether this one is the user's. Once it was, every delivery hears so.
    pub(crate) async fn end_others(
        &self,
        action: ActionId,
        user: &str,
        kept: &Secret,
        lease: &Lease,
    ) -> Result<bool, Failure> {
        let ending = match self.endings.of(action).await? {
            Some(begun) => begun,
            None => {
                let live = self.live(kept).await?;
                if live.is_none_or(|session| session.user != user) {
                    return Ok(false);
                }
                self.endings.begin(action, self.newest_of(user).await?, lease).await?
            }
        };
        let others = doc! { "user": user, "_id": { "$ne": hashed(kept) } };
        self.carry_out(&ending, others, action, lease).await?;
        Ok(true)
    }

    /// Ends what was written down. Each session is a write of its own, and one that has ended keeps the stamp of what ended it, so that this may stop anywhere and begin again.
    async fn carry_out(
        &self,
        ending: &Ending,
        mut of_user: Document,
        action: ActionId,
        lease: &Lease,
    ) -> Result<(), Failure> {
        let Some(newest) = ending.newest else { return Ok(()) };
        // Expired ones too: by the clock of another worker one of them may be live.
        of_user.insert("created_at", doc! { "$lte": newest });
        of_user.insert("ended", doc! { "$exists": false });
        lease.check()?;
        self.collection
            .update_many(of_user, self.end_of(action, DateTime::now()))
            .await
            .map(|_| ())
            .map_err(unavailable)
    }

    /// When the newest session of a user was made, ended ones among them.
    async fn newest_of(&self, user: &str) -> Result<Option<DateTime>, Failure> {
        let newest = self
            .collection
            .find_one(doc! { "user": user })
            .sort(doc! { "created_at": -1 })
            .await
            .map_err(unavailable)?;
        Ok(newest.map(|session| session.created_at))
    }

    /// The live sessions of a user, the newest first, [`LIST_MAX`] at most.
    pub(crate) async fn list(&self, user: &str) -> Result<Vec<Shown>, Failure> {
        let now = DateTime::now();
        let live = doc! {
            "user": user,
            "ended": { "$exists": false },
            "idle_expires_at": { "$gt": now },
            "expires_at": { "$gt": now },
        };
        let mut cursor = self
            .collection
            .find(live)
            .sort(doc! { "created_at": -1 })
            .limit(LIST_MAX)
            .await
            .map_err(unavailable)?;
        let mut found = Vec::new();
        while cursor.advance().await.map_err(unavailable)? {
            found.push(shown(cursor.deserialize_current().map_err(unavailable)?)?);
        }
        Ok(found)
    }

    async fn live(&self, token: &Secret) -> Result<Option<Session>, Failure> {
        let now = DateTime::now();
        let found = self
            .collection
            .find_one(doc! { "_id": hashed(token) })
            .await
            .map_err(unavailable)?;
        Ok(found.filter(|session| session.is_live(now)))
    }

    /// The update that ends a session.
    fn end_of(&self, action: ActionId, at: DateTime) -> Document {
        doc! { "$set": { "ended": { "by": stamp(action), "at": at }, "purge_at": self.retention.until(at) } }
    }

    /// Whose session this is, if it is live; using it puts off its idle expiry.
    pub(crate) async fn user(&self, token: &Secret) -> Result<Option<String>, Failure> {
        let Some(session) = self.live(token).await? else {
            return Ok(None);
        };
        let now = DateTime::now();
        let idle_expires_at = now.saturating_add_duration(self.idle);
        let moved_ms = idle_expires_at.timestamp_millis() - session.idle_expires_at.timestamp_millis();
        if u128::try_from(moved_ms).unwrap_or(0) > (self.idle / TOUCH_FRACTION).as_millis() {
            let live = doc! { "_id": hashed(token), "ended": { "$exists": false } };
            let touch = doc! { "$max": { "idle_expires_at": idle_expires_at } };
            self.collection.update_one(live, touch).await.map_err(unavailable)?;
        }
        Ok(Some(session.user))
    }
}

/// What its user may see of a session. The id follows from the action that made it, and neither token nor hash follow from the id.
fn shown(session: Session) -> Result<Shown, Failure> {
    let action: ActionId = session
        .created_by
        .parse()
        .map_err(|_| Failure::retry("a session does not say which action made it"))?;
    Ok(Shown {
        id: Uuid::new_v5(&action.uuid(), b"session"),
        created_at: session.created_at,
        expires_at: session.idle_expires_at.min(session.expires_at),
    })
}

fn hashed(token: &Secret) -> Binary {
    Binary {
        subtype: BinarySubtype::Generic,
        bytes: token::hash(token).to_vec(),
    }
}
