use concert_worker::store::{Bson, now};
use concert_worker::{Call, FlowId, trial};
use uuid::Uuid;

use super::*;

fn action() -> ActionId {
    FlowId::new(Uuid::now_v7()).root()
}

pub(crate) fn client(number: usize) -> Option<ClientTag> {
    Some(format!("{number:022}").parse().unwrap())
}

fn attempt(name: &str, client: Option<ClientTag>) -> Attempt {
    Attempt { action: action(), account: AccountKey::of(name), client }
}

fn later(now: DateTime, seconds: u64) -> DateTime {
    now.saturating_add_duration(Duration::from_secs(seconds))
}

/// Outcome of a completed attempt.
#[derive(Debug, PartialEq)]
enum Outcome {
    Failed,
    Succeeded,
    Before,
    Throttled,
}

struct Bench {
    attempts: Attempts,
    servers: trial::Bench,
}

impl Bench {
    async fn start(settings: &Settings) -> Self {
        let servers = trial::Bench::of("Profile").await.unwrap();
        Self { attempts: Attempts::open(&servers.start(settings.clone())).await.unwrap(), servers }
    }

    async fn take(&self, attempt: Attempt, is_right: bool, now: DateTime) -> Outcome {
        let call = Call::direct(None, ());
        match self.attempts.admit(attempt, now, &call).await.unwrap() {
            Admission::FailedBefore => Outcome::Before,
            Admission::Throttled(wait) => {
                assert!(!wait.is_zero(), "a throttled attempt has to wait");
                Outcome::Throttled
            }
            Admission::Admitted(admitted) if is_right => {
                self.attempts.succeeded(admitted, now, &call).await.unwrap();
                Outcome::Succeeded
            }
            Admission::Admitted(admitted) => {
                self.attempts.failed(admitted, now, &call).await.unwrap();
                Outcome::Failed
            }
        }
    }

    async fn fails(&self, name: &str, from: Option<ClientTag>, now: DateTime) -> Outcome {
        self.take(attempt(name, from), false, now).await
    }

    async fn succeeds(&self, name: &str, from: Option<ClientTag>, now: DateTime) -> Outcome {
        self.take(attempt(name, from), true, now).await
    }

    async fn documents(&self) -> Vec<Document> {
        let all = self.servers.collection("attempts").await.unwrap();
        let mut cursor = all.find(doc! {}).sort(doc! { "_id": 1 }).await.unwrap();
        let mut found = Vec::new();
        while cursor.advance().await.unwrap() {
            found.push(cursor.deserialize_current().unwrap());
        }
        found
    }
}

#[tokio::test]
async fn redelivered_failure_counts_once() {
    let bench = Bench::start(&Settings::default()).await;
    let now = now();
    let one = attempt("ada", client(1));
    assert_eq!(bench.take(one.clone(), false, now).await, Outcome::Failed);
    let counted = bench.documents().await;
    assert_eq!(counted.len(), 2, "{counted:?}");
    for seconds in [0, 1, 3600] {
        assert_eq!(bench.take(one.clone(), true, later(now, seconds)).await, Outcome::Before);
        bench.attempts.count(&one, now, &Call::direct(None, ())).await.unwrap();
        assert_eq!(bench.documents().await, counted);
    }
    // The process crashed between the two writes: the next delivery makes the other one.
    let clients = bench.servers.collection("attempts").await.unwrap();
    clients.delete_one(doc! { "_id": counts::document_of(&client(1).unwrap()) }).await.unwrap();
    assert_eq!(bench.take(one, false, later(now, 1)).await, Outcome::Before);
    assert_eq!(bench.documents().await, counted);
}

#[tokio::test]
async fn account_is_locked_temporarily_and_only_for_unknown_clients() {
    let bench = Bench::start(&Settings::default()).await;
    let now = now();
    assert_eq!(bench.succeeds("ada", client(1), now).await, Outcome::Succeeded);
    for number in 0..10 {
        assert_eq!(bench.fails("ada", client(100 + number), later(now, 1)).await, Outcome::Failed);
    }
    // With any password, from any client.
    for from in [client(100), client(200), None] {
        assert_eq!(bench.succeeds("ada", from.clone(), later(now, 2)).await, Outcome::Throttled);
        assert_eq!(bench.fails("ada", from, later(now, 2)).await, Outcome::Throttled);
    }
    // Throttled attempts are not counted, so the window does not get longer.
    assert_eq!(bench.fails("ada", client(300), later(now, 15 * 60 + 2)).await, Outcome::Failed);
    // A known client can log in, and has its own counter.
    for _ in 0..10 {
        assert_eq!(bench.fails("ada", client(1), later(now, 3)).await, Outcome::Failed);
    }
    assert_eq!(bench.succeeds("ada", client(1), later(now, 3)).await, Outcome::Throttled);
    assert_eq!(bench.succeeds("ada", client(1), later(now, 15 * 60 + 4)).await, Outcome::Succeeded);
    // Other accounts are not affected.
    assert_eq!(bench.succeeds("bob", client(100), later(now, 2)).await, Outcome::Succeeded);
}

#[tokio::test]
async fn long_window_limits_slow_guessing() {
    let settings = Settings {
        login_account_failures: 10,
        login_account_failures_long: 25,
        ..Settings::default()
    };
    let bench = Bench::start(&settings).await;
    let now = now();
    let mut failed = 0;
    // Twelve hours, one attempt every three minutes.
    for minute in (0..12 * 60).step_by(3) {
        let came = bench
            .fails("ada", client(usize::try_from(minute).unwrap()), later(now, minute * 60))
            .await;
        failed += usize::from(came == Outcome::Failed);
    }
    assert_eq!(failed, 25);
    assert_eq!(bench.fails("ada", client(1), later(now, DAY_S + 60)).await, Outcome::Failed);
}

#[tokio::test]
async fn client_limit_spans_accounts_and_ignores_own_success() {
    let settings = Settings { login_client_failures: 12, ..Settings::default() };
    let bench = Bench::start(&settings).await;
    let now = now();
    for number in 0..12 {
        assert_eq!(bench.fails(&format!("victim{number}"), client(1), now).await, Outcome::Failed);
        assert_eq!(bench.succeeds("mallory", client(2), now).await, Outcome::Succeeded);
    }
    assert_eq!(bench.succeeds("mallory", client(1), later(now, 1)).await, Outcome::Throttled);
    assert_eq!(bench.succeeds("victim1", client(2), later(now, 1)).await, Outcome::Succeeded);
    assert_eq!(
        bench.succeeds("mallory", client(1), later(now, 15 * 60 + 1)).await,
        Outcome::Succeeded
    );
}

#[tokio::test]
async fn success_forgives_own_failures_and_otherwise_writes_nothing() {
    let bench = Bench::start(&Settings::default()).await;
    let now = now();
    for round in 0..3 {
        for _ in 0..9 {
            assert_eq!(bench.fails("ada", client(1), later(now, round)).await, Outcome::Failed);
        }
        assert_eq!(bench.succeeds("ada", client(1), later(now, round)).await, Outcome::Succeeded);
    }
    let quiet = bench.documents().await;
    assert_eq!(bench.succeeds("ada", client(1), later(now, 60)).await, Outcome::Succeeded);
    assert_eq!(bench.documents().await, quiet, "nothing new, nothing written");
    assert_eq!(bench.succeeds("ada", client(1), later(now, DAY_S + 60)).await, Outcome::Succeeded);
    assert_ne!(bench.documents().await, quiet, "seen again after a day");
    // Failures of unknown clients are not forgiven.
    for number in 0..10 {
        bench.fails("ada", client(100 + number), later(now, DAY_S + 60)).await;
    }
    bench.succeeds("ada", client(1), later(now, DAY_S + 61)).await;
    assert_eq!(bench.fails("ada", client(200), later(now, DAY_S + 62)).await, Outcome::Throttled);
    // After a month without a login the client is unknown again.
    let month = 31 * DAY_S;
    for number in 0..10 {
        bench.fails("ada", client(300 + number), later(now, month + DAY_S)).await;
    }
    assert_eq!(
        bench.succeeds("ada", client(1), later(now, month + DAY_S + 120)).await,
        Outcome::Throttled
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_guesses_do_not_exceed_the_limit() {
    let bench = Arc::new(Bench::start(&Settings::default()).await);
    let now = now();
    let mut guesses = tokio::task::JoinSet::new();
    for number in 0..60 {
        let bench = bench.clone();
        // From one client, and from many.
        guesses.spawn(async move { bench.fails("ada", client(number / 30 * number), now).await });
    }
    let came = guesses.join_all().await;
    assert_eq!(came.iter().filter(|came| **came == Outcome::Failed).count(), 10, "{came:?}");
    assert_eq!(came.iter().filter(|came| **came == Outcome::Throttled).count(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_attempts_continue_after_a_cancelled_one() {
    let settings = Settings { login_account_failures: 1, ..Settings::default() };
    let bench = Arc::new(Bench::start(&settings).await);
    let now = now();
    let call = Call::direct(None, ());
    let first = bench.attempts.admit(attempt("ada", client(1)), now, &call).await.unwrap();
    let second = {
        let bench = bench.clone();
        tokio::spawn(async move { bench.succeeds("ada", client(2), now).await })
    };
    // Other accounts are decided in the meantime.
    assert_eq!(bench.succeeds("bob", client(3), now).await, Outcome::Succeeded);
    assert!(!second.is_finished());
    drop(first);
    let came = tokio::time::timeout(Duration::from_secs(60), second).await;
    assert_eq!(came.expect("the waiting attempt continues").unwrap(), Outcome::Succeeded);
}

#[tokio::test]
async fn stored_failures_expire_and_contain_no_name() {
    let bench = Bench::start(&Settings::default()).await;
    bench.fails("my password by mistake", client(1), now()).await;
    for document in bench.documents().await {
        assert!(matches!(document.get("purge_at"), Some(Bson::DateTime(_))), "{document}");
        assert!(!document.to_string().contains("mistake"), "{document}");
    }
    let indexes =
        bench.servers.collection("attempts").await.unwrap().list_index_names().await.unwrap();
    assert!(indexes.iter().any(|name| name.starts_with("purge_at")), "{indexes:?}");
}

#[tokio::test]
async fn limit_of_0_counts_nothing() {
    let settings =
        Settings { login_account_failures: 0, login_client_failures: 0, ..Settings::default() };
    let bench = Bench::start(&settings).await;
    for _ in 0..20 {
        assert_eq!(bench.fails("ada", client(1), now()).await, Outcome::Failed);
    }
    assert_eq!(bench.succeeds("ada", client(1), now()).await, Outcome::Succeeded);
    assert_eq!(bench.documents().await, Vec::<Document>::new());
}

#[tokio::test]
async fn failures_stored_by_the_released_version_count() {
    let bench = Bench::start(&Settings::default()).await;
    let now = now();
    let failure = |number: usize| {
        let client = client(number).unwrap();
        doc! { "action": stamp(action()), "at": now, "client": client.as_str() }
    };
    let failures: Vec<Document> = (10..19).map(failure).collect();
    let account = AccountKey::of("ada").document();
    let known = doc! { "client": client(1).unwrap().as_str(), "at": now };
    let purge_at = later(now, DAY_S);
    let counted = doc! {
        "_id": &account, "failures": failures, "known": [known], "purge_at": purge_at,
    };
    let attempts = bench.servers.collection("attempts").await.unwrap();
    attempts.insert_one(counted).await.unwrap();
    assert_eq!(bench.fails("ada", client(50), now).await, Outcome::Failed);
    assert_eq!(bench.fails("ada", client(51), now).await, Outcome::Throttled);
    assert_eq!(bench.succeeds("ada", client(1), now).await, Outcome::Succeeded);
    // The document still has the same fields.
    let stored = attempts.find_one(doc! { "_id": account }).await.unwrap().unwrap();
    let mut keys: Vec<&String> = stored.keys().collect();
    keys.sort_unstable();
    assert_eq!(keys, ["_id", "failures", "known", "purge_at"]);
    for failure in stored.get_array("failures").unwrap() {
        let keys: Vec<&String> = failure.as_document().unwrap().keys().collect();
        assert_eq!(keys, ["action", "at", "client"]);
    }
}

#[tokio::test]
async fn wait_is_until_the_oldest_failure_leaves_the_window() {
    let bench = Bench::start(&Settings::default()).await;
    let start = now();
    for number in 0..10 {
        let at = later(start, u64::try_from(number).unwrap() * 60);
        assert_eq!(bench.fails("ada", client(number), at).await, Outcome::Failed);
    }
    let wait = async |at| {
        let call = Call::direct(None, ());
        match bench.attempts.admit(attempt("ada", client(99)), at, &call).await.unwrap() {
            Admission::Throttled(wait) => wait,
            _ => Duration::ZERO,
        }
    };
    assert_eq!(wait(later(start, 600)).await, Duration::from_secs(300));
    assert_eq!(wait(later(start, 899)).await, Duration::from_secs(1));
    assert_eq!(wait(later(start, 900)).await, Duration::ZERO);
}

#[tokio::test]
async fn client_creates_a_limited_number_of_accounts_per_window() {
    let settings = Settings { accounts_per_client: 5, ..Settings::default() };
    let bench = Bench::start(&settings).await;
    let start = now();
    let create = async |from, at| {
        let call = Call::direct(client(from), ());
        bench.attempts.create(at, &call).await.unwrap()
    };
    let created = futures_util::future::join_all((0..20).map(|_| create(1, start))).await;
    assert_eq!(created.iter().filter(|wait| wait.is_none()).count(), 5, "{created:?}");
    assert_eq!(create(1, later(start, 3000)).await, Some(Duration::from_secs(600)));
    assert_eq!(create(2, start).await, None, "other clients are not affected");
    assert_eq!(create(1, later(start, 3600)).await, None);
    // A redelivery has the outcome of the first delivery, and does not count again.
    let call = Call::direct(client(3), ());
    for _ in 0..6 {
        assert_eq!(bench.attempts.create(start, &call).await.unwrap(), None);
    }
    assert_eq!(create(3, start).await, None);
    // An injected action has no client.
    for _ in 0..6 {
        assert_eq!(bench.attempts.create(start, &Call::direct(None, ())).await.unwrap(), None);
    }
}
