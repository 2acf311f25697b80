//! Limits failed logins, so guessing is slow and no user is locked out permanently.
//!
//! Each attempted name has a document, even if no account has that name, and so has each client. A
//! failure is stamped with its action's id, so a redelivery does not count again, and it expires. A
//! client that has logged in to an account is known to it and has its own counter there, so guesses
//! from elsewhere do not lock it out. A success writes only if it makes a client known or forgives
//! its failures.

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

/// Key of an account or an attempted name. It is a hash, because users also type passwords as
/// names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct AccountKey([u8; 16]);

impl AccountKey {
    /// The key of a name in its unique form.
    pub(crate) fn of(name_key: &str) -> Self {
        Self::hash("account\0", name_key)
    }

    /// The key under which the holders of a user's sessions are counted.
    fn of_holder(user: &str) -> Self {
        Self::hash("holder\0", user)
    }

    fn hash(kind: &str, text: &str) -> Self {
        let digest = Sha256::new().chain_update(kind).chain_update(text).finalize();
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
    /// The client; `None` for an injected action, and for the holder of a session.
    pub(crate) client: Option<ClientTag>,
}

impl Attempt {
    /// The attempt of an action at the account of a name.
    pub(crate) fn of<I>(call: &Call<I>, name_key: &str) -> Self {
        Self { action: call.id, account: AccountKey::of(name_key), client: call.client.clone() }
    }

    /// An attempt of a session's holder. Its counter is separate from those of logins, so strangers
    /// cannot lock the holder out. A stolen session does not give more guesses.
    pub(crate) fn of_holder<I>(call: &Call<I>, user: &str) -> Self {
        Self { action: call.id, account: AccountKey::of_holder(user), client: None }
    }
}

/// Decision whether a password is checked.
#[derive(Debug)]
pub(crate) enum Admission {
    /// The password is checked.
    Admitted(Admitted),
    /// An earlier delivery of this action checked the password, and it was wrong.
    FailedBefore,
    /// Too many attempts failed; another one is possible after this time.
    Throttled(Duration),
}

/// An admitted attempt. Until it is dropped, it counts as a possible failure.
#[derive(Debug)]
pub(crate) struct Admitted {
    attempt: Attempt,
    /// True if a success must be written: it makes the client known, or forgives failures.
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
    /// `None` disables the limit.
    created: Option<usize>,
    created_window: Duration,
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
            created: Some(count(settings.accounts_per_client)).filter(|limit| *limit > 0),
            created_window: Duration::from_secs(settings.accounts_window_seconds),
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
            // Read before the failures. An attempt that ends in between is in one of the two: here,
            // or among the failures.
            let seen = self.in_flight.current();
            let counted = self.read(&attempt).await?;
            if let Some(at) = counted.iter().find_map(|counted| counted.failed_at(attempt.action)) {
                // The earlier delivery may have written only one of the two documents.
                self.count(&attempt, at, call).await?;
                return Ok(Admission::FailedBefore);
            }
            let room = Room::of(&self.limits, &attempt, &counted, now);
            if room.is_none() {
                return Ok(Admission::Throttled(room.wait));
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

    /// Adds a failure to the documents of its account and its client, concurrently, with one atomic
    /// operation each. A document that has the failure already stays unchanged.
    async fn count(&self, attempt: &Attempt, at: DateTime, call: &Call<()>) -> Result<(), Stop> {
        let mut failure = doc! { "action": stamp(attempt.action), "at": at };
        if let Some(client) = &attempt.client {
            failure.insert("client", client.as_str());
        }
        let writes = self.documents(attempt).map(|(document, window)| {
            self.write(document, counts::adding(&failure, at, window, None), call)
        });
        // Waits for all writes: the driver's operations must not be dropped half-way.
        let written = futures_util::future::join_all(writes).await;
        written.into_iter().collect()
    }

    /// Counts the creation of an account by a client. Returns the time until another one is
    /// possible, if the client has created too many.
    pub(crate) async fn create(
        &self,
        now: DateTime,
        call: &Call<()>,
    ) -> Result<Option<Duration>, Stop> {
        let (Some(limit), Some(client)) = (self.limits.created, &call.client) else {
            return Ok(None);
        };
        let (document, window) = (counts::creations_of(client), self.limits.created_window);
        let creation = doc! { "action": stamp(call.id), "at": now };
        // The write decides, so concurrent creations do not exceed the limit.
        let set = counts::adding(&creation, now, window, Some(limit));
        self.write(document.clone(), set, call).await?;
        let counted = self.documents.get(&document).await?.map(|counted| counted.value);
        let is_counted = counted.as_ref().is_some_and(|all| all.failed_at(call.id).is_some());
        let wait = counted.map(|counted| counted.wait(limit, window, now));
        Ok(wait.filter(|_| !is_counted))
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
