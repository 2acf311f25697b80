use concert_worker::Call;
use concert_worker::store::{Bson, Document, doc};
use concert_worker::trial;

use super::*;
use crate::attempts::tests::client;

pub(super) const PASSWORD: &str = "correct horse battery";

pub(super) struct Bench {
    pub(super) profile: Profile,
    pub(super) servers: trial::Bench,
}

pub(super) fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

/// Settings with cheap hashes.
pub(super) fn settings() -> Settings {
    Settings {
        argon2_memory_kib: 64,
        argon2_passes: 1,
        hash_threads: 1,
        hash_queue: 64,
        ..Settings::default()
    }
}

impl Bench {
    pub(super) async fn start() -> Self {
        let servers = trial::Bench::of("Profile").await.unwrap();
        Self { profile: Profile::open(servers.start(settings())).await.unwrap(), servers }
    }

    /// Replaces the worker by a new one on the same database.
    pub(super) async fn restart(&mut self, settings: Settings) {
        self.profile = Profile::open(self.servers.start(settings)).await.unwrap();
    }

    pub(super) async fn create(&self, name: &str, password: &str) -> Result<String, Stop> {
        let input = Credentials { username: name.to_owned(), password: secret(password) };
        let made = self.profile.create_account(Call::direct(None, input)).await;
        made.map(|made| made.user)
    }

    pub(super) async fn login(
        &self,
        from: usize,
        name: &str,
        password: &str,
    ) -> Result<String, Stop> {
        let input = Credentials { username: name.to_owned(), password: secret(password) };
        let answer = self.profile.authenticate(Call::direct(client(from), input)).await;
        answer.map(|recognised| recognised.user)
    }

    pub(super) async fn change(
        &self,
        from: usize,
        id: &str,
        old: &str,
        new: &str,
    ) -> Result<String, Stop> {
        let input = ChangePassword {
            user: id.to_owned(),
            old_password: secret(old),
            new_password: secret(new),
        };
        let answer = self.profile.change_password(Call::direct(client(from), input)).await;
        answer.map(|changed| changed.user)
    }

    async fn confirm(&self, from: usize, id: &str, password: &str) -> Result<String, Stop> {
        let input = Confirm { user: id.to_owned(), password: secret(password) };
        let answer = self.profile.confirm_password(Call::direct(client(from), input)).await;
        answer.map(|confirmed| confirmed.user)
    }

    async fn forget_failures(&self) {
        self.servers.collection("attempts").await.unwrap().drop().await.unwrap();
    }

    /// The failed attempts as numbers, without ids and times.
    async fn counted(&self) -> Vec<(usize, usize)> {
        let attempts = self.servers.collection("attempts").await.unwrap();
        let mut cursor = attempts.find(doc! {}).await.unwrap();
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

fn is_throttled<T>(result: &Result<T, Stop>) -> bool {
    matches!(result, Err(Stop::Throttled { .. }))
}

pub(super) fn refused<T>(refusal: Refusal) -> Result<T, Stop> {
    Err(refusal.into())
}

#[tokio::test]
async fn unknown_name_costs_the_same_as_a_wrong_password() {
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
        bench.forget_failures().await;
        let before = bench.profile.pool.made();
        assert_eq!(bench.login(number, name, password).await, refused(Refusal::Unrecognised));
        assert_eq!(bench.profile.pool.made() - before, 1, "one hash for {name:?}");
        assert_eq!(bench.counted().await, [(1, 0), (1, 0)], "the same writes for {name:?}");
    }
}

#[tokio::test]
async fn throttled_attempt_computes_no_hash_for_any_name() {
    let bench = Bench::start().await;
    bench.create("ada", PASSWORD).await.unwrap();
    for name in ["ada", "bob"] {
        for number in 0..10 {
            // In any case of the name.
            let name = if number % 2 == 0 { name.to_owned() } else { name.to_uppercase() };
            let failed = bench.login(number, &name, "wrong horse battery").await;
            assert_eq!(failed, refused(Refusal::Unrecognised));
        }
    }
    let (hashes, counted) = (bench.profile.pool.made(), bench.counted().await);
    for (name, password) in [("ada", PASSWORD), ("ada", "wrong horse battery"), ("bob", PASSWORD)] {
        assert!(is_throttled(&bench.login(99, name, password).await));
    }
    assert_eq!(bench.profile.pool.made(), hashes);
    assert_eq!(bench.counted().await, counted);
}

#[tokio::test]
async fn strangers_do_not_lock_out_the_holder_of_a_session() {
    let bench = Bench::start().await;
    let id = bench.create("ada", PASSWORD).await.unwrap();
    for number in 0..10 {
        let guessed = bench.login(number, "ada", "wrong horse battery").await;
        assert_eq!(guessed, refused(Refusal::Unrecognised));
    }
    assert!(is_throttled(&bench.login(99, "ada", PASSWORD).await));
    assert_eq!(bench.confirm(99, &id, PASSWORD).await, Ok(id.clone()));
    assert_eq!(bench.change(99, &id, PASSWORD, "a newer horse").await, Ok(id));
}

#[tokio::test]
async fn holder_of_a_session_guesses_no_more_than_a_login() {
    let bench = Bench::start().await;
    let id = bench.create("ada", PASSWORD).await.unwrap();
    for number in 0..5 {
        let guessed = bench.change(number, &id, "wrong horse battery", "a newer horse").await;
        assert_eq!(guessed, refused(Refusal::OldPasswordWrong));
        let guessed = bench.confirm(number, &id, "wrong horse battery").await;
        assert_eq!(guessed, refused(Refusal::PasswordWrong));
    }
    assert!(is_throttled(&bench.change(99, &id, PASSWORD, "a newer horse").await));
    assert!(is_throttled(&bench.confirm(99, &id, PASSWORD).await));
    assert_eq!(bench.login(99, "ada", PASSWORD).await, Ok(id), "logins are counted apart");
}

#[tokio::test]
async fn disabled_account_is_not_recognized_until_it_is_enabled() {
    let bench = Bench::start().await;
    let id = bench.create("ada", PASSWORD).await.unwrap();
    let of_user = || Call::direct(None, OfUser { user: id.clone() });
    bench.profile.disable_account(of_user()).await.unwrap();
    let before = bench.profile.pool.made();
    assert_eq!(bench.login(1, "ada", PASSWORD).await, refused(Refusal::Unrecognised));
    assert_eq!(bench.profile.pool.made() - before, 1, "the same work as for a wrong password");
    assert_eq!(bench.confirm(1, &id, PASSWORD).await, refused(Refusal::Disabled));
    let changed = bench.change(1, &id, PASSWORD, "a newer horse").await;
    assert_eq!(changed, refused(Refusal::Disabled));
    bench.profile.enable_account(of_user()).await.unwrap();
    assert_eq!(bench.login(1, "ada", PASSWORD).await, Ok(id));
    let none = Call::direct(None, OfUser { user: "none".to_owned() });
    let missing = bench.profile.disable_account(none).await;
    assert_eq!(missing, refused(Refusal::NoUser("none".to_owned())));
}

#[tokio::test]
async fn common_password_is_refused_for_new_and_existing_accounts() {
    let bench = Bench::start().await;
    for common in ["password", "Password1", "concert2026", "margaret12"] {
        assert_eq!(
            bench.create("margaret", common).await,
            refused(Refusal::PasswordCommon),
            "{common}"
        );
    }
    let id = bench.create("margaret", PASSWORD).await.unwrap();
    assert_eq!(bench.change(1, &id, PASSWORD, "iloveyou").await, refused(Refusal::PasswordCommon));
    assert_eq!(bench.change(1, &id, PASSWORD, "Margaret!").await, refused(Refusal::PasswordCommon));
    // No composition rules, and long passwords are accepted.
    let long: String = (1..60).map(|number| format!("{} horses ", number * 7919)).collect();
    for fine in ["battery staple", &long] {
        assert_eq!(
            bench.create(&format!("u{}", fine.len()), fine).await.map(drop),
            Ok(()),
            "{fine}"
        );
    }
}
