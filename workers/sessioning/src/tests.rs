use std::fmt::Debug;

use concert_worker::store::{DateTime, Document, doc};
use concert_worker::trial::{Act, Trial, TrialError};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, deserialize_from_document};
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;

/// The released version's types of stored documents.
#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "the test only checks that they can be read")]
struct ReleasedSession {
    #[serde(rename = "_id")]
    token_hash: Binary,
    user: String,
    key: String,
    created_by: String,
    created_at: DateTime,
    idle_expires_at: DateTime,
    expires_at: DateTime,
    ended: Option<ReleasedEnd>,
    purge_at: DateTime,
}

#[derive(Debug, Deserialize)]
struct ReleasedEnd {
    by: String,
    #[expect(dead_code, reason = "the test only checks that it can be read")]
    at: DateTime,
}

#[derive(Debug, Deserialize)]
struct ReleasedSweep {
    #[serde(rename = "_id")]
    action: String,
    user: String,
    token_hashes: Vec<Binary>,
    #[expect(dead_code, reason = "the test only checks that it can be read")]
    at: DateTime,
    #[expect(dead_code, reason = "the test only checks that it can be read")]
    purge_at: DateTime,
}

fn in_minutes(minutes: i64) -> DateTime {
    DateTime::from_millis(now().timestamp_millis() + minutes * 60_000)
}

fn stored(token: &str) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: hash(&Secret::new(token.to_owned())).to_vec() }
}

/// A session as the released version stores it.
fn released(token: &str, user: &str, created_by: &str) -> Document {
    doc! {
        "_id": stored(token), "user": user, "key": "k1",
        "created_by": created_by, "created_at": in_minutes(-60),
        "idle_expires_at": in_minutes(10), "expires_at": in_minutes(100),
        "purge_at": in_minutes(5000),
    }
}

async fn all<T: Debug + serde::de::DeserializeOwned>(
    trial: &Trial,
    collection: &str,
) -> Result<Vec<T>, TrialError> {
    let collection = trial.collection(collection).await?;
    let mut found = Vec::new();
    let mut cursor = collection.find(doc! {}).await.unwrap();
    while cursor.advance().await.unwrap() {
        found.push(deserialize_from_document(cursor.deserialize_current().unwrap()).unwrap());
    }
    Ok(found)
}

async fn act(trial: &Trial, name: &str, input: Value) -> Result<Act, TrialError> {
    trial.act(name, input).await
}

const ACTION: &str = "019aa000-0000-7000-8000-000000000001";

#[tokio::test]
async fn released_sessions_are_used_listed_and_ended() -> Result<(), TrialError> {
    let trial = Trial::of(worker()).await?;
    let sessions = trial.collection("sessions").await?;
    let mut over = released("over", "ada", ACTION);
    over.insert("ended", doc! { "by": ACTION, "at": in_minutes(-1) });
    let two = [released("one", "ada", ACTION), released("two", "ada", ACTION), over];
    sessions.insert_many(two).await.unwrap();

    let user = json!([{ "user": "ada" }]);
    assert_eq!(trial.ask("_getUser", json!({ "session": "one" })).await?, user);
    assert_eq!(trial.ask("_getUser", json!({ "session": "over" })).await?, json!([]));
    let used = sessions.find_one(doc! { "_id": stored("one") }).await.unwrap().unwrap();
    let idle = *used.get_datetime("idle_expires_at").unwrap();
    assert!(idle > in_minutes(7 * 24 * 60 - 1), "{used}");
    // The id in the list of the released version.
    let id = json!([{ "id": "0a627ea9-f9cd-50b3-a694-a040116b7c18" }]);
    assert_eq!(trial.ask("_getId", json!({ "session": "one" })).await?, id);
    let listed = trial.ask("_getSessions", json!({ "user": "ada" })).await?;
    assert_eq!(listed.as_array().map(Vec::len), Some(2));

    let ended = act(&trial, "delete", json!({ "session": "one" })).await?;
    assert_eq!(ended.output, json!({}));
    assert_eq!(trial.redeliver_uncompleted(&ended).await?, json!({}));
    let again = act(&trial, "delete", json!({ "session": "one" })).await?;
    assert_eq!(again.output, json!({ "error": "Session not found" }));
    for session in all::<ReleasedSession>(&trial, "sessions").await? {
        let by = session.ended.map(|end| end.by);
        if session.token_hash == stored("one") {
            assert_eq!(by, Some(ended.flow.to_string()));
        }
    }
    Ok(())
}

#[tokio::test]
async fn released_version_reads_sessions_and_its_sweeps_are_continued() -> Result<(), TrialError> {
    let trial = Trial::of(worker()).await?;
    let created = act(&trial, "create", json!({ "user": "ada" })).await?;
    assert_eq!(trial.redeliver_uncompleted(&created).await?, created.output);
    let session = all::<ReleasedSession>(&trial, "sessions").await?.pop().unwrap();
    assert_eq!((session.user.as_str(), session.key.as_str()), ("ada", "k1"));
    assert_eq!(session.created_by, created.flow.to_string());
    assert_eq!(session.token_hash, stored(created.output["session"].as_str().unwrap()));

    let all_ended = act(&trial, "deleteAll", json!({ "user": "ada" })).await?;
    let sweep = all::<ReleasedSweep>(&trial, "sweeps").await?.pop().unwrap();
    assert_eq!((sweep.action, sweep.user), (all_ended.flow.to_string(), "ada".to_owned()));
    assert_eq!(sweep.token_hashes, [session.token_hash]);
    let by = all::<ReleasedSession>(&trial, "sessions").await?.pop().unwrap().ended;
    assert_eq!(by.map(|end| end.by), Some(all_ended.flow.to_string()));

    // A sweep that the released version stored and did not finish.
    let sessions = trial.collection("sessions").await?;
    let two = [released("old", "bob", ACTION), released("new", "bob", ACTION)];
    sessions.insert_many(two).await.unwrap();
    let act = act(&trial, "deleteAll", json!({ "user": "nobody" })).await?;
    let sweeps = trial.collection("sweeps").await?;
    let recorded = doc! {
        "_id": act.flow.to_string(), "user": "bob", "token_hashes": [stored("old")],
        "at": in_minutes(-1), "purge_at": in_minutes(1000),
    };
    let replaced = sweeps.replace_one(doc! { "_id": act.flow.to_string() }, recorded).await;
    assert_eq!(replaced.unwrap().matched_count, 1);
    assert_eq!(trial.redeliver_uncompleted(&act).await?, json!({}));
    assert_eq!(trial.ask("_getUser", json!({ "session": "old" })).await?, json!([]));
    let user = json!([{ "user": "bob" }]);
    assert_eq!(trial.ask("_getUser", json!({ "session": "new" })).await?, user);
    Ok(())
}

#[test]
fn settings_have_the_documented_defaults_and_ranges() {
    let worker = worker();
    assert_eq!(worker.check_settings(&json!({ "idle_minutes": 1 })), Ok(()));
    let settings = json!({ "idle_minutes": 0, "max_minutes": Settings::MINUTES_MAX + 1 });
    let why = worker.check_settings(&settings).unwrap_err();
    assert_eq!(
        why,
        "`idle_minutes` must be from 1 to 52704000, not 0; \
         `max_minutes` must be from 1 to 52704000, not 52704001"
    );
    let defaults = json!({ "idle_minutes": 10_080, "max_minutes": 43_200 });
    assert_eq!(json!(Settings::default()), defaults);
}

#[test]
fn spec_and_handlers_match() {
    assert_eq!(worker().check(), Ok(()));
}
