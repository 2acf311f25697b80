//! Limits failed logins, so guessing is slow and no user is locked out permanently.
//!
//! There is one document for each attempted name, even if no account has it, and one for each
//! client. A failure is stamped with its action's id, so a redelivery does not count again, and it
//! expires. A client that has logged in to an account is known there and has its own counter, so
//! guesses from elsewhere do not lock it out. A success writes only if it makes a client known or
//! forgives its failures.

mod counts;
mod in_flight;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use concert_worker::store::{DateTime, Document, Documents, doc, stamp};
use concert_worker::{ActionId, Call, ClientTag, Start, StartError, Stop};
use sha2::{Digest as _, Sha256};

use self::counts::{Counted, Room};
use self::in_flight::{InFlight, InFlightGuard};
use crate::settings::Settings;

/// A day, in seconds.
pub(crate) const DAY_S: u64 = 24 * 60 * 60;
/// Maximum number of failures in one document, and the highest limit.
pub(crate) const COUNTED_MAX: u32 = 1000;
/// Maximum number of known clients per account; at the limit, the one with the oldest login is
/// removed.
const KNOWN_MAX: i64 = 10;
/// Minimum age of a known client's last login before another login updates it.
const SEEN_AGAIN: Duration = Duration::from_secs(DAY_S);

/// Key of an attempted name. It is a hash, because users also type passwords there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct AccountKey([u8; 16]);

impl AccountKey {
    /// The key of a name in its unique form.
    pub(crate) fn of(name_key: &str) -> Self {
        let digest = Sha256::new().chain_update("account\0").chain_update(name_key).finalize();
        let mut key = [0; 16];
        key.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        Self(key)
    }

    fn document(&self) -> String {
        format!("account:{}", URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// A login attempt.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    /// The action, which stamps the failure.
    pub(crate) action: ActionId,
    /// The account of the attempted name.
    pub(crate) account: AccountKey,
    /// The client; unknown for an injected action.
    pub(crate) client: Option<ClientTag>,
}

impl Attempt {
    /// The attempt of an action at the account of a name.
    pub(crate) fn of<I>(call: &Call<I>, name_key: &str) -> Self {
        Self { action: call.id, account: AccountKey::of(name_key), client: call.client.clone() }
    }
}

/// Decision whether a password is checked.
#[derive(Debug)]
pub(crate) enum Admission {
    /// The password is checked.
    Admitted(Admitted),
    /// An earlier delivery of this action checked the password, and it was wrong.
    FailedBefore,
    /// Too many attempts failed.
    Throttled,
}

/// An admitted attempt. Until it is dropped, it counts as a possible failure.
#[derive(Debug)]
pub(crate) struct Admitted {
    attempt: Attempt,
    /// True if a success must be written.
    is_news: bool,
    _guard: InFlightGuard,
}

/// The failed logins of an application.
pub(crate) struct Attempts {
    documents: Documents<Counted>,
    in_flight: Arc<InFlight>,
    limits: Limits,
}

/// The limits in the form used here.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// `None` counts none.
    account: Option<usize>,
    account_long: usize,
    /// `None` counts none.
    client: Option<usize>,
    window: Duration,
    long_window: Duration,
    known: Duration,
}

impl Limits {
    fn new(settings: &Settings) -> Self {
        let count = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX);
        let window = Duration::from_secs(settings.login_window_seconds);
        Self {
            account: Some(count(settings.login_account_failures)).filter(|limit| *limit > 0),
            account_long: count(settings.login_account_failures_long),
            client: Some(count(settings.login_client_failures)).filter(|limit| *limit > 0),
            window,
            long_window: Duration::from_secs(settings.login_long_window_seconds).max(window),
            known: Duration::from_secs(settings.login_known_days * DAY_S),
        }
    }
}

impl Attempts {
    pub(crate) async fn open(start: &Start<Settings>) -> Result<Self, StartError> {
        Ok(Self {
            documents: start.documents("attempts").open().await?,
            in_flight: Arc::default(),
            limits: Limits::new(&start.settings),
        })
    }

    /// Decides whether a password is checked. Waits while so many attempts are in flight that this
    /// one could exceed a limit if they fail.
    pub(crate) async fn admit(
        &self,
        attempt: Attempt,
        now: DateTime,
        call: &Call<()>,
    ) -> Result<Admission, Stop> {
        // Serializes the decisions for an account, so each sees the result of the previous one.
        let _turn = self.in_flight.turn(&attempt.account).await;
        loop {
            let ended = self.in_flight.ended();
            tokio::pin!(ended);
            ended.as_mut().enable();
            // Before the failures are read: an attempt that ends in between has stored its failure,
            // or is among these.
            let seen = self.in_flight.current();
            let counted = self.read(&attempt).await?;
            if let Some(at) = counted.iter().find_map(|counted| counted.failed_at(attempt.action)) {
                // The earlier delivery may have written only one of the two documents.
                self.count(&attempt, at, call).await?;
                return Ok(Admission::FailedBefore);
            }
            let room = Room::of(&self.limits, &attempt, &counted, now);
            if room.is_none() {
                return Ok(Admission::Throttled);
            }
            if let Some(guard) = self.in_flight.admit(seen, &attempt, &room) {
                let is_news = self.limits.account.is_some() && room.is_news;
                return Ok(Admission::Admitted(Admitted { attempt, is_news, _guard: guard }));
            }
            ended.await;
        }
    }

    /// Counts a failure.
    pub(crate) async fn failed(
        &self,
        admitted: Admitted,
        now: DateTime,
        call: &Call<()>,
    ) -> Result<(), Stop> {
        self.count(&admitted.attempt, now, call).await
    }

    /// Makes the client known, and forgives its failures.
    pub(crate) async fn succeeded(
        &self,
        admitted: Admitted,
        now: DateTime,
        call: &Call<()>,
    ) -> Result<(), Stop> {
        let Some(client) = admitted.attempt.client.as_ref().filter(|_| admitted.is_news) else {
            return Ok(());
        };
        let oldest = before(now, self.limits.known);
        let others = doc! {
            "$and": [
                { "$ne": ["$$this.client", client.as_str()] },
                { "$gte": ["$$this.at", oldest] },
            ],
        };
        let others = doc! { "$filter": { "input": { "$ifNull": ["$known", []] }, "cond": others } };
        let known = doc! { "$concatArrays": [others, [{ "client": client.as_str(), "at": now }]] };
        let set = doc! {
            "known": { "$slice": [known, -KNOWN_MAX] },
            "purge_at": { "$max": ["$purge_at", now.saturating_add_duration(self.limits.known)] },
        };
        self.write(admitted.attempt.account.document(), set, call).await
    }

    async fn read(&self, attempt: &Attempt) -> Result<Vec<Counted>, Stop> {
        let documents = self.documents(attempt).map(|(document, _)| document);
        let documents: Vec<String> = documents.collect();
        let found = self.documents.many(documents.iter().map(String::as_str)).await?;
        Ok(found.into_iter().map(|found| found.value).collect())
    }

    /// The documents that count an attempt, each with its window.
    fn documents(&self, attempt: &Attempt) -> impl Iterator<Item = (String, Duration)> {
        let account =
            self.limits.account.map(|_| (attempt.account.document(), self.limits.long_window));
        let client = attempt.client.as_ref().filter(|_| self.limits.client.is_some());
        let client = client.map(|client| (counts::document_of(client), self.limits.window));
        account.into_iter().chain(client)
    }

    /// Adds a failure to each of its documents, concurrently, with one atomic operation each. Does
    /// nothing where it is already counted.
    async fn count(&self, attempt: &Attempt, at: DateTime, call: &Call<()>) -> Result<(), Stop> {
        let mut failure = doc! { "action": stamp(attempt.action), "at": at };
        if let Some(client) = &attempt.client {
            failure.insert("client", client.as_str());
        }
        let writes = self.documents(attempt).map(|(document, window)| {
            let young = doc! { "$gte": ["$$this.at", before(at, window)] };
            let failures = doc! { "$ifNull": ["$failures", []] };
            let kept = doc! { "$filter": { "input": failures, "cond": young } };
            let added = doc! { "$concatArrays": ["$$kept", [failure.clone()]] };
            let added = doc! { "$slice": [added, -i64::from(COUNTED_MAX)] };
            let is_there = doc! { "$in": [stamp(attempt.action), "$$kept.action"] };
            let failures = doc! { "$cond": [is_there, "$$kept", added] };
            let failures = doc! { "$let": { "vars": { "kept": kept }, "in": failures } };
            let purge_at = doc! { "$max": ["$purge_at", at.saturating_add_duration(window)] };
            self.write(document, doc! { "failures": failures, "purge_at": purge_at }, call)
        });
        // Waits for all writes: the driver's operations must not be dropped half-way.
        let written = futures_util::future::join_all(writes).await;
        written.into_iter().collect()
    }

    async fn write(&self, document: String, set: Document, call: &Call<()>) -> Result<(), Stop> {
        let permit = call.permit().await?;
        self.documents.upsert(permit, &document, vec![doc! { "$set": set }]).await
    }
}

fn before(at: DateTime, by: Duration) -> DateTime {
    let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    DateTime::from_millis(at.timestamp_millis().saturating_sub(by))
}

#[cfg(test)]
pub(crate) mod tests;
