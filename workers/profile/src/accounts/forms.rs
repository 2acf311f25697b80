//! Spellings of names, names that look alike, and forms of passwords.

use concert_worker::store::{Document, doc, now};

use super::tests::{Bench, PASSWORD, refused, secret, settings};
use super::*;
use crate::name::key;
use crate::settings::ConfusableNames;

/// An account as the released version stores it.
async fn released(bench: &Bench, id: &str, name: &str, password: &str) -> Document {
    let hash = bench.profile.pool.hash(secret(password)).await.unwrap();
    doc! {
        "_id": id, "username": name, "name_key": key(name), "password": hash,
        "created_by": "019aa000-0000-7000-8000-000000000001", "created_at": now(), "changes": [],
    }
}

/// A bench whose worker starts on these accounts of the released version.
async fn with_released(accounts: &[(&str, &str, &str)]) -> Bench {
    let mut bench = Bench::start().await;
    let mut stored = Vec::new();
    for (id, name, password) in accounts {
        stored.push(released(&bench, id, name, password).await);
    }
    bench.servers.collection("users").await.unwrap().insert_many(stored).await.unwrap();
    bench.restart(settings()).await;
    bench
}

#[tokio::test]
async fn spellings_of_one_name_are_one_account() {
    let bench = Bench::start().await;
    for (first, second) in [
        ("Νίκος", "ΝΊΚΟΣ"),
        ("ΣΑΣ", "σας"),
        ("STRASSE", "straße"),
        ("caf\u{e9}", "cafe\u{301}"),
        ("ＡＤＡ", "ada"),
    ] {
        let id = bench.create(first, PASSWORD).await.unwrap();
        assert_eq!(bench.login(1, second, PASSWORD).await, Ok(id), "{second}");
        let taken = bench.create(second, PASSWORD).await;
        assert_eq!(taken, refused(Refusal::NameTaken(second.to_owned())));
    }
}

#[tokio::test]
async fn concurrent_creations_of_two_spellings_make_one_account() {
    let bench = Bench::start().await;
    let names = (0..20).map(|number| if number % 2 == 0 { "STRASSE" } else { "straße" });
    let made = futures_util::future::join_all(names.map(|name| bench.create(name, PASSWORD))).await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1, "{made:?}");
    let users = bench.servers.collection("users").await.unwrap();
    assert_eq!(users.count_documents(doc! {}).await.unwrap(), 1);
}

#[tokio::test]
async fn released_accounts_keep_their_names_and_get_the_other_spellings() {
    let bench = with_released(&[
        ("u-1", "Νίκος", PASSWORD),
        ("u-2", "straße", PASSWORD),
        ("u-3", "Strasse", PASSWORD),
        ("u-4", "ad\u{200b}min", PASSWORD),
        ("u-5", "Ada Lovelace 🎉", PASSWORD),
        ("u-6", "admin", PASSWORD),
    ])
    .await;
    for (name, id) in [
        ("Νίκος", "u-1"),
        ("ΝΊΚΟΣ", "u-1"),
        ("straße", "u-2"),
        ("STRASSE", "u-3"),
        ("ad\u{200b}min", "u-4"),
        ("ada lovelace 🎉", "u-5"),
        ("ADMIN", "u-6"),
    ] {
        assert_eq!(bench.login(1, name, PASSWORD).await, Ok(id.to_owned()), "{name:?}");
    }
    for name in ["ΝΊΚΟΣ", "STRAẞE", "strasse"] {
        let taken = bench.create(name, PASSWORD).await;
        assert_eq!(taken, refused(Refusal::NameTaken(name.to_owned())));
    }
    assert_eq!(bench.create("аdmin", PASSWORD).await, refused(Refusal::NameConfusable));
    for outdated in ["ad\u{200b}min2", "\u{202e}nimda", "Ada 🎉"] {
        assert_eq!(bench.create(outdated, PASSWORD).await, refused(Refusal::NameCharacters));
    }
}

#[tokio::test]
async fn look_alikes_are_refused_reported_or_allowed() {
    let mut bench = Bench::start().await;
    let admin = bench.create("admin", PASSWORD).await.unwrap();
    let other = "another horse battery";
    assert_eq!(bench.create("аdmin", other).await, refused(Refusal::NameConfusable));
    let mut settings = settings();
    for (policy, name) in [(ConfusableNames::Report, "аdmin"), (ConfusableNames::Allow, "adміn")]
    {
        settings.confusable_names = policy;
        bench.restart(settings.clone()).await;
        let id = bench.create(name, other).await.unwrap();
        assert_eq!(bench.login(1, name, other).await, Ok(id));
        assert_eq!(bench.login(1, "admin", other).await, refused(Refusal::Unrecognised));
        assert_eq!(bench.login(1, "admin", PASSWORD).await, Ok(admin.clone()));
    }
    // The same the other way round: a name in ASCII that looks like an existing one.
    settings.confusable_names = ConfusableNames::Refuse;
    bench.restart(settings).await;
    bench.create("раураl", PASSWORD).await.unwrap();
    assert_eq!(bench.create("paypal", PASSWORD).await, refused(Refusal::NameConfusable));
    assert!(
        bench.create("adal", PASSWORD).await.is_ok()
            && bench.create("ada1", PASSWORD).await.is_ok()
    );
}

#[tokio::test]
async fn equivalent_passwords_log_in_and_released_hashes_still_do() {
    let (nfd, nfc) = ("cafe\u{301} noir at nine", "café noir at nine");
    let bench =
        with_released(&[("u-1", "ada", nfd), ("u-2", "bob", "tab\tand \u{200b} space")]).await;
    let id = bench.create("eve", nfd).await.unwrap();
    for password in [nfc, nfd] {
        assert_eq!(bench.login(1, "eve", password).await, Ok(id.clone()));
    }
    // The hash of the typed text is replaced at the first login.
    assert_eq!(bench.login(1, "ada", nfc).await, refused(Refusal::Unrecognised));
    for password in [nfd, nfc, nfd] {
        assert_eq!(bench.login(1, "ada", password).await, Ok("u-1".to_owned()));
    }
    assert_eq!(bench.login(1, "bob", "tab\tand \u{200b} space").await, Ok("u-2".to_owned()));

    assert_eq!(bench.change(1, &id, nfd, nfc).await, refused(Refusal::NewPasswordSame));
    assert_eq!(bench.change(1, &id, nfd, "a newer horse").await, Ok(id));
}

#[tokio::test]
async fn unknown_name_costs_the_hashes_of_a_wrong_password_in_every_form() {
    let bench = Bench::start().await;
    bench.create("ada", PASSWORD).await.unwrap();
    let mut hashes = Vec::new();
    for name in ["ada", "bob"] {
        let before = bench.profile.pool.made();
        let wrong = bench.login(1, name, "cafe\u{301} noir at nine").await;
        assert_eq!(wrong, refused(Refusal::Unrecognised));
        hashes.push(bench.profile.pool.made() - before);
    }
    assert_eq!(hashes, [2, 2]);
}

#[tokio::test]
async fn guessable_and_invisible_passwords_are_refused() {
    let bench = Bench::start().await;
    let id = bench.create("ada", PASSWORD).await.unwrap();
    for weak in ["aaaaaaaa", "Password123!", "        "] {
        for refusal in
            [bench.create("margaret", weak).await, bench.change(1, &id, PASSWORD, weak).await]
        {
            let expected = [Refusal::PasswordWeak, Refusal::PasswordCommon].map(refused);
            assert!(expected.contains(&refusal), "{weak:?}: {refusal:?}");
        }
    }
    let invisible = "zero\u{200b}width space";
    assert_eq!(bench.create("margaret", invisible).await, refused(Refusal::PasswordCharacters));
    assert_eq!(
        bench.create("margaret", "e\u{301}e\u{301}e\u{301}e\u{301}").await,
        refused(Refusal::PasswordShort)
    );
    for strong in ["Мой дядя самых честных правил", "🐒🤦🫠 three monkeys 🐒"]
    {
        assert!(bench.create(&format!("user{}", strong.len()), strong).await.is_ok(), "{strong}");
    }
}
