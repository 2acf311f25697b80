//! Evaluates the stored failures for an attempt.

use std::time::Duration;

use concert_worker::store::{DateTime, Document, doc};
use concert_worker::{ActionId, ClientTag};
use serde::{Deserialize, Serialize};

use super::{Attempt, COUNTED_MAX, Limits, SEEN_AGAIN, before};

/// The failures at an account or of a client, or the accounts that a client created.
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

/// The id of the document with the accounts that a client created.
pub(super) fn creations_of(client: &ClientTag) -> String {
    format!("created:{client}")
}

/// The fields of an update that adds an entry, unless it is there. With a limit, nothing is added
/// to so many entries of the window.
pub(super) fn adding(
    entry: &Document,
    at: DateTime,
    window: Duration,
    limit: Option<usize>,
) -> Document {
    let young = doc! { "$gt": ["$$this.at", before(at, window)] };
    let all = doc! { "$ifNull": ["$failures", []] };
    let kept = doc! { "$filter": { "input": all, "cond": young } };
    let added = doc! { "$concatArrays": ["$$kept", [entry.clone()]] };
    let added = doc! { "$slice": [added, -i64::from(COUNTED_MAX)] };
    let limit = limit.map_or(i64::MAX, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
    let is_kept = doc! { "$or": [
        { "$in": [entry.get("action"), "$$kept.action"] },
        { "$gte": [{ "$size": "$$kept" }, limit] },
    ] };
    let failures = doc! { "$cond": [is_kept, "$$kept", added] };
    doc! {
        "failures": { "$let": { "vars": { "kept": kept }, "in": failures } },
        "purge_at": { "$max": ["$purge_at", at.saturating_add_duration(window)] },
    }
}

impl Counted {
    /// Time at which an earlier delivery of this action failed.
    pub(super) fn failed_at(&self, action: ActionId) -> Option<DateTime> {
        let action = action.to_string();
        self.failures.iter().find(|failed| failed.action == action).map(|failed| failed.at)
    }

    /// Time until another one is possible.
    pub(super) fn wait(&self, limit: usize, length: Duration, now: DateTime) -> Duration {
        Window { limit, length }.room(self.failures.iter(), now).1
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
    /// Time until another attempt is possible; zero if one is possible now.
    pub(super) wait: Duration,
    /// The clients that are known to the account.
    known: Vec<String>,
    /// True if a success must be written.
    pub(super) is_news: bool,
}

/// A limit of failures within a time.
struct Window {
    limit: usize,
    length: Duration,
}

impl Window {
    /// The number of further failures, and the time until there is room for one.
    fn room<'a>(
        &self,
        failed: impl Iterator<Item = &'a Failed>,
        now: DateTime,
    ) -> (usize, Duration) {
        let oldest = before(now, self.length);
        let mut times: Vec<DateTime> =
            failed.map(|failed| failed.at).filter(|at| *at > oldest).collect();
        times.sort_unstable();
        // There is room when this one, and all before it, have left the window.
        let last = times.len().checked_sub(self.limit).and_then(|index| times.get(index));
        let wait_ms = last.map_or(0, |at| at.timestamp_millis() - oldest.timestamp_millis());
        let wait = Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0));
        (self.limit.saturating_sub(times.len()), wait)
    }
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
            wait: Duration::ZERO,
            known: known.map(|known| known.client.clone()).collect(),
            is_news: client.is_some() && seen.is_none_or(|at| at < before(now, SEEN_AGAIN)),
        };
        if let Some(limit) = limits.account {
            let failed = account.into_iter().flat_map(|account| {
                account.failures.iter().filter(|failed| !account.is_forgiven(failed))
            });
            let counts = |failed: &&Failed| room.counts_with(failed.client.as_deref(), client);
            let failed: Vec<&Failed> = failed.filter(counts).collect();
            let oldest = before(now, limits.long_window);
            let own = |failed: &&Failed| failed.at > oldest && failed.client.as_deref() == client;
            room.is_news |= client.is_some() && failed.iter().any(own);
            for (limit, length) in
                [(limit, limits.window), (limits.account_long, limits.long_window)]
            {
                let (left, wait) = Window { limit, length }.room(failed.iter().copied(), now);
                room.account = room.account.min(left);
                room.wait = room.wait.max(wait);
            }
        }
        if let (Some(limit), Some(_)) = (limits.client, client) {
            let failed = of_client.into_iter().flat_map(|counted| counted.failures.iter());
            let (left, wait) = Window { limit, length: limits.window }.room(failed, now);
            room.client = left;
            room.wait = room.wait.max(wait);
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
