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

/// What came of an attempt that was taken to its end.
#[derive(Debug, PartialEq)]
enum Came {
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

    async fn take(&self, attempt: Attempt, is_right: bool, now: DateTime) -> Came {
        let call = Call::direct(None, ());
        match self.attempts.admit(attempt, now, &call).await.unwrap() {
            Admission::FailedBefore => Came::Before,
            Admission::Throttled => Came::Throttled,
            Admission::Admitted(admitted) if is_right => {
                self.attempts.succeeded(admitted, now, &call).await.unwrap();
                Came::Succeeded
            }
            Admission::Admitted(admitted) => {
                self.attempts.failed(admitted, now, &call).await.unwrap();
                Came::Failed
            }
        }
    }

    async fn fails(&self, name: &str, from: Option<ClientTag>, now: DateTime) -> Came {
        self.take(attempt(name, from), false, now).await
    }

    async fn succeeds(&self, name: &str, from: Option<ClientTag>, now: DateTime) -> Came {
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
async fn a_failure_counts_once_however_often_it_is_delivered() {
    let bench = Bench::start(&Settings::default()).await;
    let now = now();
    let one = attempt("ada", client(1));
    assert_eq!(bench.take(one.clone(), false, now).await, Came::Failed);
    let counted = bench.documents().await;
    assert_eq!(counted.len(), 2, "{counted:?}");
    for seconds in [0, 1, 3600] {
        assert_eq!(bench.take(one.clone(), true, later(now, seconds)).await, Came::Before);
        bench.attempts.count(&one, now, &Call::direct(None, ())).await.unwrap();
        assert_eq!(bench.documents().await, counted);
    }
    // The process ended between the two documents: the next delivery writes the other one.
    let clients = bench.servers.collection("attempts").await.unwrap();
    clients.delete_one(doc! { "_id": counts::document_of(&client(1).unwrap()) }).await.unwrap();
    assert_eq!(bench.take(one, false, later(now, 1)).await, Came::Before);
    assert_eq!(bench.documents().await, counted);
}

#[tokio::test]
async fn an_account_is_closed_to_strangers_for_a_while_and_never_to_those_it_knows() {
    let bench = Bench::start(&Settings::default()).await;
    let now = now();
    assert_eq!(bench.succeeds("ada", client(1), now).await, Came::Succeeded);
    for number in 0..10 {
        assert_eq!(bench.fails("ada", client(100 + number), later(now, 1)).await, Came::Failed);
    }
    // Whatever they say, and wherever they are.
    for from in [client(100), client(200), None] {
        assert_eq!(bench.succeeds("ada", from.clone(), later(now, 2)).await, Came::Throttled);
        assert_eq!(bench.fails("ada", from, later(now, 2)).await, Came::Throttled);
    }
    // What is refused is not counted, so that the window ends where it would have ended.
    assert_eq!(bench.fails("ada", client(300), later(now, 15 * 60 + 2)).await, Came::Failed);
    // Where she usually logs in she does, and has mistakes of her own.
    for _ in 0..10 {
        assert_eq!(bench.fails("ada", client(1), later(now, 3)).await, Came::Failed);
    }
    assert_eq!(bench.succeeds("ada", client(1), later(now, 3)).await, Came::Throttled);
    assert_eq!(bench.succeeds("ada", client(1), later(now, 15 * 60 + 4)).await, Came::Succeeded);
    // Nobody else notices.
    assert_eq!(bench.succeeds("bob", client(100), later(now, 2)).await, Came::Succeeded);
}

#[tokio::test]
async fn the_long_window_bounds_what_patience_can_try() {
    let settings = Settings {
        login_account_failures: 10,
        login_account_failures_long: 25,
        ..Settings::default()
    };
    let bench = Bench::start(&settings).await;
    let now = now();
    let mut failed = 0;
    // Twelve hours, a try every three minutes.
    for minute in (0..12 * 60).step_by(3) {
        let came = bench
            .fails("ada", client(usize::try_from(minute).unwrap()), later(now, minute * 60))
            .await;
        failed += usize::from(came == Came::Failed);
    }
    assert_eq!(failed, 25);
    assert_eq!(bench.fails("ada", client(1), later(now, DAY_S + 60)).await, Came::Failed);
}

#[tokio::test]
async fn a_client_is_bounded_over_all_accounts_and_a_success_of_its_own_does_not_help_it() {
    let settings = Settings { login_client_failures: 12, ..Settings::default() };
    let bench = Bench::start(&settings).await;
    let now = now();
    for number in 0..12 {
        assert_eq!(bench.fails(&format!("victim{number}"), client(1), now).await, Came::Failed);
        assert_eq!(bench.succeeds("mallory", client(2), now).await, Came::Succeeded);
    }
    assert_eq!(bench.succeeds("mallory", client(1), later(now, 1)).await, Came::Throttled);
    assert_eq!(bench.succeeds("victim1", client(2), later(now, 1)).await, Came::Succeeded);
    assert_eq!(
        bench.succeeds("mallory", client(1), later(now, 15 * 60 + 1)).await,
        Came::Succeeded
    );
}

#[tokio::test]
async fn a_success_forgives_the_client_its_mistakes_and_otherwise_writes_nothing() {
    let bench = Bench::start(&Settings::default()).await;
    let now = now();
    for round in 0..3 {
        for _ in 0..9 {
            assert_eq!(bench.fails("ada", client(1), later(now, round)).await, Came::Failed);
        }
        assert_eq!(bench.succeeds("ada", client(1), later(now, round)).await, Came::Succeeded);
    }
    let quiet = bench.documents().await;
    assert_eq!(bench.succeeds("ada", client(1), later(now, 60)).await, Came::Succeeded);
    assert_eq!(bench.documents().await, quiet, "nothing new, nothing written");
    assert_eq!(bench.succeeds("ada", client(1), later(now, DAY_S + 60)).await, Came::Succeeded);
    assert_ne!(bench.documents().await, quiet, "seen again after a day");
    // The failures of strangers are not hers to forgive.
    for number in 0..10 {
        bench.fails("ada", client(100 + number), later(now, DAY_S + 60)).await;
    }
    bench.succeeds("ada", client(1), later(now, DAY_S + 61)).await;
    assert_eq!(bench.fails("ada", client(200), later(now, DAY_S + 62)).await, Came::Throttled);
    // And after a month without her she is a stranger herself.
    let month = 31 * DAY_S;
    for number in 0..10 {
        bench.fails("ada", client(300 + number), later(now, month + DAY_S)).await;
    }
    assert_eq!(
        bench.succeeds("ada", client(1), later(now, month + DAY_S + 120)).await,
        Came::Throttled
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_at_once_do_not_slip_by_a_count_that_was_read_before_any_failed() {
    let bench = Arc::new(Bench::start(&Settings::default()).await);
    let now = now();
    let mut guesses = tokio::task::JoinSet::new();
    for number in 0..60 {
        let bench = bench.clone();
        // From one place, and from many.
        guesses.spawn(async move { bench.fails("ada", client(number / 30 * number), now).await });
    }
    let came = guesses.join_all().await;
    assert_eq!(came.iter().filter(|came| **came == Came::Failed).count(), 10, "{came:?}");
    assert_eq!(came.iter().filter(|came| **came == Came::Throttled).count(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_wait_behind_a_guess_that_is_given_up_go_on() {
    let settings = Settings { login_account_failures: 1, ..Settings::default() };
    let bench = Arc::new(Bench::start(&settings).await);
    let now = now();
    let call = Call::direct(None, ());
    let first = bench.attempts.admit(attempt("ada", client(1)), now, &call).await.unwrap();
    let second = {
        let bench = bench.clone();
        tokio::spawn(async move { bench.succeeds("ada", client(2), now).await })
    };
    // Somebody else is decided about meanwhile.
    assert_eq!(bench.succeeds("bob", client(3), now).await, Came::Succeeded);
    assert!(!second.is_finished());
    drop(first);
    let came = tokio::time::timeout(Duration::from_secs(60), second).await;
    assert_eq!(came.expect("nobody is left waiting").unwrap(), Came::Succeeded);
}

#[tokio::test]
async fn what_is_kept_goes_by_itself_and_holds_no_name() {
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
async fn a_limit_of_0_counts_nothing() {
    let settings =
        Settings { login_account_failures: 0, login_client_failures: 0, ..Settings::default() };
    let bench = Bench::start(&settings).await;
    for _ in 0..20 {
        assert_eq!(bench.fails("ada", client(1), now()).await, Came::Failed);
    }
    assert_eq!(bench.succeeds("ada", client(1), now()).await, Came::Succeeded);
    assert_eq!(bench.documents().await, Vec::<Document>::new());
}

#[tokio::test]
async fn failures_that_the_released_version_counted_count() {
    let bench = Bench::start(&Settings::default()).await;
    let now = now();
    let failure = |number: usize| {
        let client = client(number).unwrap();
        doc! { "action": stamp(action()), "at": now, "client": client.as_str() }
    };
    let failures: Vec<Document> = (10..19).map(failure).collect();
    let account = AccountKey::of("ada").document();
    let known = doc! { "client": client(1).unwrap().as_str(), "at": now };
    let counted = doc! { "_id": &account, "failures": failures, "known": [known], "purge_at": later(now, DAY_S) };
    let attempts = bench.servers.collection("attempts").await.unwrap();
    attempts.insert_one(counted).await.unwrap();
    assert_eq!(bench.fails("ada", client(50), now).await, Came::Failed);
    assert_eq!(bench.fails("ada", client(51), now).await, Came::Throttled);
    assert_eq!(bench.succeeds("ada", client(1), now).await, Came::Succeeded);
    // The document has the same fields still.
    let stored = attempts.find_one(doc! { "_id": account }).await.unwrap().unwrap();
    let mut keys: Vec<&String> = stored.keys().collect();
    keys.sort_unstable();
    assert_eq!(keys, ["_id", "failures", "known", "purge_at"]);
    for failure in stored.get_array("failures").unwrap() {
        let keys: Vec<&String> = failure.as_document().unwrap().keys().collect();
        assert_eq!(keys, ["action", "at", "client"]);
    }
}
