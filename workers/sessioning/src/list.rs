//! Lists of a user's sessions, in pages.

use concert_worker::Stop;
use concert_worker::store::{DateTime, Documents, Found};
use serde::{Deserialize, Serialize};

use crate::live_sessions;
use crate::session::{Session, public_id, rfc3339};
use crate::settings::Settings;
use crate::token::TokenHash;

/// Number of sessions on a page.
pub(crate) const PAGE: usize = 100;

pub(crate) type Sessions = Documents<Session, TokenHash>;
pub(crate) type StoredSession = Found<Session, TokenHash>;

/// A page of a user's sessions: the first, or the one after a key.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct OfPage {
    user: String,
    after: Option<String>,
}

/// The key of the next page.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Next {
    next: String,
}

/// A session in a list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    id: String,
    created_at: String,
    expires_at: String,
}

/// A session in a list, with its last use.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Listed {
    #[serde(flatten)]
    row: Row,
    last_used_at: String,
    device: String,
}

impl Row {
    pub(crate) fn of(session: &StoredSession) -> Result<Self, Stop> {
        Ok(Self {
            id: public_id(session),
            created_at: rfc3339(session.created_at)?,
            expires_at: rfc3339(session.value.ends_at())?,
        })
    }
}

impl Listed {
    pub(crate) fn of(session: &StoredSession, settings: &Settings) -> Result<Self, Stop> {
        let used_at = session.value.used_at(settings).max(session.created_at);
        Ok(Self {
            row: Row::of(session)?,
            last_used_at: rfc3339(used_at)?,
            device: session.value.device.clone().unwrap_or_default(),
        })
    }
}

/// The position of a session in a list: its time, and its id among those of the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    created_at: DateTime,
    id: String,
}

impl Key {
    fn of(session: &StoredSession) -> Self {
        Self { created_at: session.created_at, id: public_id(session) }
    }

    fn parse(text: &str) -> Option<Self> {
        let (ms, id) = text.split_once('.')?;
        Some(Self { created_at: DateTime::from_millis(ms.parse().ok()?), id: id.to_owned() })
    }

    fn text(&self) -> String {
        format!("{}.{}", self.created_at.timestamp_millis(), self.id)
    }
}

/// A page of live sessions, newest first, and the key of the next page. A text that is not a key
/// selects an empty page.
pub(crate) async fn page(
    sessions: &Sessions,
    of: &OfPage,
) -> Result<(Vec<StoredSession>, Option<Next>), Stop> {
    let after = of.after.as_deref().map(Key::parse);
    let mut found = match &after {
        Some(None) => Vec::new(),
        Some(after) => batch(sessions, &of.user, after.as_ref()).await?,
        None => batch(sessions, &of.user, None).await?,
    };
    let has_more = found.len() > PAGE;
    found.truncate(PAGE);
    let last = found.last().filter(|_| has_more);
    let next = last.map(|last| Next { next: Key::of(last).text() });
    Ok((found, next))
}

/// The live session of a user with this public id.
pub(crate) async fn find(
    sessions: &Sessions,
    user: &str,
    id: &str,
) -> Result<Option<StoredSession>, Stop> {
    let mut after = None;
    loop {
        let batch = batch(sessions, user, after.as_ref()).await?;
        let Some(last) = batch.last().map(Key::of) else { return Ok(None) };
        if let Some(session) = batch.into_iter().find(|session| public_id(session) == id) {
            return Ok(Some(session));
        }
        after = Some(last);
    }
}

/// The live sessions after a key, newest first: one more than a page, if there are more.
async fn batch(
    sessions: &Sessions,
    user: &str,
    after: Option<&Key>,
) -> Result<Vec<StoredSession>, Stop> {
    let live = live_sessions(user).newest_first();
    let Some(after) = after else { return sessions.page(live.limit(PAGE + 1)).await };
    let same_time = sessions.page(live.clone().equal("created_at", after.created_at)).await?;
    let older = live.less("created_at", after.created_at).limit(PAGE + 1);
    let older = sessions.page(older).await?;
    // If the session of the key has ended, its place is unknown. Then those of the same time are
    // listed again, so that none is omitted.
    let place = same_time.iter().position(|session| public_id(session) == after.id);
    let rest = same_time.into_iter().skip(place.map_or(0, |place| place + 1));
    Ok(rest.chain(older).take(PAGE + 1).collect())
}
