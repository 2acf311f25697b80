//! Stored sessions.

use std::fmt::Write as _;

use concert_worker::store::{DateTime, Found};
use concert_worker::{ActionId, Stop, retry};
use serde::{Deserialize, Serialize};

use crate::settings::Settings;
use crate::token::TokenHash;

/// The unique field of sessions.
pub(crate) const ACTION: &str = "action";

/// A stored session. Its id is the hash of its token.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) user: String,
    /// Id of the key from which release 0.1.0 derived the token. Newer releases store an empty
    /// text, because release 0.1.0 cannot read a session without this field.
    key: String,
    pub(crate) idle_expires_at: DateTime,
    expires_at: DateTime,
    /// The action that created it, as in `created_by`, and unique. That field itself is not unique,
    /// because release 0.1.0 would take the duplicate for a session that it has stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    action: Option<String>,
    /// Device of the login; sessions of older releases have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) device: Option<String>,
}

impl Session {
    pub(crate) fn new(
        user: &str,
        action: ActionId,
        device: Option<String>,
        now: DateTime,
        settings: &Settings,
    ) -> Self {
        Self {
            user: user.to_owned(),
            key: String::new(),
            idle_expires_at: now.saturating_add_duration(settings.idle()),
            expires_at: now.saturating_add_duration(settings.absolute()),
            action: Some(action.to_string()),
            device,
        }
    }

    /// Compares times, because the server removes expired documents with a delay.
    pub(crate) fn is_live(&self, now: DateTime) -> bool {
        now < self.idle_expires_at && now < self.expires_at
    }

    pub(crate) fn ends_at(&self) -> DateTime {
        self.expires_at.min(self.idle_expires_at)
    }

    /// The last use, computed from the idle expiry. A use moves the idle expiry only after
    /// [`Settings::touch_after`], so the real last use may be later by up to that time.
    pub(crate) fn used_at(&self, settings: &Settings) -> DateTime {
        let idle_ms = i64::try_from(settings.idle().as_millis()).unwrap_or(i64::MAX);
        DateTime::from_millis(self.idle_expires_at.timestamp_millis().saturating_sub(idle_ms))
    }
}

/// The id under which a session is listed. Neither the token nor the action's id can be computed
/// from it.
pub(crate) fn public_id(session: &Found<Session, TokenHash>) -> String {
    session.public_id("listed session")
}

/// Always with three decimals, so the texts sort like the times.
pub(crate) fn rfc3339(time: DateTime) -> Result<String, Stop> {
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
