//! The concept FocusStats: reading sessions and their statistics.

mod import;

use concert_worker::store::{
    Change, Changed, DateTime, Deleted, Documents, Found, Inserted, Page, Target, now,
};
use concert_worker::{
    Call, NoSettings, Query, Start, StartError, Stop, Worker, concept, refused, retry,
};
use serde::{Deserialize, Serialize};

/// The worker of FocusStats.
pub fn worker() -> Worker {
    concept(include_str!("../FocusStats.concept"))
        .open(FocusStats::open)
        .action("initUser", FocusStats::init_user)
        .action("startSession", FocusStats::start_session)
        .action("endSession", FocusStats::end_session)
        .action("endOpenSession", FocusStats::end_open_session)
        .action("removeSession", FocusStats::remove_session)
        .action("deleteAll", FocusStats::delete_all)
        .query("_viewStats", FocusStats::view_stats)
        .query("_getSessions", FocusStats::get_sessions)
        .query("_getOwner", FocusStats::get_owner)
        .import("statistics", FocusStats::import)
        .build()
}

/// Maximum number of concurrent starts of a session for one document before an action is retried.
const RACES_MAX: usize = 50;

#[derive(Serialize, Deserialize)]
struct OfUser {
    user: String,
}

#[derive(Serialize, Deserialize)]
struct Session {
    user: String,
    document: String,
    start: DateTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<DateTime>,
    /// The user and the document of an open session, which are unique together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    open: Option<String>,
}

struct FocusStats {
    stats: Documents<OfUser>,
    sessions: Documents<Session>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatsId {
    focus_stats: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfSession {
    focus_session: String,
}

#[derive(Deserialize)]
struct Reading {
    user: String,
    document: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    id: String,
    user: String,
    focus_session_ids: Vec<String>,
}

#[derive(Serialize)]
struct Listed {
    sessions: Vec<Row>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    #[serde(rename = "_id")]
    id: String,
    user: String,
    document: String,
    start_time: String,
    end_time: Option<String>,
}

impl FocusStats {
    async fn open(start: Start<NoSettings>) -> Result<Self, StartError> {
        let sessions = start.documents("sessions").unique("open").lookup_newest("user");
        Ok(Self {
            stats: start.documents("stats").unique("user").open().await?,
            sessions: sessions.open().await?,
        })
    }

    async fn init_user(&self, call: Call<OfUser>) -> Result<StatsId, Stop> {
        let focus_stats = call.new_id("stats");
        match self.stats.insert(call.permit().await?, &focus_stats, &call.input).await? {
            Inserted::Done => Ok(StatsId { focus_stats }),
            Inserted::Taken(_) => {
                Err(refused(format!("User {} already has focus stats.", call.input.user)))
            }
        }
    }

    /// Reads the statistics after it has stored the session. [`Self::delete_all`] removes the
    /// statistics, then lists sessions. If both run concurrently, at least one of them sees the
    /// other's write and removes the session.
    async fn start_session(&self, call: Call<Reading>) -> Result<OfSession, Stop> {
        let focus_session = call.new_id("session");
        let user = &call.input.user;
        if self.stats.find("user", user).await?.is_some() {
            self.insert(&call, &focus_session).await?;
            if self.stats.find("user", user).await?.is_some() {
                return Ok(OfSession { focus_session });
            }
        }
        let _deleted = self.sessions.delete(call.permit().await?, &focus_session).await?;
        Err(refused(format!("User {user} has no focus stats.")))
    }

    async fn insert(&self, call: &Call<Reading>, id: &str) -> Result<(), Stop> {
        let Reading { user, document } = &call.input;
        let open = open_key(user, document);
        let session = Session {
            user: user.clone(),
            document: document.clone(),
            start: now(),
            end: None,
            open: Some(open.clone()),
        };
        for _ in 0..RACES_MAX {
            if let Target::Done = self.sessions.target(call, id).await? {
                return Ok(());
            }
            if let Some(before) = self.sessions.find("open", &open).await? {
                let _changed =
                    self.sessions.update(call.permit().await?, &before.id, end()).await?;
            }
            if self.sessions.insert(call.permit().await?, id, &session).await? == Inserted::Done {
                return Ok(());
            }
        }
        Err(retry("too many sessions are started for this document"))
    }

    async fn end_session(&self, call: Call<OfSession>) -> Result<OfSession, Stop> {
        let id = call.input.focus_session.clone();
        let open = match self.sessions.target(&call, &id).await? {
            Target::Done => return Ok(OfSession { focus_session: id }),
            Target::Live(session) => session.value.open,
            Target::NotThere => return Err(no_session(&id)),
        };
        let Some(open) = open else {
            return Err(refused(format!("FocusSession {id} has already ended.")));
        };
        let change = end().only_if("open", open);
        match self.sessions.update(call.permit().await?, &id, change).await? {
            Changed::Done => Ok(OfSession { focus_session: id }),
            Changed::NotThere | Changed::Taken(_) => Err(no_session(&id)),
        }
    }

    async fn end_open_session(&self, call: Call<Reading>) -> Result<(), Stop> {
        let page = Page::of("user", &call.input.user);
        if self.sessions.is_done(&call, &page).await? {
            return Ok(());
        }
        let open = open_key(&call.input.user, &call.input.document);
        if let Some(session) = self.sessions.find("open", &open).await? {
            let _changed = self.sessions.update(call.permit().await?, &session.id, end()).await?;
        }
        Ok(())
    }

    async fn remove_session(&self, call: Call<OfSession>) -> Result<(), Stop> {
        let id = &call.input.focus_session;
        match self.sessions.delete(call.permit().await?, id).await? {
            Deleted::Done => Ok(()),
            Deleted::NotThere => Err(no_session(id)),
        }
    }

    async fn delete_all(&self, call: Call<OfUser>) -> Result<(), Stop> {
        let user = &call.input.user;
        if let Some(stats) = self.stats.find("user", user).await? {
            let _deleted = self.stats.delete(call.permit().await?, &stats.id).await?;
        }
        let sessions = Page::of("user", user);
        self.sessions.for_each(&call, &sessions, &Change::deletion()).await.map(drop)
    }

    async fn view_stats(&self, query: Query<OfUser>) -> Result<Option<Stats>, Stop> {
        let user = query.input.user;
        let Some(stats) = self.stats.find("user", &user).await? else {
            return Ok(None);
        };
        let ended = self.sessions_of(&user).await?.into_iter();
        let ended = ended.filter(|session| session.value.end.is_some());
        let focus_session_ids = ended.map(|session| session.id).collect();
        Ok(Some(Stats { id: stats.id, user, focus_session_ids }))
    }

    async fn get_sessions(&self, query: Query<OfUser>) -> Result<Option<Listed>, Stop> {
        let user = &query.input.user;
        if self.stats.find("user", user).await?.is_none() {
            return Ok(None);
        }
        let sessions = self.sessions_of(user).await?.into_iter().map(row);
        Ok(Some(Listed { sessions: sessions.collect::<Result<_, _>>()? }))
    }

    async fn get_owner(&self, query: Query<OfSession>) -> Result<Option<OfUser>, Stop> {
        let session = self.sessions.get(&query.input.focus_session).await?;
        Ok(session.map(|session| OfUser { user: session.value.user }))
    }

    /// Oldest first.
    async fn sessions_of(&self, user: &str) -> Result<Vec<Found<Session>>, Stop> {
        let mut sessions = self.sessions.page(Page::of("user", user).newest_first()).await?;
        sessions.reverse();
        Ok(sessions)
    }
}

/// Ids of users have no slash.
fn open_key(user: &str, document: &str) -> String {
    format!("{user}/{document}")
}

fn end() -> Change {
    Change::set("end", now()).and_unset("open")
}

fn row(Found { id, value: session, .. }: Found<Session>) -> Result<Row, Stop> {
    let text = |time: DateTime| time.try_to_rfc3339_string().map_err(retry);
    Ok(Row {
        id,
        user: session.user,
        document: session.document,
        start_time: text(session.start)?,
        end_time: session.end.map(text).transpose()?,
    })
}

fn no_session(id: &str) -> Stop {
    refused(format!("FocusSession {id} not found."))
}

#[cfg(test)]
mod tests;
