//! Users in MongoDB. A deleted user stays as a tombstone, without name and password, until no redelivery can ask for it any more.

use concert_wire::client::ClientTag;
use concert_wire::id::{ActionId, uuid_v5};
use concert_wire::secret::Secret;
use concert_worker::store::operation::{FIND, INSERT, UPDATE};
use concert_worker::store::{Index, Retention, StoreError, index, is_duplicate, run, stamp, unavailable};
use concert_worker::{Failure, Lease, part, sabotaged};
use mongodb::bson::{DateTime, Document, doc};
use mongodb::{Collection, Database};
use serde::{Deserialize, Serialize};

use crate::attempts::{AccountKey, Admission, Attempt, Attempts};
use crate::blocklist::Blocklist;
use crate::name::{self, MAX_CHARS, Username};
use crate::password::{HashPool, Verdict};

/// The shortest password, in characters.
const PASSWORD_MIN_CHARS: usize = 8;
/// The longest password, in bytes.
const PASSWORD_MAX_BYTES: usize = 1024;
/// Users in one answer at most.
const ALL_USERS_MAX: usize = 10_000;

/// Why an account is not made, found, changed or deleted. The words are the application's own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("Username '{0}' already exists.")]
    NameTaken(String),
    #[error(
        "Username must have 1 to {MAX_CHARS} characters, none of them a control character, and no space at its ends."
    )]
    NameUnusable,
    #[error("Password must be at least {PASSWORD_MIN_CHARS} characters long.")]
    PasswordShort,
    #[error("Password must be at most {PASSWORD_MAX_BYTES} bytes long.")]
    PasswordLong,
    #[error("Invalid username or password.")]
    Unrecognised,
    #[error("User '{0}' not found.")]
    NoUser(String),
    #[error("Incorrect old password.")]
    OldPasswordWrong,
    #[error("New password must be at least {PASSWORD_MIN_CHARS} characters long.")]
    NewPasswordShort,
    #[error("New password must be at most {PASSWORD_MAX_BYTES} bytes long.")]
    NewPasswordLong,
    #[error("New password cannot be the same as the old password.")]
    NewPasswordSame,
    #[error("This password is too common.")]
    PasswordCommon,
    #[error("Too many attempts have failed. Try again later.")]
    Throttled,
}

type Answer = Result<Result<String, Refusal>, Failure>;

#[derive(Debug, Serialize, Deserialize)]
struct User {
    #[serde(rename = "_id")]
    id: String,
    /// Empty once the user is deleted.
    username: String,
    /// Absent once the user is deleted, which frees the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    name_key: Option<String>,
    /// A PHC string; absent once the user is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    created_by: String,
    created_at: DateTime,
    /// The actions that changed the user; none of them is overwritten by a later one.
    #[serde(default)]
    changes: Vec<Change>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_by: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Change {
    action: String,
    at: DateTime,
}

impl User {
    fn changed_by(&self, action: ActionId) -> bool {
        let action = action.to_string();
        self.changes.iter().any(|change| change.action == action)
    }
}

/// The users of an application.
pub struct Users {
    collection: Collection<User>,
    attempts: Attempts,
    blocklist: Blocklist,
    pool: HashPool,
    retention: Retention,
}

/// Who asks for an action: its id, and where they are.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    pub(crate) action: ActionId,
    pub(crate) client: Option<ClientTag>,
}

impl Asker {
    fn attempt(self, name_key: &str) -> Attempt {
        Attempt {
            action: self.action,
            account: AccountKey::of(name_key),
            client: self.client,
        }
    }
}

impl Users {
    pub(crate) async fn open(
        database: &Database,
        pool: HashPool,
        attempts: Attempts,
        blocklist: Blocklist,
        retention: Retention,
    ) -> Result<Self, StoreError> {
        let collection = database.collection("users");
        index(&collection, "name_key", Index::Unique).await?;
        index(&collection, "purge_at", Index::Expiry).await?;
        Ok(Self {
            collection,
            attempts,
            blocklist,
            pool,
            retention,
        })
    }

    pub(crate) async fn create(&self, action: ActionId, username: &str, password: Secret, lease: &Lease) -> Answer {
        let Ok(name) = Username::parse(username) else {
            return Ok(Err(Refusal::NameUnusable));
        };
        if password.expose().chars().count() < PASSWORD_MIN_CHARS {
            return Ok(Err(Refusal::PasswordShort));
        }
        if password.expose().len() > PASSWORD_MAX_BYTES {
            return Ok(Err(Refusal::PasswordLong));
        }
        if self.blocklist.refuses(password.expose(), &name.key()) {
            return Ok(Err(Refusal::PasswordCommon));
        }
        let id = user_of(action);
        let taken = || Ok(Err(Refusal::NameTaken(username.to_owned())));
        // Saves the hash when the name is taken; that it is unique is the index's word, not this one's.
        match self.by_name(&name).await? {
            Some(user) if user.id == id && !sabotaged!("stamp") => return Ok(Ok(id)),
            Some(_) => return taken(),
            None => {}
        }
        let user = User {
            id: id.clone(),
            username: name.as_str().to_owned(),
            name_key: Some(name.key()),
            password: Some(self.pool.hash(password).await?),
            created_by: action.to_string(),
            created_at: concert_worker::store::now(),
            changes: Vec::new(),
            deleted_by: None,
        };
        lease.may_write().await?;
        match part(INSERT, self.collection.insert_one(user)).await {
            Ok(_) => Ok(Ok(id)),
            // Made by an earlier delivery of this action, or the name was taken meanwhile.
            Err(error) if is_duplicate(&error) => match self.by_id(&id).await? {
                Some(_) => Ok(Ok(id)),
                None => taken(),
            },
            Err(error) => Err(unavailable(error)),
        }
    }

    /// The same work, the same writes and the same answer for a name that nobody has.
    pub(crate) async fn authenticate(&self, asker: Asker, username: &str, password: Secret, lease: &Lease) -> Answer {
        let now = concert_worker::store::now();
        let attempt = asker.attempt(&name::key(username));
        let admitted = match self.attempts.admit(attempt, now, lease).await? {
            Admission::Admitted(admitted) => admitted,
            Admission::FailedBefore => return Ok(Err(Refusal::Unrecognised)),
            Admission::Throttled => return Ok(Err(Refusal::Throttled)),
        };
        let recognised = self.recognise(username, password, lease).await?;
        match recognised {
            Ok(_) => self.attempts.succeeded(admitted, now, lease).await?,
            Err(_) => self.attempts.failed(admitted, now, lease).await?,
        }
        Ok(recognised)
    }

    async fn recognise(&self, username: &str, password: Secret, lease: &Lease) -> Answer {
        let user = match Username::parse(username) {
            Ok(name) => self.by_name(&name).await?,
            Err(_) => None,
        };
        let hash = user.as_ref().and_then(|user| user.password.as_deref());
        let too_long = password.expose().len() > PASSWORD_MAX_BYTES;
        let password = if too_long { Secret::new(String::new()) } else { password };
        let verdict = self.pool.verify(password, hash.filter(|_| !too_long)).await?;
        match (verdict, user) {
            (Verdict::Right, Some(user)) => Ok(Ok(user.id)),
            (Verdict::RightAtOldCost(new), Some(user)) => {
                lease.may_write().await?;
                let unchanged = doc! { "_id": &user.id, "password": user.password.as_deref() };
                let set = doc! { "$set": { "password": new } };
                run(UPDATE, self.collection.update_one(unchanged, set)).await?;
                Ok(Ok(user.id))
            }
            _ => Ok(Err(Refusal::Unrecognised)),
        }
    }

    pub(crate) async fn change_password(
        &self,
        asker: Asker,
        id: &str,
        old: Secret,
        new: Secret,
        lease: &Lease,
    ) -> Answer {
        let action = asker.action;
        let Some(user) = self.by_id(id).await? else {
            return Ok(Err(Refusal::NoUser(id.to_owned())));
        };
        if user.changed_by(action) && !sabotaged!("stamp") {
            return Ok(Ok(user.id));
        }
        let (Some(hash), Some(name_key)) = (user.password.as_deref(), user.name_key.as_deref()) else {
            return Ok(Err(Refusal::NoUser(id.to_owned())));
        };
        // Whoever holds a session may not know the password, and guess as at a login.
        let now = concert_worker::store::now();
        let admitted = match self.attempts.admit(asker.attempt(name_key), now, lease).await? {
            Admission::Admitted(admitted) => admitted,
            Admission::FailedBefore => return Ok(Err(Refusal::OldPasswordWrong)),
            Admission::Throttled => return Ok(Err(Refusal::Throttled)),
        };
        if self.pool.verify(old.clone(), Some(hash)).await? == Verdict::Wrong {
            self.attempts.failed(admitted, now, lease).await?;
            return Ok(Err(Refusal::OldPasswordWrong));
        }
        self.attempts.succeeded(admitted, now, lease).await?;
        if new.expose().chars().count() < PASSWORD_MIN_CHARS {
            return Ok(Err(Refusal::NewPasswordShort));
        }
        if new.expose().len() > PASSWORD_MAX_BYTES {
            return Ok(Err(Refusal::NewPasswordLong));
        }
        if new == old {
            return Ok(Err(Refusal::NewPasswordSame));
        }
        if self.blocklist.refuses(new.expose(), name_key) {
            return Ok(Err(Refusal::PasswordCommon));
        }
        let new_hash = self.pool.hash(new).await?;
        lease.may_write().await?;
        let mut set = self.retention.stamp(action, concert_worker::store::now());
        set.insert("password", doc! { "$literal": new_hash });
        if self
            .update(doc! { "_id": id, "password": hash }, action, vec![doc! { "$set": set }])
            .await?
        {
            return Ok(Ok(user.id));
        }
        // Another change came between; the next attempt judges by what stands then.
        Err(Failure::retry("the user was changed at the same time"))
    }

    pub(crate) async fn delete(&self, action: ActionId, id: &str, lease: &Lease) -> Answer {
        let Some(user) = self.by_id(id).await? else {
            return Ok(Err(Refusal::NoUser(id.to_owned())));
        };
        if let Some(deleted_by) = user.deleted_by {
            return Ok(if deleted_by == action.to_string() {
                Ok(user.id)
            } else {
                Err(Refusal::NoUser(id.to_owned()))
            });
        }
        lease.may_write().await?;
        let now = concert_worker::store::now();
        let mut set = self.retention.stamp(action, now);
        set.insert("deleted_by", stamp(action));
        set.insert("username", "");
        set.insert("purge_at", self.retention.until(now));
        let pipeline = vec![doc! { "$set": set }, doc! { "$unset": ["name_key", "password"] }];
        if self
            .update(doc! { "_id": id, "deleted_by": { "$exists": false } }, action, pipeline)
            .await?
        {
            return Ok(Ok(user.id));
        }
        Err(Failure::retry("the user was changed at the same time"))
    }

    pub(crate) async fn name_of(&self, id: &str) -> Result<Option<String>, Failure> {
        let user = self.by_id(id).await?.filter(|user| user.deleted_by.is_none());
        Ok(user.map(|user| user.username))
    }

    /// Who has this name, in whatever form it is written.
    pub(crate) async fn named(&self, username: &str) -> Result<Option<String>, Failure> {
        let Ok(name) = Username::parse(username) else {
            return Ok(None);
        };
        Ok(self.by_name(&name).await?.map(|user| user.id))
    }

    /// The id and the name of every user.
    pub(crate) async fn all(&self) -> Result<Vec<(String, String)>, Failure> {
        let live = doc! { "deleted_by": { "$exists": false } };
        let limit = i64::try_from(ALL_USERS_MAX + 1).unwrap_or(i64::MAX);
        let mut cursor = self
            .collection
            .find(live)
            .sort(doc! { "_id": 1 })
            .limit(limit)
            .await
            .map_err(unavailable)?;
        let mut found = Vec::new();
        while cursor.advance().await.map_err(unavailable)? {
            let user = cursor.deserialize_current().map_err(unavailable)?;
            found.push((user.id, user.username));
        }
        // A part of the rows would be a wrong answer.
        if found.len() > ALL_USERS_MAX {
            Err(Failure::retry(format!("there are more than {ALL_USERS_MAX} users")))
        } else {
            Ok(found)
        }
    }

    async fn by_id(&self, id: &str) -> Result<Option<User>, Failure> {
        run(FIND, self.collection.find_one(doc! { "_id": id })).await
    }

    async fn by_name(&self, name: &Username) -> Result<Option<User>, Failure> {
        let named = doc! { "name_key": name.key() };
        run(FIND, self.collection.find_one(named)).await
    }

    /// Changes one user, unless this action did so before; whether it did it now.
    async fn update(&self, mut filter: Document, action: ActionId, pipeline: Vec<Document>) -> Result<bool, Failure> {
        filter.insert("changes.action", doc! { "$ne": stamp(action) });
        let result = run(UPDATE, self.collection.update_one(filter, pipeline)).await?;
        Ok(result.matched_count == 1)
    }
}

/// The id of the user that an action creates: the same at every delivery.
fn user_of(action: ActionId) -> String {
    uuid_v5(&action.uuid(), b"user").to_string()
}

#[cfg(test)]
mod tests;
