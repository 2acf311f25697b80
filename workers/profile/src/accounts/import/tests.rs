use std::io::Write as _;

use concert_worker::store::{ImportOptions, OldData, doc};
use serde_json::{Value, json};

use super::super::tests::{Bench, PASSWORD, refused, settings};
use super::*;
use crate::refusal::Refusal;

async fn import(bench: &Bench, users: &[Value]) -> ImportReport {
    let mut file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    write!(file, "{}", json!({ USERS: users })).unwrap();
    let old = OldData::open(&file.path().display().to_string()).await.unwrap();
    bench.profile.import(Import::new(old, ImportOptions::default())).await.unwrap()
}

fn user(id: &str, username: &str) -> Value {
    let hash = bcrypt::hash(PASSWORD, 4).unwrap();
    json!({ "_id": id, "username": username, "passwordHash": hash })
}

#[tokio::test]
async fn equal_similar_and_unusable_names_are_rejected() {
    let bench = Bench::start().await;
    let other = bench.create("ada", PASSWORD).await.unwrap();
    let report = import(
        &bench,
        &[
            user("u-1", "ADA"),
            user("u-2", "bob"),
            user("u-3", "bоb"),
            user("u-4", " x"),
            json!({ "_id": "u-5", "username": "eve", "passwordHash": "secret" }),
            json!({ "_id": "u-6", "username": "dan" }),
        ],
    )
    .await;
    let of = ["Profile.users u-1", "Profile.users u-3", "Profile.users u-4", "Profile.users u-5"];
    assert_eq!(report.rejected.len(), 5, "{report:?}");
    for (rejected, part) in report.rejected.iter().zip(of) {
        assert!(rejected.starts_with(part) && !rejected.contains("secret"), "{rejected}");
    }
    assert!(report.rejected[0].contains(&other) && report.rejected[1].contains("u-2"));
    assert_eq!(bench.login(1, "BOB", PASSWORD).await, Ok("u-2".to_owned()));
    assert_eq!(bench.create("Bob", PASSWORD).await, refused(Refusal::NameTaken("Bob".to_owned())));
}

#[tokio::test]
async fn failed_login_costs_the_same_with_and_without_an_imported_hash() {
    let mut bench = Bench::start().await;
    import(&bench, &[user("u-1", "ada"), user("u-2", "bob")]).await;
    bench.restart(settings()).await;
    bench.create("eve", PASSWORD).await.unwrap();
    for name in ["nobody", "eve", "ada"] {
        let before = bench.profile.pool.made();
        let wrong = bench.login(1, name, "another horse battery").await;
        assert_eq!(wrong, refused(Refusal::Unrecognised));
        assert_eq!(bench.profile.pool.made() - before, 2, "{name}");
    }
    assert_eq!(bench.change(1, "u-2", PASSWORD, "a newer horse").await, Ok("u-2".to_owned()));
    let users = bench.servers.collection("users").await.unwrap();
    let found = users.find_one(doc! { "_id": "u-2" }).await.unwrap().unwrap();
    assert!(found.get_str("password").unwrap().starts_with("$argon2id$"));
}
