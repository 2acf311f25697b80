//! The concept Sessioning: login sessions, identified by a token.
//!
//! A token has 256 bits. The database stores its hash; and, as long as a redelivery must return the
//! same token, the key from which it is derived, encrypted (see [`token`]).

mod cutoff;
mod list;
mod session;
mod settings;
mod token;

use concert_worker::store::{Change, Deleted, Documents, Inserted, Page, Target, now};
use concert_worker::{
    Call, LiveKeyring, Query, Secret, Start, StartError, Stop, Worker, concept, refused, retry,
    reveal,
};
use serde::{Deserialize, Serialize};

use self::cutoff::Cutoffs;
use self::list::{Listed, OfPage, Row};
use self::session::Session;
pub use self::settings::Settings;
use self::token::{TokenHash, Tokens, hash};

/// The worker of Sessioning.
pub fn worker() -> Worker {
    concept(include_str!("../Sessioning.concept"))
        .settings::<Settings>()
        .checked(Settings::check)
        .keys(&["session"])
        .open(Sessioning::open)
        .action("create", Sessioning::create)
        .action("delete", Sessioning::delete)
        .action("deleteById", Sessioning::delete_by_id)
        .action("deleteAll", Sessioning::delete_all)
        .action("deleteOthers", Sessioning::delete_others)
        .query("_getUser", Sessioning::get_user)
        .query("_getId", Sessioning::get_id)
        .query("_getSessions", Sessioning::get_sessions)
        .query("_getPage", Sessioning::get_page)
        .query("_getNext", Sessioning::get_next)
        .build()
}

/// The sessions of an application.
struct Sessioning {
    sessions: Documents<Session, TokenHash>,
    tokens: Tokens,
    cutoffs: Cutoffs,
    /// The keys from which release 0.1.0 derived tokens.
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
struct ById {
    user: String,
    id: String,
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

impl Sessioning {
    async fn open(start: Start<Settings>) -> Result<Self, StartError> {
        // These names are part of the stored format.
        let sessions = start.documents("sessions").expires("expires_at").deleted_in("ended");
        // An action creates one session, whichever key its token has.
        let sessions = sessions.unique(session::ACTION);
        let sessions = sessions.lookup_newest("user").lists("sweeps", "token_hashes");
        Ok(Self {
            sessions: sessions.open().await?,
            tokens: Tokens::open(&start).await?,
            cutoffs: Cutoffs::open(&start).await?,
            keys: start.keys("session")?,
            settings: start.settings,
        })
    }

    /// Stores the session, then reads the user's cutoff. [`Self::delete_all`] stores the cutoff,
    /// then lists sessions. If both run concurrently, at least one of them sees the other's write,
    /// so the session ends.
    async fn create(&self, call: Call<OfUser>) -> Result<Created, Stop> {
        let session = match self.made_by_release(&call).await? {
            Some(token) => token,
            None => self.insert(&call).await?,
        };
        // Waits for both: an operation of the driver must not be dropped half-way.
        let (is_cut_off, surplus) = futures_util::future::join(
            self.cutoffs.apply_to(&call, &call.input.user),
            self.has_surplus(&call.input.user),
        )
        .await;
        if is_cut_off? {
            self.end(&call, &hash(&session)).await?;
        } else if surplus? {
            self.end_surplus(&call).await?;
        }
        Ok(Created { session })
    }

    /// Returns whether the user may have more sessions than allowed. It counts expired ones, too,
    /// until the server removes them: then an index is enough.
    async fn has_surplus(&self, user: &str) -> Result<bool, Stop> {
        let limit = self.settings.max_sessions();
        let counted = Page::of("user", user).limit(limit.saturating_add(1));
        Ok(self.sessions.count(&counted).await? > limit as u64)
    }

    async fn end_surplus(&self, call: &Call<OfUser>) -> Result<(), Stop> {
        let limit = self.settings.max_sessions();
        let surplus = live_sessions(&call.input.user).newest_first().skip(limit);
        match self.sessions.page(surplus.clone().limit(2)).await?.as_slice() {
            [] => Ok(()),
            [oldest] => self.end(call, &oldest.id).await,
            _ => self.sessions.for_each(call, &surplus, &Change::deletion()).await.map(drop),
        }
    }

    async fn end(&self, call: &Call<OfUser>, id: &TokenHash) -> Result<(), Stop> {
        self.sessions.delete(call.permit().await?, id).await.map(drop)
    }

    async fn insert(&self, call: &Call<OfUser>) -> Result<Secret, Stop> {
        let token = self.tokens.of(call).await?;
        let (user, device) = (&call.input.user, call.device.clone());
        let session = Session::new(user, call.id, device, now(), &self.settings);
        match self.sessions.insert(call.permit().await?, &hash(&token), &session).await? {
            Inserted::Done => Ok(token),
            Inserted::Taken(_) => Ok(self.made_earlier(call).await?.unwrap_or(token)),
        }
    }

    /// The token that an earlier delivery of this action created in release 0.1.0.
    async fn made_by_release(&self, call: &Call<OfUser>) -> Result<Option<Secret>, Stop> {
        if !call.is_repeated() {
            return Ok(None);
        }
        for key in self.keys.now().keys() {
            let token = token::released(key, call.id)?;
            if let Target::Done = self.sessions.target(call, &hash(&token)).await? {
                return Ok(Some(token));
            }
        }
        Ok(None)
    }

    /// The token that an earlier delivery of this action created in another hour. `None` if its
    /// session has ended.
    async fn made_earlier(&self, call: &Call<OfUser>) -> Result<Option<Secret>, Stop> {
        let action = call.id.to_string();
        let Some(session) = self.sessions.find(session::ACTION, &action).await? else {
            return Ok(None);
        };
        let tokens = self.tokens.all(call).await?;
        let token = tokens.into_iter().find(|token| hash(token) == session.id);
        token.map(Some).ok_or_else(|| retry("the key of this session's token was removed"))
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
        found(deleted)
    }

    async fn delete_by_id(&self, call: Call<ById>) -> Result<(), Stop> {
        let ById { user, id } = &call.input;
        if self.sessions.is_done(&call, &Page::of("user", user)).await? {
            return Ok(());
        }
        match list::find(&self.sessions, user, id).await? {
            Some(session) => found(self.sessions.delete(call.permit().await?, &session.id).await?),
            None => found(Deleted::NotThere),
        }
    }

    /// Ends all sessions of the user. Because of the cutoff, a login that is still in progress gets
    /// a session that has ended.
    async fn delete_all(&self, call: Call<OfUser>) -> Result<(), Stop> {
        self.cutoffs.store(&call, &call.input.user).await?;
        let live = live_sessions(&call.input.user);
        self.sessions.for_each(&call, &live, &Change::deletion()).await?;
        Ok(())
    }

    async fn delete_others(&self, call: Call<ButOne>) -> Result<(), Stop> {
        self.cutoffs.store(&call, &call.input.user).await?;
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
        if u128::try_from(moved_ms).unwrap_or(0) > self.settings.touch_after().as_millis() {
            self.sessions.raise(&id, "idle_expires_at", until).await?;
        }
        Ok(Some(User { user: session.value.user }))
    }

    async fn get_id(&self, query: Query<OfSession>) -> Result<Option<PublicId>, Stop> {
        let found = self.sessions.get(&hash(&query.input.session)).await?;
        let live = found.filter(|session| session.value.is_live(now()));
        Ok(live.map(|session| PublicId { id: session::public_id(&session) }))
    }

    async fn get_sessions(&self, query: Query<OfUser>) -> Result<Vec<Row>, Stop> {
        let newest = live_sessions(&query.input.user).newest_first().limit(list::PAGE);
        self.sessions.page(newest).await?.iter().map(Row::of).collect()
    }

    async fn get_page(&self, query: Query<OfPage>) -> Result<Vec<Listed>, Stop> {
        let (page, _) = list::page(&self.sessions, &query.input).await?;
        page.iter().map(|session| Listed::of(session, &self.settings)).collect()
    }

    async fn get_next(&self, query: Query<OfPage>) -> Result<Option<list::Next>, Stop> {
        let (_, next) = list::page(&self.sessions, &query.input).await?;
        Ok(next)
    }
}

fn found(deleted: Deleted) -> Result<(), Stop> {
    match deleted {
        Deleted::Done => Ok(()),
        Deleted::NotThere => Err(refused("Session not found")),
    }
}

/// Selects the sessions of a user that have not expired.
fn live_sessions(user: &str) -> Page {
    let now = now();
    Page::of("user", user).greater("idle_expires_at", now).greater("expires_at", now)
}

#[cfg(test)]
mod tests;
