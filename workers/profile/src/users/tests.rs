use std::time::Duration;

use concert_local_servers::Throwaway;
use mongodb::bson::{Bson, Document};

use super::*;
use crate::attempts::tests::{action, client, database, login_args};
use crate::blocklist::BlocklistArgs;
use crate::password::HashArgs;

const PASSWORD: &str = "correct horse battery";

struct Bench {
    users: Users,
    attempts: Collection<Document>,
    _servers: Throwaway,
}

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

fn asker(number: usize) -> Asker {
    Asker {
        action: action(),
        client: client(number),
    }
}

impl Bench {
    async fn start() -> Self {
        let (servers, database) = database().await;
        let hashing = HashArgs {
            argon2_memory_kib: 64,
            argon2_passes: 1,
            hash_threads: 1,
            hash_queue: 64,
        };
        let blocklist = BlocklistArgs {
            password_blocklist: Vec::new(),
            password_word: vec!["concert".to_owned()],
        };
        let users = Users::open(
            &database,
            HashPool::start(&hashing).unwrap(),
            Attempts::open(&database, &login_args()).await.unwrap(),
            Blocklist::read(&blocklist).unwrap(),
            Retention::of_log(Duration::from_secs(3600)),
        );
        Self {
            users: users.await.unwrap(),
            attempts: database.collection("attempts"),
            _servers: servers,
        }
    }

    async fn create(&self, name: &str, password: &str) -> Result<String, Refusal> {
        let made = self
            .users
            .create(action(), name, secret(password), &Lease::by_hand())
            .await;
        made.unwrap()
    }

    async fn login(&self, from: usize, name: &str, password: &str) -> Result<String, Refusal> {
        let lease = Lease::by_hand();
        let answer = self
            .users
            .authenticate(asker(from), name, secret(password), &lease)
            .await;
        answer.unwrap()
    }

    async fn change(&self, from: usize, id: &str, old: &str, new: &str) -> Result<String, Refusal> {
        let lease = Lease::by_hand();
        let answer = self
            .users
            .change_password(asker(from), id, secret(old), secret(new), &lease)
            .await;
        answer.unwrap()
    }

    /// What failed attempts left, as sizes: neither ids nor times.
    async fn counted(&self) -> Vec<(usize, usize)> {
        let mut cursor = self.attempts.find(doc! {}).await.unwrap();
        let mut found = Vec::new();
        while cursor.advance().await.unwrap() {
            let document: Document = cursor.deserialize_current().unwrap();
            let length = |key| document.get_array(key).map_or(0, Vec::len);
            assert!(matches!(document.get("_id"), Some(Bson::String(_))));
            found.push((length("failures"), length("known")));
        }
        found.sort_unstable();
        found
    }
}

#[tokio::test]
async fn a_name_that_nobody_has_costs_what_a_wrong_password_costs() {
    let bench = Bench::start().await;
    bench.create("ada", PASSWORD).await.unwrap();
    let long = "x".repeat(PASSWORD_MAX_BYTES + 1);
    for (number, (name, password)) in [
        ("ada", "wrong horse battery"),
        ("bob", PASSWORD),
        ("no\u{0}name", PASSWORD),
        ("ada", &long),
        ("bob", &long),
    ]
    .into_iter()
    .enumerate()
    {
        bench.attempts.drop().await.unwrap();
        let before = bench.users.pool.made();
        assert_eq!(bench.login(number, name, password).await, Err(Refusal::Unrecognised));
        assert_eq!(bench.users.pool.made() - before, 1, "one hash for {name:?}");
        assert_eq!(bench.counted().await, [(1, 0), (1, 0)], "the same writes for {name:?}");
    }
}

#[tokio::test]
async fn a_throttled_attempt_costs_no_hash_and_is_the_same_for_everyone() {
    let bench = Bench::start().await;
    bench.create("ada", PASSWORD).await.unwrap();
    for name in ["ada", "bob"] {
        for number in 0..10 {
            // However the name is written.
            let name = if number % 2 == 0 {
                name.to_owned()
            } else {
                name.to_uppercase()
            };
            let failed = bench.login(number, &name, "wrong horse battery").await;
            assert_eq!(failed, Err(Refusal::Unrecognised));
        }
    }
    let (hashes, counted) = (bench.users.pool.made(), bench.counted().await);
    for (name, password) in [("ada", PASSWORD), ("ada", "wrong horse battery"), ("bob", PASSWORD)] {
        assert_eq!(bench.login(99, name, password).await, Err(Refusal::Throttled));
    }
    assert_eq!(bench.users.pool.made(), hashes);
    assert_eq!(bench.counted().await, counted);
}

#[tokio::test]
async fn an_old_password_is_guessed_no_further_than_a_login() {
    let bench = Bench::start().await;
    let id = bench.create("ada", PASSWORD).await.unwrap();
    for number in 0..10 {
        let guessed = bench.change(number, &id, "wrong horse battery", "a newer horse").await;
        assert_eq!(guessed, Err(Refusal::OldPasswordWrong));
    }
    assert_eq!(
        bench.change(99, &id, PASSWORD, "a newer horse").await,
        Err(Refusal::Throttled)
    );
    assert_eq!(bench.login(99, "ada", PASSWORD).await, Err(Refusal::Throttled));
}

#[tokio::test]
async fn a_common_password_is_refused_for_a_new_account_and_for_an_old_one() {
    let bench = Bench::start().await;
    for common in ["password", "Password1", "concert2026", "margaret12"] {
        assert_eq!(
            bench.create("margaret", common).await,
            Err(Refusal::PasswordCommon),
            "{common}"
        );
    }
    let id = bench.create("margaret", PASSWORD).await.unwrap();
    assert_eq!(
        bench.change(1, &id, PASSWORD, "iloveyou").await,
        Err(Refusal::PasswordCommon)
    );
    assert_eq!(
        bench.change(1, &id, PASSWORD, "Margaret!").await,
        Err(Refusal::PasswordCommon)
    );
    // No rules of composition, and room for long ones.
    for fine in ["aaaa aaaa b", &"long ".repeat(30)] {
        assert_eq!(
            bench.create(&format!("u{}", fine.len()), fine).await.map(drop),
            Ok(()),
            "{fine}"
        );
    }
}
