//! Failed logins, counted so that guessing ends early and nobody is locked out for good.
//!
//! What is counted is one document for each name that somebody tried, whether there is such an
//! account or not, and one for each client. A failure is stamped with its action's id, so that it
//! counts once however often it is delivered, and ages out by itself. A client that has logged in
//! to an account is known there and has a count of its own, so that whoever guesses elsewhere does
//! not lock it out. A success writes nothing, unless it makes a client known or forgives its
//! failures.

mod counts;
mod under_way;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use concert_worker::store::{DateTime, Document, Documents, doc, stamp};
use concert_worker::{ActionId, Call, ClientTag, Start, StartError, Stop};
use sha2::{Digest as _, Sha256};

use self::counts::{Counted, Room};
use self::under_way::{Ticket, UnderWay};
use crate::settings::Settings;

/// A day, in seconds.
pub(crate) const DAY_S: u64 = 24 * 60 * 60;
/// Maximum number of failures in one document, and the highest limit.
pub(crate) const COUNTED_MAX: u32 = 1000;
/// Clients that are known at one account at most; the one that was not seen for longest is
/// forgotten first.
const KNOWN_MAX: i64 = 10;
/// A client that is known is written down again when it was last seen so long ago.
const SEEN_AGAIN: Duration = Duration::from_secs(DAY_S);

/// A name that somebody tried, as it is counted: a hash, since what was typed there may be
/// anything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct AccountKey([u8; 16]);

impl AccountKey {
    /// Of a name in the form in which names are unique.
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

/// Somebody who says to be somebody.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    /// What it is stamped with.
    pub(crate) action: ActionId,
    /// Whom they say to be.
    pub(crate) account: AccountKey,
    /// Where they are; not known of an action that was injected.
    pub(crate) client: Option<ClientTag>,
}

impl Attempt {
    /// The attempt that an action makes at the account of a name.
    pub(crate) fn of<I>(call: &Call<I>, name_key: &str) -> Self {
        Self { action: call.id, account: AccountKey::of(name_key), client: call.client.clone() }
    }
}

/// Whether a password is looked at.
#[derive(Debug)]
pub(crate) enum Admission {
    /// It is.
    Admitted(Admitted),
    /// An earlier delivery of this action looked at it, and it was wrong.
    FailedBefore,
    /// Too many were wrong.
    Throttled,
}

/// An attempt whose outcome is awaited. Until it is dropped it counts as one that may fail.
#[derive(Debug)]
pub(crate) struct Admitted {
    attempt: Attempt,
    /// A success has something to write.
    is_news: bool,
    _ticket: Ticket,
}

/// The failed logins of an application.
pub(crate) struct Attempts {
    documents: Documents<Counted>,
    under_way: Arc<UnderWay>,
    limits: Limits,
}

/// The bounds, as they are used.
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
            under_way: Arc::default(),
            limits: Limits::new(&start.settings),
        })
    }

    /// Decides whether a password is looked at. Waits while as many attempts are under way as may
    /// still fail: they might.
    pub(crate) async fn admit(
        &self,
        attempt: Attempt,
        now: DateTime,
        call: &Call<()>,
    ) -> Result<Admission, Stop> {
        // One decision for an account at a time, so that none is made on the strength of a count
        // that the other is about to change.
        let _turn = self.under_way.turn(&attempt.account).await;
        loop {
            let ended = self.under_way.ended();
            tokio::pin!(ended);
            ended.as_mut().enable();
            // Before the look at what failed: whoever ends in between has written it down by then,
            // or is among these.
            let seen = self.under_way.tickets();
            let counted = self.read(&attempt).await?;
            if let Some(at) = counted.iter().find_map(|counted| counted.failed_at(attempt.action)) {
                // Of the two documents that write may have reached one.
                self.count(&attempt, at, call).await?;
                return Ok(Admission::FailedBefore);
            }
            let room = Room::of(&self.limits, &attempt, &counted, now);
            if room.is_none() {
                return Ok(Admission::Throttled);
            }
            if let Some(ticket) = self.under_way.admit(seen, &attempt, &room) {
                let is_news = self.limits.account.is_some() && room.is_news;
                return Ok(Admission::Admitted(Admitted { attempt, is_news, _ticket: ticket }));
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

    /// Makes the client known where it was not, and forgives its failures.
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
        let others = doc! { "$and": [{ "$ne": ["$$this.client", client.as_str()] }, { "$gte": ["$$this.at", oldest] }] };
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

    /// The documents in which an attempt is counted, each with the time for which it counts.
    fn documents(&self, attempt: &Attempt) -> impl Iterator<Item = (String, Duration)> {
        let account =
            self.limits.account.map(|_| (attempt.account.document(), self.limits.long_window));
        let client = attempt.client.as_ref().filter(|_| self.limits.client.is_some());
        let client = client.map(|client| (counts::document_of(client), self.limits.window));
        account.into_iter().chain(client)
    }

    /// Adds a failure to each of its documents, unless it is there: each in one atomic operation of
    /// its own, both at once.
    async fn count(&self, attempt: &Attempt, at: DateTime, call: &Call<()>) -> Result<(), Stop> {
        let mut failure = doc! { "action": stamp(attempt.action), "at": at };
        if let Some(client) = &attempt.client {
            failure.insert("client", client.as_str());
        }
        let writes = self.documents(attempt).map(|(document, window)| {
            let young = doc! { "$gte": ["$$this.at", before(at, window)] };
            let kept = doc! { "$filter": { "input": { "$ifNull": ["$failures", []] }, "cond": young } };
            let added =
                doc! { "$slice": [{ "$concatArrays": ["$$kept", [failure.clone()]] }, -i64::from(COUNTED_MAX)] };
            let is_there = doc! { "$in": [stamp(attempt.action), "$$kept.action"] };
            let failures =
                doc! { "$let": { "vars": { "kept": kept }, "in": { "$cond": [is_there, "$$kept", added] } } };
            let purge_at = doc! { "$max": ["$purge_at", at.saturating_add_duration(window)] };
            self.write(document, doc! { "failures": failures, "purge_at": purge_at }, call)
        });
        // All of them to their end: the driver's operations must not be dropped half-way.
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
