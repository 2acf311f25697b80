//! Settings of Profile: cost of hashes, limits of attempts, and rules for names and passwords.

use std::path::PathBuf;

use concert_worker::{Ranges, list};
use serde::{Deserialize, Serialize};

use crate::attempts::{COUNTED_MAX, DAY_S};
use crate::strength::SCORE_MAX;

/// The settings of Profile. The default cost of a hash is the minimum that OWASP recommends (19
/// MiB, 2 passes, 1 lane).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Memory of a hash, in KiB.
    pub argon2_memory_kib: u32,
    /// Passes over the memory.
    pub argon2_passes: u32,
    /// Number of hashing threads; 0 means one per CPU.
    pub hash_threads: usize,
    /// Maximum number of passwords that wait for a thread; excess actions are retried later.
    pub hash_queue: usize,
    /// Maximum number of failed logins per account and window; excess attempts get 429. Clients
    /// unknown to the account share one counter; each known client has its own. 0 disables the
    /// limit.
    pub login_account_failures: u32,
    /// Maximum number of failed logins per account and long window, counted in the same way.
    pub login_account_failures_long: u32,
    /// Maximum number of failed logins per client and window, over all accounts; excess attempts
    /// get 429. 0 disables the limit.
    pub login_client_failures: u32,
    /// Length of the window, in seconds.
    pub login_window_seconds: u64,
    /// Length of the long window, in seconds.
    pub login_long_window_seconds: u64,
    /// Days for which a client is known to an account after a login.
    pub login_known_days: u64,
    /// Maximum number of accounts that a client creates per window; excess attempts get 429. 0
    /// disables the limit.
    pub accounts_per_client: u32,
    /// Length of the window of created accounts, in seconds.
    pub accounts_window_seconds: u64,
    /// Files with additional common passwords, one per line.
    #[serde(deserialize_with = "list")]
    pub password_blocklists: Vec<PathBuf>,
    /// Words of the application, such as its name: a password that contains little more is refused.
    #[serde(deserialize_with = "list")]
    pub password_words: Vec<String>,
    /// Minimum strength of a new password, as zxcvbn estimates it: 1 for more than 10^3 guesses, 2
    /// for 10^6, 3 for 10^8, 4 for 10^10. 0 disables the estimate.
    pub password_min_score: u8,
    /// New names that look like an existing one.
    pub confusable_names: ConfusableNames,
}

/// The treatment of a new name that looks like an existing one, such as `аdmin` with a Cyrillic
/// letter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfusableNames {
    /// The account is refused.
    #[default]
    Refuse,
    /// The account is created, and a warning with the ids of both accounts is logged.
    Report,
    /// Names are not compared by their looks.
    Allow,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            argon2_memory_kib: 19 * 1024,
            argon2_passes: 2,
            hash_threads: 0,
            hash_queue: 256,
            login_account_failures: 10,
            login_account_failures_long: 100,
            login_client_failures: 100,
            login_window_seconds: 15 * 60,
            login_long_window_seconds: DAY_S,
            login_known_days: 30,
            accounts_per_client: 100,
            accounts_window_seconds: 60 * 60,
            password_blocklists: Vec::new(),
            password_words: vec!["concert".to_owned()],
            password_min_score: 2,
            confusable_names: ConfusableNames::default(),
        }
    }
}

/// The minimum of Argon2, and 4 GiB.
const MEMORY_KIB: std::ops::RangeInclusive<u32> = 8..=4 * 1024 * 1024;
const PASSES_MAX: u32 = 1_000_000;
const THREADS_MAX: usize = 1024;
const QUEUE_MAX: usize = 1_000_000;
const SECONDS_MAX: u64 = 366 * DAY_S;
const DAYS_MAX: u64 = 366;

impl Settings {
    pub(crate) fn check(&self) -> Result<(), String> {
        Ranges::new()
            .within("argon2_memory_kib", self.argon2_memory_kib, MEMORY_KIB)
            .within("argon2_passes", self.argon2_passes, 1..=PASSES_MAX)
            .within("hash_threads", self.hash_threads, 0..=THREADS_MAX)
            .within("hash_queue", self.hash_queue, 1..=QUEUE_MAX)
            .within("login_account_failures", self.login_account_failures, 0..=COUNTED_MAX)
            .within(
                "login_account_failures_long",
                self.login_account_failures_long,
                1..=COUNTED_MAX,
            )
            .within("login_client_failures", self.login_client_failures, 0..=COUNTED_MAX)
            .within("login_window_seconds", self.login_window_seconds, 1..=SECONDS_MAX)
            .within("login_long_window_seconds", self.login_long_window_seconds, 1..=SECONDS_MAX)
            .within("login_known_days", self.login_known_days, 1..=DAYS_MAX)
            .within("password_min_score", self.password_min_score, 0..=SCORE_MAX)
            .checked()
    }
}
