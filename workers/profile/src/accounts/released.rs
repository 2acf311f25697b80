//! Compatibility of stored accounts with the released version, in both directions.

use concert_worker::store::{Bson, DateTime, Document, doc, now};
use concert_worker::trial::{Trial, TrialError};
use mongodb::bson::deserialize_from_document;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::password::HashPool;
use crate::{Settings, worker};

/// The released version's type of an account.
#[derive(Debug, Deserialize)]
struct ReleasedUser {
    #[serde(rename = "_id")]
    id: String,
    username: String,
    name_key: Option<String>,
    password: Option<String>,
    created_by: String,
    #[expect(dead_code, reason = "the test only checks that it can be read")]
    created_at: DateTime,
    #[serde(default)]
    changes: Vec<ReleasedChange>,
    deleted_by: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ReleasedChange {
    action: String,
    #[expect(dead_code, reason = "the test only checks that it can be read")]
    at: DateTime,
}

const ACTION: &str = "019aa000-0000-7000-8000-000000000001";
const OLD: &str = "correct horse battery";
const NEW: &str = "a newer horse battery";

fn settings(memory_kib: u32) -> Settings {
    Settings {
        argon2_memory_kib: memory_kib,
        argon2_passes: 1,
        hash_threads: 1,
        ..Settings::default()
    }
}

async fn trial() -> Result<Trial, TrialError> {
    Trial::with(worker(), json!(settings(64))).await
}

/// An account as the released version stores it; its hash has another cost.
async fn released(id: &str, name: &str) -> Document {
    let pool = HashPool::start(&settings(128)).unwrap();
    let password = pool.hash(concert_worker::Secret::new(OLD.to_owned())).await.unwrap();
    doc! {
        "_id": id, "username": name, "name_key": name.to_lowercase(), "password": password,
        "created_by": ACTION, "created_at": now(), "changes": [],
    }
}

async fn stored(trial: &Trial, id: &Value) -> Result<ReleasedUser, TrialError> {
    let users = trial.collection("users").await?;
    let id = id.as_str().unwrap();
    let found = users.find_one(doc! { "_id": id }).await.unwrap().unwrap();
    Ok(deserialize_from_document(found).unwrap())
}

fn change(user: &str, from: &str, to: &str) -> Value {
    json!({ "user": user, "oldPassword": from, "newPassword": to })
}

#[tokio::test]
async fn released_account_is_used_changed_and_deleted() -> Result<(), TrialError> {
    let trial = trial().await?;
    let users = trial.collection("users").await?;
    let ada = released("u-1", "Ada").await;
    users.insert_one(ada.clone()).await.unwrap();
    let user = json!({ "user": "u-1" });
    let login = |password: &str| json!({ "username": "ada", "password": password });
    assert_eq!(trial.act("authenticate", login(OLD)).await?.output, user);
    // The hash was renewed at today's cost, without a stamp.
    let hashed = stored(&trial, &json!("u-1")).await?;
    assert!(hashed.password.unwrap().contains("m=64,t=1,p=1") && hashed.changes.is_empty());
    assert_eq!(trial.ask("_getUserByName", json!({ "username": "ADA" })).await?, json!([user]));
    let taken = trial.act("createAccount", login(NEW)).await?.output;
    assert_eq!(taken, json!({ "error": "Username 'ada' already exists." }));

    let changed = trial.act("changePassword", change("u-1", OLD, NEW)).await?;
    assert_eq!(changed.output, user);
    assert_eq!(trial.act("authenticate", login(NEW)).await?.output, user);
    let deleted = trial.act("deleteAccount", user.clone()).await?;
    assert_eq!(deleted.output, json!({}));
    for act in [&changed, &deleted] {
        assert_eq!(trial.redeliver_uncompleted(act).await?, act.output);
    }
    assert_eq!(trial.ask("_getAllUsers", json!({})).await?, json!([]));
    // The released version recognizes both as well.
    let left = stored(&trial, &json!("u-1")).await?;
    let [by_change, by_delete] = [&changed, &deleted].map(|act| act.flow.to_string());
    let changes: Vec<&str> = left.changes.iter().map(|change| change.action.as_str()).collect();
    assert_eq!(changes, [by_change.as_str(), by_delete.as_str()]);
    assert_eq!(left.deleted_by, Some(by_delete));
    assert_eq!(
        (left.id.as_str(), left.username.as_str(), left.created_by.as_str()),
        ("u-1", "", ACTION)
    );
    assert_eq!((left.name_key, left.password), (None, None));
    Ok(())
}

#[tokio::test]
async fn released_stamps_are_found_by_their_actions() -> Result<(), TrialError> {
    let trial = trial().await?;
    let users = trial.collection("users").await?;
    let changed = trial.act("changePassword", change("u-1", OLD, NEW)).await?;
    let deleted = trial.act("deleteAccount", json!({ "user": "u-2" })).await?;
    for act in [&changed, &deleted] {
        assert!(act.output.get("error").is_some(), "{act:?}");
    }
    // As if the released version had written them, and crashed before publishing.
    let mut first = released("u-1", "Ada").await;
    first.insert("changes", [doc! { "action": changed.flow.to_string(), "at": now() }].to_vec());
    let by = deleted.flow.to_string();
    let second = doc! {
        "_id": "u-2", "username": "", "created_by": ACTION, "created_at": now(), "deleted_by": &by,
        "changes": [{ "action": &by, "at": now() }], "purge_at": DateTime::MAX,
    };
    users.insert_many([first, second.clone()]).await.unwrap();
    assert_eq!(trial.redeliver_uncompleted(&changed).await?, json!({ "user": "u-1" }));
    assert_eq!(trial.redeliver_uncompleted(&deleted).await?, json!({}));
    assert_eq!(users.find_one(doc! { "_id": "u-2" }).await.unwrap(), Some(second));
    let again = trial.act("deleteAccount", json!({ "user": "u-2" })).await?.output;
    assert_eq!(again, json!({ "error": "User 'u-2' not found." }));
    let all = trial.ask("_getAllUsers", json!({})).await?;
    assert_eq!(all, json!([{ "id": "u-1", "username": "Ada" }]));
    Ok(())
}

#[tokio::test]
async fn account_is_created_once_and_readable_by_the_released_version() -> Result<(), TrialError> {
    let trial = trial().await?;
    let ada = json!({ "username": "Ada", "password": OLD });
    let created = trial.act("createAccount", ada.clone()).await?;
    assert_eq!(trial.redeliver_uncompleted(&created).await?, created.output);
    let taken = trial.act("createAccount", ada).await?.output;
    assert_eq!(taken, json!({ "error": "Username 'Ada' already exists." }));
    let user = stored(&trial, &created.output["user"]).await?;
    assert_eq!((user.username.as_str(), user.name_key.as_deref()), ("Ada", Some("ada")));
    assert_eq!(user.created_by, created.flow.to_string());
    assert!(user.changes.is_empty() && user.deleted_by.is_none());
    // A deleted account stays created for the action that created it, and its name is free.
    trial.act("deleteAccount", created.output.clone()).await?;
    assert_eq!(trial.redeliver_uncompleted(&created).await?, created.output);
    let users = trial.collection("users").await?;
    let found = users.find_one(doc! { "username": "Ada" }).await.unwrap();
    assert_eq!(found.and_then(|user| user.get("_id").cloned()), None::<Bson>);
    Ok(())
}
