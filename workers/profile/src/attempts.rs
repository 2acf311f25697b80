//! Failed logins, counted so that guessing ends early and nobody is locked out for good.
//!
//! What is counted is one document for each name that somebody tried, whether there is such an account or not, and one for each client. A failure is stamped with its action's id, so that it
//! counts once however often it is delivered, and ages out by itself. A client that has logged in to an account is known there and has a count of its own, so that whoever guesses elsewhere
//! does not lock it out. A success writes nothing, unless it makes a client known or forgives its failures.

mod counts;
mod under_way;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use concert_wire::client::ClientTag;
use concert_wire::id::ActionId;
use concert_worker::store::operation::{FIND, UPDATE};
use concert_worker::store::{Index, StoreError, index, run, stamp, unavailable};
use concert_worker::{Failure, Lease};
use mongodb::bson::{DateTime, Document, doc};
use mongodb::{Collection, Database};
use sha2::{Digest as _, Sha256};

use self::counts::{Counted, Room};
use self::under_way::{Ticket, UnderWay};

/// How many logins may fail.
#[derive(Debug, Clone, Args)]
pub struct LoginArgs {
    /// Failed logins to one account within the window at most, of all clients together that never logged in there, and of each that did; past it 429. 0 counts none.
    #[arg(long, env = "CONCERT_LOGIN_ACCOUNT_FAILURES", default_value_t = 10, value_name = "N", value_parser = limit())]
    pub login_account_failures: u32,
    /// The same within the long window.
    #[arg(long, env = "CONCERT_LOGIN_ACCOUNT_FAILURES_LONG", default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=COUNTED_MAX))]
    pub login_account_failures_long: u32,
    /// Failed logins of one client within the window at most, over all accounts; past it 429. 0 counts none.
    #[arg(long, env = "CONCERT_LOGIN_CLIENT_FAILURES", default_value_t = 100, value_name = "N", value_parser = limit())]
    pub login_client_failures: u32,
    /// The window, in seconds.
    #[arg(long, env = "CONCERT_LOGIN_WINDOW_SECONDS", default_value_t = 15 * 60, value_name = "SECONDS", value_parser = seconds())]
    pub login_window_seconds: u64,
    /// The long window, in seconds.
    #[arg(long, env = "CONCERT_LOGIN_LONG_WINDOW_SECONDS", default_value_t = DAY_S, value_name = "SECONDS", value_parser = seconds())]
    pub login_long_window_seconds: u64,
    /// For how long a client is known at an account after it logged in there, in days.
    #[arg(long, env = "CONCERT_LOGIN_KNOWN_DAYS", default_value_t = 30, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=366))]
    pub login_known_days: u64,
}

const DAY_S: u64 = 24 * 60 * 60;
/// Failures that one document holds at most, which is more than any limit.
const COUNTED_MAX: i64 = 1000;
/// Clients that are known at one account at most; the one that was not seen for longest is forgotten first.
const KNOWN_MAX: i64 = 10;
/// A client that is known is written down again when it was last seen so long ago.
const SEEN_AGAIN: Duration = Duration::from_secs(DAY_S);

fn limit() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(0..=COUNTED_MAX)
}

fn seconds() -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(1..=366 * DAY_S)
}

/// A name that somebody tried, as it is counted: a hash, since what was typed there may be anything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct AccountKey([u8; 16]);

impl AccountKey {
    /// Of a name in the form in which names are unique.
    pub(crate) fn of(name_key: &str) -> Self {
        let digest = Sha256::new()
            .chain_update("account\0")
            .chain_update(name_key)
            .finalize();
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
    collection: Collection<Counted>,
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
    fn new(args: &LoginArgs) -> Self {
        let count = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX);
        let window = Duration::from_secs(args.login_window_seconds);
        Self {
            account: Some(count(args.login_account_failures)).filter(|limit| *limit > 0),
            account_long: count(args.login_account_failures_long),
            client: Some(count(args.login_client_failures)).filter(|limit| *limit > 0),
            window,
            long_window: Duration::from_secs(args.login_long_window_seconds).max(window),
            known: Duration::from_secs(args.login_known_days * DAY_S),
        }
    }
}

impl Attempts {
    pub(crate) async fn open(database: &Database, args: &LoginArgs) -> Result<Self, StoreError> {
        let collection = database.collection("attempts");
        index(&collection, "purge_at", Index::Expiry).await?;
        Ok(Self {
            collection,
            under_way: Arc::default(),
            limits: Limits::new(args),
        })
    }

    /// Decides whether a password is looked at. Waits while as many attempts are under way as may still fail: they might.
    pub(crate) async fn admit(&self, attempt: Attempt, now: DateTime, lease: &Lease) -> Result<Admission, Failure> {
        // One decision for an account at a time, so that none is made on the strength of a count that the other is about to change.
        let _turn = self.under_way.turn(&attempt.account).await;
        loop {
            let ended = self.under_way.ended();
            tokio::pin!(ended);
            ended.as_mut().enable();
            // Before the look at what failed: whoever ends in between has written it down by then, or is among these.
            let seen = self.under_way.tickets();
            let counted = self.read(&attempt).await?;
            if let Some(at) = counted.iter().find_map(|counted| counted.failed_at(attempt.action)) {
                // Of the two documents that write may have reached one.
                lease.may_write().await?;
                self.count(&attempt, at).await?;
                return Ok(Admission::FailedBefore);
            }
            let room = Room::of(&self.limits, &attempt, &counted, now);
            if room.is_none() {
                return Ok(Admission::Throttled);
            }
            if let Some(ticket) = self.under_way.admit(seen, &attempt, &room) {
                let is_news = self.limits.account.is_some() && room.is_news;
                return Ok(Admission::Admitted(Admitted {
                    attempt,
                    is_news,
                    _ticket: ticket,
                }));
            }
            ended.await;
        }
    }

    /// Counts a failure.
    pub(crate) async fn failed(&self, admitted: Admitted, now: DateTime, lease: &Lease) -> Result<(), Failure> {
        lease.may_write().await?;
        self.count(&admitted.attempt, now).await
    }

    /// Makes the client known where it was not, and forgives its failures.
    pub(crate) async fn succeeded(&self, admitted: Admitted, now: DateTime, lease: &Lease) -> Result<(), Failure> {
        let Some(client) = admitted.attempt.client.as_ref().filter(|_| admitted.is_news) else {
            return Ok(());
        };
        lease.may_write().await?;
        let oldest = before(now, self.limits.known);
        let others =
            doc! { "$and": [{ "$ne": ["$$this.client", client.as_str()] }, { "$gte": ["$$this.at", oldest] }] };
        let others = doc! { "$filter": { "input": { "$ifNull": ["$known", []] }, "cond": others } };
        let known = doc! { "$concatArrays": [others, [{ "client": client.as_str(), "at": now }]] };
        let set = doc! {
            "known": { "$slice": [known, -KNOWN_MAX] },
            "purge_at": { "$max": ["$purge_at", now.saturating_add_duration(self.limits.known)] },
        };
        self.write(admitted.attempt.account.document(), set).await
    }

    async fn read(&self, attempt: &Attempt) -> Result<Vec<Counted>, Failure> {
        let documents = self.documents(attempt).map(|(document, _)| document);
        let documents: Vec<String> = documents.collect();
        if documents.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.collection.find(doc! { "_id": { "$in": documents } });
        let mut cursor = run(FIND, found).await?;
        let mut counted = Vec::new();
        while cursor.advance().await.map_err(unavailable)? {
            counted.push(cursor.deserialize_current().map_err(unavailable)?);
        }
        Ok(counted)
    }

    /// The documents in which an attempt is counted, each with the time for which it counts.
    fn documents(&self, attempt: &Attempt) -> impl Iterator<Item = (String, Duration)> {
        let account = self
            .limits
            .account
            .map(|_| (attempt.account.document(), self.limits.long_window));
        let client = attempt.client.as_ref().filter(|_| self.limits.client.is_some());
        let client = client.map(|client| (counts::document_of(client), self.limits.window));
        account.into_iter().chain(client)
    }

    /// Adds a failure to each of its documents, unless it is there: each in one atomic operation of its own, both at once.
    async fn count(&self, attempt: &Attempt, at: DateTime) -> Result<(), Failure> {
        let mut failure = doc! { "action": stamp(attempt.action), "at": at };
        if let Some(client) = &attempt.client {
            failure.insert("client", client.as_str());
        }
        let writes = self.documents(attempt).map(|(document, window)| {
            let young = doc! { "$gte": ["$$this.at", before(at, window)] };
            let kept = doc! { "$filter": { "input": { "$ifNull": ["$failures", []] }, "cond": young } };
            let added = doc! { "$slice": [{ "$concatArrays": ["$$kept", [failure.clone()]] }, -COUNTED_MAX] };
            let is_there = doc! { "$in": [stamp(attempt.action), "$$kept.action"] };
            let failures =
                doc! { "$let": { "vars": { "kept": kept }, "in": { "$cond": [is_there, "$$kept", added] } } };
            let purge_at = doc! { "$max": ["$purge_at", at.saturating_add_duration(window)] };
            self.write(document, doc! { "failures": failures, "purge_at": purge_at })
        });
        // All of them to their end: the driver's operations must not be dropped half-way.
        let written = futures_util::future::join_all(writes).await;
        written.into_iter().collect()
    }

    async fn write(&self, document: String, set: Document) -> Result<(), Failure> {
        let update = self
            .collection
            .update_one(doc! { "_id": document }, vec![doc! { "$set": set }]);
        run(UPDATE, update.upsert(true)).await.map(drop)
    }
}

fn before(at: DateTime, by: Duration) -> DateTime {
    let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    DateTime::from_millis(at.timestamp_millis().saturating_sub(by))
}

#[cfg(test)]
pub(crate) mod tests;
