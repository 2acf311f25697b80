//! Evaluates the stored failures for an attempt.

use concert_worker::store::DateTime;
use concert_worker::{ActionId, ClientTag};
use serde::{Deserialize, Serialize};

use super::{Attempt, Limits, SEEN_AGAIN, before};

/// The failures at an account, or of a client.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Counted {
    #[serde(rename = "_id")]
    id: String,
    #[serde(default)]
    failures: Vec<Failed>,
    /// The clients that logged in to the account; empty for a client.
    #[serde(default)]
    known: Vec<Known>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Failed {
    action: String,
    at: DateTime,
    #[serde(default)]
    client: Option<String>,
}

/// A client, and the stored time of its last login. Its failures until then are forgiven.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    client: String,
    at: DateTime,
}

/// The id of a client's document.
pub(super) fn document_of(client: &ClientTag) -> String {
    format!("client:{client}")
}

impl Counted {
    /// Time at which an earlier delivery of this action failed.
    pub(super) fn failed_at(&self, action: ActionId) -> Option<DateTime> {
        let action = action.to_string();
        self.failures.iter().find(|failed| failed.action == action).map(|failed| failed.at)
    }

    fn since(&self, oldest: DateTime) -> impl Iterator<Item = &Failed> {
        self.failures.iter().filter(move |failed| failed.at > oldest)
    }

    fn is_forgiven(&self, failed: &Failed) -> bool {
        self.known
            .iter()
            .any(|known| failed.client.as_ref() == Some(&known.client) && failed.at <= known.at)
    }
}

/// Number of further attempts that may fail.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) account: usize,
    pub(super) client: usize,
    /// The clients that are known to the account.
    known: Vec<String>,
    /// True if a success must be written.
    pub(super) is_news: bool,
}

impl Room {
    /// Depends only on the documents, so all readers get the same result.
    pub(super) fn of(
        limits: &Limits,
        attempt: &Attempt,
        counted: &[Counted],
        now: DateTime,
    ) -> Self {
        let client = attempt.client.as_ref().map(ClientTag::as_str);
        let account_id = attempt.account.document();
        let account = counted.iter().find(|counted| counted.id == account_id);
        let client_id = attempt.client.as_ref().map(document_of);
        let of_client = counted.iter().find(|counted| Some(&counted.id) == client_id.as_ref());
        let known = account.map(|account| account.known.iter()).into_iter().flatten();
        let known = known.filter(|known| known.at > before(now, limits.known));
        let seen = known.clone().find(|known| Some(&*known.client) == client).map(|known| known.at);
        let mut room = Self {
            account: usize::MAX,
            client: usize::MAX,
            known: known.map(|known| known.client.clone()).collect(),
            is_news: client.is_some() && seen.is_none_or(|at| at < before(now, SEEN_AGAIN)),
        };
        if let (Some(limit), Some(account)) = (limits.account, account) {
            let failed = |since| {
                let live = account.since(since).filter(|failed| !account.is_forgiven(failed));
                live.filter(|failed| room.counts_with(failed.client.as_deref(), client))
            };
            let lately = failed(before(now, limits.window)).count();
            let for_long = failed(before(now, limits.long_window)).count();
            let own = failed(before(now, limits.long_window))
                .any(|failed| failed.client.as_deref() == client);
            room.account =
                limit.saturating_sub(lately).min(limits.account_long.saturating_sub(for_long));
            room.is_news |= client.is_some() && own;
        } else if let Some(limit) = limits.account {
            room.account = limit.min(limits.account_long);
        }
        if let (Some(limit), Some(_)) = (limits.client, client) {
            let lately =
                of_client.map_or(0, |counted| counted.since(before(now, limits.window)).count());
            room.client = limit.saturating_sub(lately);
        }
        room
    }

    /// Returns whether no further attempt may fail.
    pub(super) fn is_none(&self) -> bool {
        self.account == 0 || self.client == 0
    }

    /// Returns whether an attempt of one client at the account counts against another: all unknown
    /// clients count together, each known one separately.
    pub(super) fn counts_with(&self, one: Option<&str>, other: Option<&str>) -> bool {
        let is_known =
            |client: Option<&str>| self.known.iter().any(|known| Some(&**known) == client);
        one == other || !(is_known(one) || is_known(other))
    }
}
