//! Settings of Sessioning: lifetime and number of sessions.

use std::time::Duration;

use concert_worker::Ranges;
use serde::{Deserialize, Serialize};

/// The settings of Sessioning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Time after which an unused session expires, in minutes.
    pub idle_minutes: u64,
    /// Time after which a session expires even if it is used, in minutes.
    pub max_minutes: u64,
    /// Maximum number of live sessions per user; a new session above it ends the oldest.
    pub max_sessions: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { idle_minutes: 7 * 24 * 60, max_minutes: 30 * 24 * 60, max_sessions: 100 }
    }
}

/// The idle expiry is extended only after this fraction of the idle time, so most lookups do not
/// write.
const TOUCH_FRACTION: u32 = 10;
/// Maximum error of the last use of a session.
const TOUCH_MAX: Duration = Duration::from_secs(15 * 60);

impl Settings {
    /// A hundred years.
    pub const MINUTES_MAX: u64 = 100 * 366 * 24 * 60;
    /// Highest limit of sessions per user.
    pub const SESSIONS_MAX: u32 = 100_000;

    pub(crate) fn check(&self) -> Result<(), String> {
        Ranges::new()
            .within("idle_minutes", self.idle_minutes, 1..=Self::MINUTES_MAX)
            .within("max_minutes", self.max_minutes, 1..=Self::MINUTES_MAX)
            .within("max_sessions", self.max_sessions, 1..=Self::SESSIONS_MAX)
            .checked()
    }

    pub(crate) fn max_sessions(&self) -> usize {
        usize::try_from(self.max_sessions).unwrap_or(usize::MAX)
    }

    pub(crate) fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_minutes * 60)
    }

    pub(crate) fn absolute(&self) -> Duration {
        Duration::from_secs(self.max_minutes * 60)
    }

    /// Time after which a use of a session is stored again.
    pub(crate) fn touch_after(&self) -> Duration {
        (self.idle() / TOUCH_FRACTION).min(TOUCH_MAX)
    }
}
