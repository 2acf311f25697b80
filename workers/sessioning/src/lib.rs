//! The concept Sessioning: login sessions, identified by a token.
//!
//! A token has 256 bits. It is derived from a key and the id of the action that created it, so a
//! redelivery returns the same token. The database stores only its hash.

mod session;
mod settings;
mod token;

use concert_worker::store::{Change, Deleted, Documents, Inserted, Page, Target, now};
use concert_worker::{
    Call, LiveKeyring, Query, Secret, Start, StartError, Stop, Worker, concept, refused, retry,
    reveal,
};
use serde::{Deserialize, Serialize};

use self::session::{Listed, Session};
pub use self::settings::Settings;
pub use self::token::derive as derive_token;
use self::token::{TokenHash, hash};

/// The worker of Sessioning.
pub fn worker() -> Worker {
    concept(include_str!("../Sessioning.concept"))
        .settings::<Settings>()
        .checked(Settings::check)
        .keys(&["session"])
        .open(Sessioning::open)
        .action("create", Sessioning::create)
        .action("delete", Sessioning::delete)
        .action("deleteAll", Sessioning::delete_all)
        .action("deleteOthers", Sessioning::delete_others)
        .query("_getUser", Sessioning::get_user)
        .query("_getId", Sessioning::get_id)
        .query("_getSessions", Sessioning::get_sessions)
        .build()
}

/// The sessions of an application.
struct Sessioning {
    sessions: Documents<Session, TokenHash>,
    keys: LiveKeyring,
    settings: Settings,
}

#[derive(Deserialize)]
struct OfUser {
    user: String,
}

#[derive(Deserialize)]
struct ButOne {
    user: String,
    session: Secret,
}

#[derive(Deserialize)]
struct OfSession {
    session: Secret,
}

#[derive(Serialize)]
struct Created {
    #[serde(serialize_with = "reveal")]
    session: Secret,
}

#[derive(Serialize)]
struct User {
    user: String,
}

#[derive(Serialize)]
struct PublicId {
    id: String,
}

/// Maximum number of sessions in one response.
const LISTED_MAX: usize = 1000;
/// The idle expiry is extended only after this fraction of the idle time, so most lookups do not
/// write.
const TOUCH_FRACTION: u32 = 10;

impl Sessioning {
    async fn open(start: Start<Settings>) -> Result<Self, StartError> {
        // These names are part of the stored format.
        let sessions = start.documents("sessions").lookup("user").expires("expires_at");
        let sessions = sessions.deleted_in("ended").lists("sweeps", "token_hashes");
        Ok(Self {
            sessions: sessions.open().await?,
            keys: start.keys("session")?,
            settings: start.settings,
        })
    }

    async fn create(&self, call: Call<OfUser>) -> Result<Created, Stop> {
        if let Some(session) = self.made_under_another_key(&call).await? {
            return Ok(Created { session });
        }
        let keys = self.keys.now();
        let token = token::derive(keys.current(), call.id);
        let session = Session::new(&call.input.user, keys.current().id(), now(), &self.settings);
        match self.sessions.insert(call.permit().await?, &hash(&token), &session).await? {
            Inserted::Done => Ok(Created { session: token }),
            Inserted::Taken(_) => Err(retry("another action created this session")),
        }
    }

    /// The token that an earlier delivery of this action created, before the key was rotated.
    async fn made_under_another_key(&self, call: &Call<OfUser>) -> Result<Option<Secret>, Stop> {
        for key in self.keys.now().others() {
            let token = token::derive(key, call.id);
            if let Target::Done = self.sessions.target(call, &hash(&token)).await? {
                return Ok(Some(token));
            }
        }
        Ok(None)
    }

    async fn delete(&self, call: Call<OfSession>) -> Result<(), Stop> {
        let id = hash(&call.input.session);
        let deleted = match self.sessions.target(&call, &id).await? {
            Target::Done => Deleted::Done,
            Target::Live(session) if session.value.is_live(now()) => {
                self.sessions.delete(call.permit().await?, &id).await?
            }
            Target::Live(_) | Target::NotThere => Deleted::NotThere,
        };
        match deleted {
            Deleted::Done => Ok(()),
            Deleted::NotThere => Err(refused("Session not found")),
        }
    }

    /// Ends every session whose creation completed before this action was invoked. A session that
    /// is created concurrently may end or stay.
    async fn delete_all(&self, call: Call<OfUser>) -> Result<(), Stop> {
        let live = live_sessions(&call.input.user);
        self.sessions.for_each(&call, &live, &Change::deletion()).await?;
        Ok(())
    }

    async fn delete_others(&self, call: Call<ButOne>) -> Result<(), Stop> {
        let others =
            live_sessions(&call.input.user).except::<TokenHash>(&hash(&call.input.session));
        self.sessions.for_each(&call, &others, &Change::deletion()).await?;
        Ok(())
    }

    /// Extends the idle expiry of the session.
    async fn get_user(&self, query: Query<OfSession>) -> Result<Option<User>, Stop> {
        let (id, now) = (hash(&query.input.session), now());
        let found = self.sessions.get(&id).await?;
        let Some(session) = found.filter(|session| session.value.is_live(now)) else {
            return Ok(None);
        };
        let until = now.saturating_add_duration(self.settings.idle());
        let moved_ms = until.timestamp_millis() - session.value.idle_expires_at.timestamp_millis();
        if u128::try_from(moved_ms).unwrap_or(0)
            > (self.settings.idle() / TOUCH_FRACTION).as_millis()
        {
            self.sessions.raise(&id, "idle_expires_at", until).await?;
        }
        Ok(Some(User { user: session.value.user }))
    }

    async fn get_id(&self, query: Query<OfSession>) -> Result<Option<PublicId>, Stop> {
        let found = self.sessions.get(&hash(&query.input.session)).await?;
        let live = found.filter(|session| session.value.is_live(now()));
        Ok(live.map(|session| PublicId { id: session::public_id(&session) }))
    }

    async fn get_sessions(&self, query: Query<OfUser>) -> Result<Vec<Listed>, Stop> {
        let live = live_sessions(&query.input.user).newest_first().limit(LISTED_MAX);
        let found = self.sessions.page(live).await?;
        found.iter().map(Listed::of).collect()
    }
}

/// Selects the sessions of a user that have not expired.
fn live_sessions(user: &str) -> Page {
    let now = now();
    Page::of("user", user).greater("idle_expires_at", now).greater("expires_at", now)
}

#[cfg(test)]
mod tests;
