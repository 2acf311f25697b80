use std::collections::BTreeSet;
use std::fmt::Debug;

use concert_worker::Position;
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
    assert_eq!(session.user, "ada");
    assert_eq!(session.key, "");
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

#[tokio::test]
async fn key_of_tokens_is_stored_only_as_a_seal_until_the_log_has_lost_its_flows()
-> Result<(), TrialError> {
    let trial = Trial::of(worker()).await?;
    let created = act(&trial, "create", json!({ "user": "ada" })).await?;
    let other = act(&trial, "create", json!({ "user": "ada" })).await?;
    assert_ne!(other.output, created.output);
    let token = created.output["session"].as_str().unwrap();
    let of_release = token::released(trial.keys("session")?.current(), created.flow.root());
    assert_ne!(of_release.unwrap().expose(), token);
    let key = all::<Document>(&trial, "token_keys").await?.pop().unwrap();
    assert!(key.get_str("sealed").unwrap().starts_with("sealed:"), "{key}");
    let purge_at = *key.get_datetime("purge_at").unwrap();
    assert!((in_minutes(24 * 60)..in_minutes(26 * 60)).contains(&purge_at), "{purge_at}");
    Ok(())
}

/// The session is stored, and its completion is not.
#[tokio::test]
async fn redelivery_in_another_hour_keeps_the_token() -> Result<(), TrialError> {
    let mut trial = Trial::of(worker()).await?;
    let created = act(&trial, "create", json!({ "user": "ada" })).await?;
    // Another process uses another key.
    let keys = trial.collection("token_keys").await?;
    let mut key = keys.find_one(doc! {}).await.unwrap().unwrap();
    keys.delete_one(doc! { "_id": key.get_str("_id").unwrap() }).await.unwrap();
    key.insert("_id", "0-earlier");
    keys.insert_one(&key).await.unwrap();
    trial.restart().await?;
    assert_eq!(trial.redeliver_uncompleted(&created).await?, created.output);
    assert_eq!(all::<Document>(&trial, "token_keys").await?.len(), 2);
    assert_eq!(all::<Document>(&trial, "sessions").await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn redelivery_of_an_action_of_the_released_version_keeps_its_token() -> Result<(), TrialError>
{
    let trial = Trial::of(worker()).await?;
    // Its session is stored, and its completion is not.
    let created = act(&trial, "create", json!({ "user": "ada" })).await?;
    let token = token::released(trial.keys("session")?.current(), created.flow.root()).unwrap();
    let sessions = trial.collection("sessions").await?;
    sessions.delete_many(doc! {}).await.unwrap();
    let session = released(token.expose(), "ada", &created.flow.to_string());
    sessions.insert_one(session).await.unwrap();
    let output = trial.redeliver_uncompleted(&created).await?;
    assert_eq!(output, json!({ "session": token.expose() }));
    assert!(is_live(&trial, token.expose()).await?);
    assert_eq!(all::<Document>(&trial, "sessions").await?.len(), 1);
    Ok(())
}

#[test]
fn settings_have_the_documented_defaults_and_ranges() {
    let worker = worker();
    assert_eq!(worker.check_settings(&json!({ "idle_minutes": 1 })), Ok(()));
    let max_minutes = Settings::MINUTES_MAX + 1;
    let settings = json!({ "idle_minutes": 0, "max_minutes": max_minutes, "max_sessions": 0 });
    let why = worker.check_settings(&settings).unwrap_err();
    assert_eq!(
        why,
        "`idle_minutes` must be from 1 to 52704000, not 0; \
         `max_minutes` must be from 1 to 52704000, not 52704001; \
         `max_sessions` must be from 1 to 100000, not 0"
    );
    let defaults = json!({ "idle_minutes": 10_080, "max_minutes": 43_200, "max_sessions": 100 });
    assert_eq!(json!(Settings::default()), defaults);
}

#[test]
fn spec_and_handlers_match() {
    assert_eq!(worker().check(), Ok(()));
}

async fn create(trial: &Trial, user: &str) -> Result<String, TrialError> {
    let created = act(trial, "create", json!({ "user": user })).await?;
    Ok(created.output["session"].as_str().unwrap().to_owned())
}

async fn is_live(trial: &Trial, token: &str) -> Result<bool, TrialError> {
    Ok(trial.ask("_getUser", json!({ "session": token })).await? != json!([]))
}

#[tokio::test]
async fn session_above_the_limit_ends_the_oldest() -> Result<(), TrialError> {
    let trial = Trial::with(worker(), json!({ "max_sessions": 3 })).await?;
    let other = create(&trial, "bob").await?;
    let mut tokens = Vec::new();
    for created in 1..=5 {
        tokens.push(create(&trial, "ada").await?);
        for (number, token) in tokens.iter().enumerate() {
            let is_newest = number + 3 >= created;
            assert_eq!(is_live(&trial, token).await?, is_newest, "{number} of {created}");
        }
    }
    assert!(is_live(&trial, &other).await?);
    // Expired sessions do not count.
    let sessions = trial.collection("sessions").await?;
    let past = doc! { "$set": { "idle_expires_at": DateTime::from_millis(1) } };
    for token in &tokens[2..4] {
        sessions.update_one(doc! { "_id": stored(token) }, past.clone()).await.unwrap();
    }
    for _ in 0..2 {
        tokens.push(create(&trial, "ada").await?);
    }
    for token in &tokens[4..] {
        assert!(is_live(&trial, token).await?);
    }
    Ok(())
}

#[tokio::test]
async fn session_of_a_flow_before_the_cutoff_ends() -> Result<(), TrialError> {
    let trial = Trial::of(worker()).await?;
    let create_at = async |root| {
        let position = Position { root, cause: root + 1 };
        let created = trial.act_at(position, "create", json!({ "user": "ada" })).await?;
        is_live(&trial, created.output["session"].as_str().unwrap()).await
    };
    for _ in 0..8 {
        create(&trial, "bob").await?;
    }
    assert!(create_at(1).await?, "there is no cutoff");
    let sweep = Position { root: 2, cause: 5 };
    trial.act_at(sweep, "deleteAll", json!({ "user": "ada" })).await?;
    assert!(!create_at(4).await?);
    assert!(create_at(5).await?);
    // An earlier cause does not move the cutoff back.
    let earlier = Position { root: 1, cause: 3 };
    trial.act_at(earlier, "deleteAll", json!({ "user": "ada" })).await?;
    assert!(!create_at(4).await?);
    assert!(is_live(&trial, &create(&trial, "ada").await?).await?, "an injected action");
    // An injected sweep cuts off all flows so far.
    act(&trial, "deleteAll", json!({ "user": "ada" })).await?;
    assert!(!create_at(8).await?);
    // The cutoff of a log that was replaced is ignored, and replaced by the next one.
    let cutoffs = trial.collection("cutoffs").await?;
    let beyond = doc! { "$set": { "position": 1_000_000_i64 } };
    cutoffs.update_one(doc! { "_id": "ada" }, beyond).await.unwrap();
    assert!(create_at(8).await?);
    trial.act_at(sweep, "deleteAll", json!({ "user": "ada" })).await?;
    assert!(!create_at(4).await?);
    assert!(create_at(5).await?);
    Ok(())
}

#[tokio::test]
async fn sessions_are_listed_in_pages_and_ended_by_id() -> Result<(), TrialError> {
    const COUNT: i64 = 250;
    let trial = Trial::of(worker()).await?;
    let newest = create(&trial, "ada").await?;
    let sessions = trial.collection("sessions").await?;
    let one = sessions.find_one(doc! {}).await.unwrap().unwrap();
    let created_at = one.get_datetime("created_at").unwrap().timestamp_millis();
    // Three of them each have the same time.
    let more = (1..COUNT).map(|number| {
        let mut session = one.clone();
        session.insert("_id", stored(&format!("token {number}")));
        session.insert("created_by", format!("00000000-0000-8000-8000-{number:012}"));
        session.insert("action", format!("00000000-0000-8000-8000-{number:012}"));
        session.insert("created_at", DateTime::from_millis(created_at - 1 - number / 3));
        session
    });
    sessions.insert_many(more).await.unwrap();

    let mut listed: Vec<Value> = Vec::new();
    let (mut sizes, mut input) = (Vec::new(), json!({ "user": "ada" }));
    loop {
        let page = trial.ask("_getPage", input.clone()).await?;
        let page = page.as_array().unwrap();
        sizes.push(page.len());
        listed.extend(page.iter().cloned());
        let next = trial.ask("_getNext", input.clone()).await?;
        let Some(next) = next.pointer("/0/next") else { break };
        input = json!({ "user": "ada", "after": next });
    }
    assert_eq!(sizes, [100, 100, 50]);
    let keys: Vec<&String> = listed[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["id", "createdAt", "expiresAt", "lastUsedAt", "device"]);
    let times: Vec<&str> = listed.iter().map(|row| row["createdAt"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older));
    let ids: BTreeSet<&str> = listed.iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 250, "each once");
    assert_eq!(trial.ask("_getPage", json!({ "user": "ada", "after": "x" })).await?, json!([]));
    let newest_only = trial.ask("_getSessions", json!({ "user": "ada" })).await?;
    assert_eq!(newest_only.as_array().unwrap().len(), 100);

    // The session of a key ends before the next page is read: those of the same time are listed.
    let next = trial.ask("_getNext", json!({ "user": "ada" })).await?[0]["next"].clone();
    let last = json!({ "user": "ada", "id": listed[99]["id"] });
    assert_eq!(act(&trial, "deleteById", last).await?.output, json!({}));
    assert_eq!(listed[99]["createdAt"], listed[101]["createdAt"]);
    let page = trial.ask("_getPage", json!({ "user": "ada", "after": next })).await?;
    assert_eq!(page.as_array().unwrap()[..], listed[100..200]);

    // The oldest is found behind two pages.
    let oldest = json!({ "user": "ada", "id": listed[249]["id"] });
    let ended = act(&trial, "deleteById", oldest.clone()).await?;
    assert_eq!(ended.output, json!({}));
    assert_eq!(trial.redeliver_uncompleted(&ended).await?, json!({}));
    let again = act(&trial, "deleteById", oldest).await?;
    assert_eq!(again.output, json!({ "error": "Session not found" }));
    let of_other = json!({ "user": "bob", "id": listed[0]["id"] });
    let refused = act(&trial, "deleteById", of_other).await?;
    assert_eq!(refused.output, json!({ "error": "Session not found" }));
    assert!(is_live(&trial, &newest).await?);
    act(&trial, "deleteAll", json!({ "user": "ada" })).await?;
    assert_eq!(trial.ask("_getPage", json!({ "user": "ada" })).await?, json!([]));
    Ok(())
}
