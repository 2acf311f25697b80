//! Imports the statistics and reading sessions of another system (ADR 51).

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use concert_worker::Stop;
use concert_worker::store::{DateTime, Import, ImportReport};
use serde::Deserialize;

use super::{FocusStats, OfUser, Session, open_key};

const SESSIONS: &str = "FocusStats.focusSessions";

#[derive(Deserialize)]
struct OldStats {
    #[serde(rename = "_id")]
    id: String,
    user: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OldSession {
    #[serde(rename = "_id")]
    id: String,
    user: String,
    document: String,
    start_time: DateTime,
    end_time: Option<DateTime>,
}

impl FocusStats {
    /// Leaves out what belongs to deleted users. A session that is still open ends when its user
    /// opened the document again, so at most one of them is open afterwards.
    pub(crate) async fn import(&self, mut import: Import) -> Result<ImportReport, Stop> {
        let users = import.ids("Profile.users").await?;
        let mut stats = import.read("FocusStats.focusStats").await?;
        while let Some(OldStats { id, user }) = import.next(&mut stats).await? {
            if users.contains(&user) {
                import.add(&self.stats, &id, &OfUser { user }).await?;
            } else {
                import.leave(&self.stats);
            }
        }
        let (mut sessions, mut read) = (Vec::new(), import.read(SESSIONS).await?);
        let mut starts: HashMap<String, BTreeSet<DateTime>> = HashMap::new();
        while let Some(session) = import.next::<OldSession>(&mut read).await? {
            let key = open_key(&session.user, &session.document);
            starts.entry(key).or_default().insert(session.start_time);
            sessions.push(session);
        }
        for OldSession { id, user, document, start_time: start, end_time } in sessions {
            if !users.contains(&user) {
                import.leave(&self.sessions);
                continue;
            }
            let key = open_key(&user, &document);
            let later = (Bound::Excluded(start), Bound::Unbounded);
            let next = starts.get(&key).and_then(|starts| starts.range(later).next().copied());
            let end = end_time.or(next);
            let open = end.is_none().then_some(key);
            import.add(&self.sessions, &id, &Session { user, document, start, end, open }).await?;
        }
        Ok(import.finished())
    }
}
