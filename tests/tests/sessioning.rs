//! Sessioning: ending many sessions, listing them, and queries as a router sends them.

#![expect(clippy::disallowed_methods, reason = "a test has the clock of the machine")]

use std::collections::BTreeSet;

use async_nats::HeaderMap;
use concert_tests::{Part, System, service_error};
use mongodb::Collection;
use mongodb::bson::{Bson, DateTime, Document, doc};
use serde_json::{Value, json};
use uuid::Uuid;

const PASSWORD: &str = "correct horse battery";

/// A system whose edge exposes the creation of sessions.
async fn start() -> anyhow::Result<System> {
    System::with(&[
        ("CONCERT_HTTP__PASSTHROUGH", r#"{ "Sessioning.create" = "used by the test" }"#),
        ("CONCERT_WORKERS__SESSIONING__SETTINGS__MAX_SESSIONS", "100000"),
    ])
    .await
}

async fn create(system: &System, user: &str) -> anyhow::Result<String> {
    let made = system.post("/Sessioning/create", &json!({ "user": user })).await?;
    Ok(made.text("session")?.to_owned())
}

/// Sends a request to a concept, within a flow or without one, and returns the response, or the
/// code and text of the service error.
async fn request_in(
    system: &System,
    flow: Option<&str>,
    name: &str,
    body: &Value,
) -> anyhow::Result<Value> {
    let mut headers = HeaderMap::new();
    if let Some(flow) = flow {
        headers.insert("Concert-Flow", flow);
    }
    let nats = system.nats().await?;
    let answer = nats
        .request_with_headers(format!("concept.{name}"), headers, body.to_string().into())
        .await?;
    if let Some((code, why)) = service_error(&answer) {
        return Ok(json!([code, why]));
    }
    Ok(serde_json::from_slice(&answer.payload)?)
}

async fn request(system: &System, name: &str, body: Value) -> anyhow::Result<Value> {
    request_in(system, None, name, &body).await
}

/// Indexes of the live sessions.
async fn live(system: &System, sessions: &[&str]) -> anyhow::Result<Vec<usize>> {
    let mut live = Vec::new();
    for (place, session) in sessions.iter().enumerate() {
        let answer = request(system, "Sessioning._getUser", json!({ "session": session })).await?;
        if answer != json!({ "rows": [] }) {
            assert!(answer.pointer("/rows/0/user").is_some(), "{answer}");
            live.push(place);
        }
    }
    Ok(live)
}

async fn listed(system: &System, user: &str) -> anyhow::Result<Vec<Value>> {
    let answer = request(system, "Sessioning._getSessions", json!({ "user": user })).await?;
    let rows = answer.get("rows").and_then(Value::as_array);
    Ok(rows.cloned().unwrap_or_default())
}

/// Publishes an action under this ID, waits for its completion and returns its output. An earlier
/// completion is purged first, as if the worker had been killed after its writes and before it
/// published it.
async fn deliver(system: &System, name: &str, id: Uuid, body: &Value) -> anyhow::Result<Value> {
    let jetstream = async_nats::jetstream::new(system.nats().await?);
    let log = jetstream.get_stream("COMPLETIONS").await?;
    log.purge().filter(format!("done.{id}.>")).await?;
    system.publish(&format!("action.{name}.{id}"), HeaderMap::new(), &body.to_string()).await?;
    let done = system
        .until("the action is completed", async |system: &System| {
            Ok(system.flow(&id.to_string()).await?.pop())
        })
        .await?;
    Ok(done.1.get("output").cloned().unwrap_or_default())
}

async fn documents(system: &System) -> anyhow::Result<Collection<Document>> {
    Ok(system.database("sessioning").await?.collection("sessions"))
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_all_and_delete_others_end_the_right_sessions() -> anyhow::Result<()> {
    let system = start().await?;
    let mut sessions = Vec::new();
    for user in ["ada", "ada", "ada", "bob"] {
        sessions.push(create(&system, user).await?);
    }
    let sessions: Vec<&str> = sessions.iter().map(String::as_str).collect();
    let not_found = json!({ "error": "Session not found" });

    let keep = json!({ "user": "ada", "session": sessions[1] });
    assert_eq!(request(&system, "Sessioning.deleteOthers", keep.clone()).await?, json!({}));
    assert_eq!(live(&system, &sessions).await?, [1, 3]);
    assert_eq!(request(&system, "Sessioning.deleteOthers", keep.clone()).await?, json!({}));
    assert_eq!(live(&system, &sessions).await?, [1, 3]);
    assert_eq!(
        request(&system, "Sessioning.delete", json!({ "session": sessions[0] })).await?,
        not_found
    );

    for _ in 0..2 {
        assert_eq!(
            request(&system, "Sessioning.deleteAll", json!({ "user": "ada" })).await?,
            json!({})
        );
        assert_eq!(live(&system, &sessions).await?, [3]);
    }
    assert_eq!(
        request(&system, "Sessioning.deleteAll", json!({ "user": "nobody" })).await?,
        json!({})
    );
    // A session of another user is neither kept nor ended.
    let theirs = json!({ "user": "ada", "session": sessions[3] });
    let last = create(&system, "ada").await?;
    assert_eq!(request(&system, "Sessioning.deleteOthers", theirs).await?, json!({}));
    assert_eq!(live(&system, &[&last, sessions[3]]).await?, [1]);
    let again = create(&system, "ada").await?;
    assert_eq!(live(&system, &[&again, sessions[3]]).await?, [0, 1]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn late_redelivery_keeps_sessions_created_since() -> anyhow::Result<()> {
    let system = start().await?;
    let documents = documents(&system).await?;
    let (first, second) = (create(&system, "ada").await?, create(&system, "ada").await?);
    // The second session was created by a worker whose clock is far ahead.
    let ahead = DateTime::from_millis(DateTime::now().timestamp_millis() + 3_600_000);
    let newest = doc! { "user": "ada" };
    documents
        .find_one_and_update(newest, doc! { "$set": { "created_at": ahead } })
        .sort(doc! { "created_at": -1 })
        .await?;
    let all = (Uuid::now_v7(), json!({ "user": "ada" }));
    assert_eq!(deliver(&system, "Sessioning.deleteAll", all.0, &all.1).await?, json!({}));
    assert_eq!(live(&system, &[&first, &second]).await?, [] as [usize; 0]);

    let third = create(&system, "ada").await?;
    assert_eq!(deliver(&system, "Sessioning.deleteAll", all.0, &all.1).await?, json!({}));
    assert_eq!(live(&system, &[&first, &second, &third]).await?, [2]);

    // The state after a first delivery that was killed between two sessions: the rest ends, the new
    // session stays, and no stamp is overwritten.
    let by_all = doc! { "ended.by": all.0.to_string() };
    assert_eq!(documents.count_documents(by_all.clone()).await?, 2);
    documents.update_one(by_all.clone(), doc! { "$unset": { "ended": "" } }).await?;
    let stamped = documents.find_one(by_all.clone()).await?;
    assert_eq!(deliver(&system, "Sessioning.deleteAll", all.0, &all.1).await?, json!({}));
    assert_eq!(live(&system, &[&first, &second, &third]).await?, [2]);
    assert_eq!(documents.count_documents(by_all).await?, 2);
    let id = stamped.as_ref().and_then(|stamped| stamped.get("_id"));
    assert_eq!(documents.find_one(doc! { "_id": id }).await?, stamped);

    // The same for `deleteOthers`, also if the kept session has ended since.
    let fourth = create(&system, "ada").await?;
    let others = (Uuid::now_v7(), json!({ "user": "ada", "session": fourth }));
    assert_eq!(deliver(&system, "Sessioning.deleteOthers", others.0, &others.1).await?, json!({}));
    assert_eq!(live(&system, &[&third, &fourth]).await?, [1]);
    request(&system, "Sessioning.delete", json!({ "session": fourth })).await?;
    let fifth = create(&system, "ada").await?;
    assert_eq!(deliver(&system, "Sessioning.deleteOthers", others.0, &others.1).await?, json!({}));
    assert_eq!(live(&system, &[&third, &fourth, &fifth]).await?, [2]);

    // A user without sessions has nothing to end, at any delivery.
    let none = (Uuid::now_v7(), json!({ "user": "eve" }));
    assert_eq!(deliver(&system, "Sessioning.deleteAll", none.0, &none.1).await?, json!({}));
    let sixth = create(&system, "eve").await?;
    assert_eq!(deliver(&system, "Sessioning.deleteAll", none.0, &none.1).await?, json!({}));
    assert_eq!(live(&system, &[&sixth]).await?, [0]);

    assert!(system.stream_messages("DEAD", ">").await?.is_empty());
    let endings = system.database("sessioning").await?.collection::<Document>("sweeps");
    assert_eq!(endings.count_documents(doc! { "purge_at": { "$gt": DateTime::now() } }).await?, 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_worker_finishes_ending_sessions_after_restart() -> anyhow::Result<()> {
    const MANY: u128 = 20_000;
    let mut system = start().await?;
    create(&system, "ada").await?;
    let documents = documents(&system).await?;
    let one = documents.find_one(doc! {}).await?.unwrap();
    let more = (1..MANY).map(|number| {
        let mut session = one.clone();
        let hash = mongodb::bson::Binary {
            subtype: mongodb::bson::spec::BinarySubtype::Generic,
            bytes: number.to_be_bytes().to_vec(),
        };
        session.insert("_id", hash);
        // Its value is unique.
        session.remove("action");
        session
    });
    documents.insert_many(more).await?;
    let all = Uuid::now_v7();
    system
        .publish(
            &format!("action.Sessioning.deleteAll.{all}"),
            HeaderMap::new(),
            r#"{"user":"ada"}"#,
        )
        .await?;
    let endings = system.database("sessioning").await?.collection::<Document>("sweeps");
    system
        .until("the first delivery has begun", async |_: &System| {
            Ok((endings.count_documents(doc! {}).await? == 1).then_some(()))
        })
        .await?;
    system.kill(Part::Sessioning).await?;
    system.start_part(Part::Sessioning)?;
    system.ready().await?;
    let done = system
        .until("the action is completed", async |system: &System| {
            Ok(system.flow(&all.to_string()).await?.pop())
        })
        .await?;
    assert_eq!(done.1["output"], json!({}));
    let by_all = doc! { "ended.by": all.to_string() };
    assert_eq!(u128::from(documents.count_documents(by_all).await?), MANY);
    let since = create(&system, "ada").await?;
    assert_eq!(live(&system, &[&since]).await?, [0]);
    assert_eq!(listed(&system, "ada").await?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn session_list_shows_live_sessions_without_secrets() -> anyhow::Result<()> {
    let system = start().await?;
    let documents = documents(&system).await?;
    assert_eq!(listed(&system, "ada").await?, [] as [Value; 0]);
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(create(&system, "ada").await?);
    }
    create(&system, "bob").await?;
    let rows = listed(&system, "ada").await?;
    assert_eq!(rows.len(), 4);
    let ids: BTreeSet<&str> = rows.iter().filter_map(|row| row["id"].as_str()).collect();
    assert_eq!(ids.len(), 4);
    for row in &rows {
        let keys: Vec<&String> = row.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["id", "createdAt", "expiresAt"]);
        assert!(row["createdAt"].as_str() < row["expiresAt"].as_str(), "{row}");
    }
    let made: Vec<&str> = rows.iter().filter_map(|row| row["createdAt"].as_str()).collect();
    assert!(made.is_sorted_by(|newer, older| newer >= older), "{made:?}");

    // Neither the token, nor its hash, nor the creating action.
    let shown = json!(rows).to_string();
    let mut stored = documents.find(doc! { "user": "ada" }).await?;
    while stored.advance().await? {
        let session = stored.deserialize_current()?;
        let Some(Bson::Binary(hash)) = session.get("_id") else {
            anyhow::bail!("{session}");
        };
        let hex: String = hash.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        for kept in [&hex[..16], session.get_str("created_by")?] {
            assert!(!shown.contains(kept), "{shown}");
        }
    }
    for session in &sessions {
        assert!(!shown.contains(session.as_str()), "{shown}");
    }
    // An ID does not work as a session.
    assert_eq!(live(&system, &ids.into_iter().collect::<Vec<_>>()).await?, [] as [usize; 0]);

    // The list does not change when a session is used, and loses ended and expired sessions.
    assert_eq!(live(&system, &[&sessions[0]]).await?, [0]);
    assert_eq!(listed(&system, "ada").await?, rows);
    request(&system, "Sessioning.delete", json!({ "session": sessions[3] })).await?;
    assert_eq!(listed(&system, "ada").await?, rows[1..]);
    for (left, expiry, order) in [(2, "idle_expires_at", 1), (1, "expires_at", -1)] {
        let of_ada = doc! { "user": "ada", "ended": { "$exists": false } };
        documents
            .find_one_and_update(of_ada, doc! { "$set": { expiry: DateTime::now() } })
            .sort(doc! { "created_at": order })
            .await?;
        assert_eq!(listed(&system, "ada").await?.len(), left, "{expiry}");
    }
    request(&system, "Sessioning.deleteAll", json!({ "user": "ada" })).await?;
    assert_eq!(listed(&system, "ada").await?, [] as [Value; 0]);
    assert_eq!(listed(&system, "bob").await?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_concurrent_deletions_leave_only_kept_sessions() -> anyhow::Result<()> {
    let system = start().await?;
    let together = async |user: &str, count: usize| -> anyhow::Result<Vec<String>> {
        futures_util::future::try_join_all((0..count).map(|_| create(&system, user))).await
    };
    let sessions = together("ada", 50).await?;
    assert_eq!(listed(&system, "ada").await?.len(), 50);
    // Each deletion keeps its own session; the first to be executed leaves at most that one.
    let kept = futures_util::future::try_join_all(sessions.iter().map(|session| {
        let input = json!({ "user": "ada", "session": session });
        request(&system, "Sessioning.deleteOthers", input)
    }))
    .await?;
    assert!(kept.contains(&json!({})), "{kept:?}");
    assert!(listed(&system, "ada").await?.len() <= 1);

    // Sessions created during the deletions may end or stay; earlier ones end.
    let before = together("ada", 5).await?;
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    let end = futures_util::future::try_join_all((0..25).map(|_| {
        let input = json!({ "user": "ada" });
        request(&system, "Sessioning.deleteAll", input)
    }));
    let (created, ended) = futures_util::future::try_join(together("ada", 25), end).await?;
    assert_eq!((created.len(), ended), (25, vec![json!({}); 25]));
    assert_eq!(live(&system, &before).await?, [] as [usize; 0]);
    let after = create(&system, "ada").await?;
    request(&system, "Sessioning.deleteOthers", json!({ "user": "ada", "session": after })).await?;
    assert_eq!(listed(&system, "ada").await?.len(), 1);
    assert_eq!(live(&system, &[&after]).await?, [0]);
    assert!(system.stream_messages("DEAD", ">").await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn query_accepts_only_its_flows_seals_and_finds_no_session_otherwise() -> anyhow::Result<()> {
    let system = System::start().await?;
    let user = system.account("ada", PASSWORD).await?;
    let session = system.login("ada", PASSWORD).await?;
    let done =
        system.stream_messages("COMPLETIONS", "done.*.Sessioning.create.*").await?.pop().unwrap();
    let flow = done.0.split('.').nth(1).unwrap();
    let sealed = done.1["output"]["session"].as_str().unwrap();
    let other = Uuid::now_v7().to_string();
    let long = "x".repeat(500_000);
    let found = json!({ "rows": [{ "user": user }] });
    let nobody = json!({ "rows": [] });
    let elsewhere = json!(["400", "sealed for another flow, or altered"]);
    for (flow, session, expected) in [
        (Some(flow), sealed, &found),
        (Some(flow), &session, &found),
        (None, &session, &found),
        (Some(&other), sealed, &elsewhere),
        (None, sealed, &elsewhere),
        (Some(flow), "sealed:k1", &json!(["400", "not a sealed value"])),
        (Some(flow), "", &nobody),
        (Some(flow), "\0", &nobody),
        (Some(flow), "bogus", &nobody),
        (Some(flow), &long, &json!(["400", "`session` must be a string of at most 43 characters"])),
        (Some("5"), &session, &json!(["400", "the header Concert-Flow is not a UUID"])),
    ] {
        let input = json!({ "session": session });
        let answer = request_in(&system, flow, "Sessioning._getUser", &input).await?;
        assert_eq!(answer, *expected, "{flow:?} {session:.20}");
    }
    for (input, why) in [
        (json!({ "session": 5 }), "`session` must be a string of at most 43 characters"),
        (json!({ "session": session, "a\r\nb": 1 }), "`a  b` is not a parameter"),
        (json!({ "session": session, "user": "x" }), "`user` is not a parameter"),
    ] {
        assert_eq!(request(&system, "Sessioning._getUser", input).await?, json!(["400", why]));
    }
    // An unknown session finds no user; other types and longer strings are rejected.
    for (session, status) in
        [(json!(""), 404), (json!(sealed), 400), (json!(5), 400), (json!(long), 413)]
    {
        let answer = system.post("/auth/logout", &json!({ "session": session })).await?;
        assert_eq!(answer.status, status, "{:.40}", session.to_string());
    }
    assert_eq!(live(&system, &[&session]).await?, [0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn account_changes_once_per_action_and_names_match_normalised() -> anyhow::Result<()> {
    let system = System::start().await?;
    let user = system.account("Ada", PASSWORD).await?;
    let who = async |name: &str| {
        request(&system, "Profile._getUserByName", json!({ "username": name })).await
    };
    for name in ["Ada", "ada", "ＡＤＡ"] {
        assert_eq!(who(name).await?, json!({ "rows": [{ "user": user }] }), "{name}");
    }
    for name in ["", "bob", " Ada", "a\u{0}", "$ne", &"x".repeat(255)] {
        assert_eq!(who(name).await?, json!({ "rows": [] }), "{name:.20}");
    }

    // A redelivered change does not restore the old password.
    let change =
        |old: &str, new: &str| json!({ "user": user, "oldPassword": old, "newPassword": new });
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    let done = json!({ "user": user });
    let to_second = change(PASSWORD, "a second password");
    assert_eq!(deliver(&system, "Profile.changePassword", first, &to_second).await?, done);
    let to_third = change("a second password", "a third password");
    assert_eq!(deliver(&system, "Profile.changePassword", second, &to_third).await?, done);
    assert_eq!(deliver(&system, "Profile.changePassword", first, &to_second).await?, done);
    system.login("ada", "a third password").await?;

    // A redelivered deletion succeeds again, and does not touch a new account with the name.
    let delete = (Uuid::now_v7(), json!({ "user": user }));
    assert_eq!(deliver(&system, "Profile.deleteAccount", delete.0, &delete.1).await?, json!({}));
    assert_eq!(who("ada").await?, json!({ "rows": [] }));
    let next = system.account("ada", PASSWORD).await?;
    assert_eq!(deliver(&system, "Profile.deleteAccount", delete.0, &delete.1).await?, json!({}));
    assert_eq!(who("ada").await?, json!({ "rows": [{ "user": next }] }));
    assert_eq!(
        deliver(&system, "Profile.changePassword", second, &to_third).await?,
        done,
        "a change before the deletion keeps its outcome"
    );
    let users = system.database("profile").await?.collection::<Document>("users");
    let gone = users.find_one(doc! { "_id": &user }).await?.unwrap();
    assert!(!gone.to_string().contains("Ada") && !gone.contains_key("password"), "{gone}");
    assert_eq!(
        request(&system, "Profile.changePassword", change(PASSWORD, "a fourth password")).await?,
        json!({ "error": format!("User '{user}' not found.") })
    );
    Ok(())
}
