//! Stored sessions, and their public view.

use std::fmt::Write as _;

use concert_worker::store::{DateTime, Found};
use concert_worker::{Stop, retry};
use serde::{Deserialize, Serialize};

use crate::settings::Settings;
use crate::token::TokenHash;

/// A stored session. Its id is the hash of its token.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) user: String,
    /// Id of the key from which the token was derived. The key file must keep this key while the
    /// session exists.
    key: String,
    pub(crate) idle_expires_at: DateTime,
    expires_at: DateTime,
}

impl Session {
    pub(crate) fn new(user: &str, key: &str, now: DateTime, settings: &Settings) -> Self {
        Self {
            user: user.to_owned(),
            key: key.to_owned(),
            idle_expires_at: now.saturating_add_duration(settings.idle()),
            expires_at: now.saturating_add_duration(settings.absolute()),
        }
    }

    /// Compares times, because the server removes expired documents with a delay.
    pub(crate) fn is_live(&self, now: DateTime) -> bool {
        now < self.idle_expires_at && now < self.expires_at
    }
}

/// The id under which a session is listed. Neither the token nor the action's id can be computed
/// from it.
pub(crate) fn public_id(session: &Found<Session, TokenHash>) -> String {
    session.public_id("listed session")
}

/// The public view of a session.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Listed {
    id: String,
    created_at: String,
    expires_at: String,
}

impl Listed {
    pub(crate) fn of(session: &Found<Session, TokenHash>) -> Result<Self, Stop> {
        let expires_at = session.value.expires_at.min(session.value.idle_expires_at);
        Ok(Self {
            id: public_id(session),
            created_at: rfc3339(session.created_at)?,
            expires_at: rfc3339(expires_at)?,
        })
    }
}

/// Always with three decimals, so the texts sort like the times.
fn rfc3339(time: DateTime) -> Result<String, Stop> {
    let mut text = String::new();
    write!(text, "{}", humantime::format_rfc3339_millis(time.to_system_time())).map_err(retry)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_texts_sort_like_the_times() {
        let texts: Vec<String> = [0, 1, 10, 100, 684, 690, 695, 1000, 253_402_300_799_999]
            .map(|ms| rfc3339(DateTime::from_millis(ms)).unwrap())
            .to_vec();
        assert_eq!(texts[5], "1970-01-01T00:00:00.690Z");
        assert!(texts.is_sorted_by(|earlier, later| earlier < later), "{texts:?}");
        assert!(rfc3339(DateTime::from_millis(253_402_300_800_000)).is_err());
    }
}
