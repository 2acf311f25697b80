//! Processes killed in the middle of a login: the client gets its response, and at most one session
//! exists.

use std::time::Duration;

use concert_tests::{Answer, Part, System, http};
use futures_util::StreamExt as _;
use mongodb::bson::{Document, doc};
use serde_json::json;
use tokio::task::JoinHandle;

const PASSWORD: &str = "correct horse battery";

/// The processes to kill, each at the first message on a subject: every step of a login.
const POINTS: [(Part, &str); 9] = [
    (Part::Router, "done.*.Requesting.request.*"),
    (Part::Router, "action.Profile.authenticate.*"),
    (Part::Profile, "action.Profile.authenticate.*"),
    (Part::Profile, "done.*.Profile.authenticate.*"),
    (Part::Router, "done.*.Profile.authenticate.*"),
    (Part::Sessioning, "action.Sessioning.create.*"),
    (Part::Sessioning, "done.*.Sessioning.create.*"),
    (Part::Router, "done.*.Sessioning.create.*"),
    (Part::Router, "done.*.Requesting.respond.*"),
];

/// Sends a login, and does not wait for its response.
fn start_login(system: &System, username: &str) -> JoinHandle<anyhow::Result<Answer>> {
    let credentials = json!({ "username": username, "password": PASSWORD });
    let address = system.address();
    tokio::spawn(async move { http::post(address, "/api/auth/login", &credentials).await })
}

#[tokio::test(flavor = "multi_thread")]
async fn login_survives_a_kill_at_every_step() -> anyhow::Result<()> {
    // Leaves time for the server to redeliver what the killed process held.
    let mut system = System::with(&[("CONCERT_HTTP__DEADLINE_MS", "40000")]).await?;
    for (number, (part, subject)) in POINTS.into_iter().enumerate() {
        let username = format!("ada{number}");
        let user = system.account(&username, PASSWORD).await?;
        let mut seen = system.subscribe(subject).await?;
        let login = start_login(&system, &username);
        tokio::time::timeout(Duration::from_secs(30), seen.next()).await?;
        system.kill(part).await?;
        system.start_part(part)?;
        let answer = login.await??;
        assert_eq!(answer.status, 200, "{part:?} at {subject}: {answer:?}");
        let sessions = system.database("sessioning").await?.collection::<Document>("sessions");
        assert_eq!(
            sessions.count_documents(doc! { "user": &user }).await?,
            1,
            "{part:?} at {subject}"
        );
        let session = answer.text("session")?;
        assert_eq!(
            system.post("/auth/logout", &json!({ "session": session })).await?.status,
            200,
            "{part:?} at {subject}"
        );
        let flow = answer.headers.get("concert-flow").unwrap().to_str()?.to_owned();
        let responds = system
            .flow(&flow)
            .await?
            .iter()
            .filter(|(subject, _)| subject.contains(".Requesting.respond."))
            .count();
        assert_eq!(responds, 1, "{part:?} at {subject}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn flow_of_a_killed_edge_finishes_once() -> anyhow::Result<()> {
    let mut system = System::with(&[("CONCERT_HTTP__DEADLINE_MS", "40000")]).await?;
    let user = system.account("ada", PASSWORD).await?;
    // Without the Profile worker, the login gets no response before its edge is killed.
    system.kill(Part::Profile).await?;
    let mut seen = system.subscribe("done.*.Requesting.request.*").await?;
    let login = start_login(&system, "ada");
    tokio::time::timeout(Duration::from_secs(30), seen.next()).await?;
    system.kill(Part::Edge).await?;
    assert!(login.await?.is_err(), "the connection closes with its edge");
    for part in [Part::Profile, Part::Edge] {
        system.start_part(part)?;
    }
    system.ready().await?;
    // The flow continues without its client, once.
    system
        .until("the flow is finished", async |system: &System| {
            Ok((system.stream_messages("COMPLETIONS", "done.*.Requesting.respond.*").await?.len()
                == 2)
                .then_some(()))
        })
        .await?;
    let sessions = system.database("sessioning").await?.collection::<Document>("sessions");
    assert_eq!(sessions.count_documents(doc! { "user": &user }).await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn redelivered_invocation_takes_effect_once() -> anyhow::Result<()> {
    let system = System::start().await?;
    let user = system.account("ada", PASSWORD).await?;
    let session = system.login("ada", PASSWORD).await?;
    // Publishes every invocation so far again under its ID, as a queue that lost its deduplication
    // state would.
    let done = system.stream_messages("COMPLETIONS", "done.>").await?;
    for (subject, body) in &done {
        let tokens: Vec<&str> = subject.split('.').collect();
        if ["Requesting", "Concert"].contains(&tokens[2]) {
            continue;
        }
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Concert-Flow", tokens[1]);
        system
            .publish(
                &format!("action.{}.{}.{}", tokens[2], tokens[3], tokens[4]),
                headers,
                &body["input"].to_string(),
            )
            .await?;
    }
    for concept in ["Profile", "Sessioning"] {
        system.idle(concept).await?;
    }
    assert_eq!(system.stream_messages("COMPLETIONS", "done.>").await?, done);
    assert!(system.stream_messages("DEAD", ">").await?.is_empty());
    let sessions = system.database("sessioning").await?.collection::<Document>("sessions");
    assert_eq!(sessions.count_documents(doc! { "user": &user }).await?, 1);
    // A redelivered logout is one logout, and remains a success for its flow.
    assert_eq!(system.post("/auth/logout", &json!({ "session": session })).await?.status, 200);
    assert_eq!(system.post("/auth/logout", &json!({ "session": session })).await?.status, 404);
    Ok(())
}

/// Deadline of a request: longer than a takeover, and shorter than the routers' ack deadline.
const TAKEOVER_MS: &str = "6000";

#[tokio::test(flavor = "multi_thread")]
async fn standby_router_takes_over_what_a_killed_router_held() -> anyhow::Result<()> {
    let mut system = System::with(&[("CONCERT_HTTP__DEADLINE_MS", TAKEOVER_MS)]).await?;
    system.account("ada", PASSWORD).await?;
    system.start_one(Part::Router, 1)?;
    system.ready().await?;
    for _ in 0..3 {
        // A paused router has open fetch requests, so it holds what the server delivers to it.
        system.pause(Part::Router)?;
        let mut seen = system.subscribe("done.*.Requesting.request.*").await?;
        let login = start_login(&system, "ada");
        tokio::time::timeout(Duration::from_secs(30), seen.next()).await?;
        system.kill(Part::Router).await?;
        assert_eq!(login.await??.status, 200);
        // The other one is number 0 now.
        system.renumber(Part::Router, 1, 0)?;
        system.start_one(Part::Router, 1)?;
        system.ready().await?;
        system.routed().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn second_worker_takes_over_what_a_killed_worker_held() -> anyhow::Result<()> {
    let mut system = System::with(&[("CONCERT_HTTP__DEADLINE_MS", TAKEOVER_MS)]).await?;
    system.account("ada", PASSWORD).await?;
    for _ in 0..3 {
        // The only worker, so its open fetch request gets the action.
        system.pause(Part::Profile)?;
        let mut seen = system.subscribe("action.Profile.authenticate.*").await?;
        let login = start_login(&system, "ada");
        tokio::time::timeout(Duration::from_secs(30), seen.next()).await?;
        system.start_one(Part::Profile, 1)?;
        system.kill(Part::Profile).await?;
        assert_eq!(login.await??.status, 200);
        system.renumber(Part::Profile, 1, 0)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_of_each_process_share_work_and_one_may_stop() -> anyhow::Result<()> {
    let mut system = System::with(&[("CONCERT_HTTP__DEADLINE_MS", "40000")]).await?;
    system.account("ada", PASSWORD).await?;
    for part in [Part::Router, Part::Profile, Part::Sessioning] {
        system.start_one(part, 1)?;
    }
    system.ready().await?;
    for round in 0..20 {
        if round == 10 {
            for part in [Part::Router, Part::Profile, Part::Sessioning] {
                system.kill(part).await?;
            }
        }
        let session = system.login("ada", PASSWORD).await?;
        assert_eq!(
            system.post("/auth/logout", &json!({ "session": session })).await?.status,
            200,
            "{round}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_action_stays_refused_on_late_redelivery() -> anyhow::Result<()> {
    const ACTION: &str = "018f2f6e-7c1a-7000-8000-00000000a0da";
    let system = System::start().await?;
    system.account("ada", PASSWORD).await?;
    let session = system.login("ada", PASSWORD).await?;
    let subject = format!("action.Profile.createAccount.{ACTION}");
    let account = json!({ "username": "ada", "password": PASSWORD }).to_string();
    system.publish(&subject, async_nats::HeaderMap::new(), &account).await?;
    system.idle("Profile").await?;
    let refused = system.flow(ACTION).await?;
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0].1["output"]["error"], "Username 'ada' already exists.");
    // Now the name is free, and a paused router publishes the invocation again: the queue no longer
    // holds the first one.
    let body = json!({ "session": session, "password": PASSWORD });
    let deleted = system.post("/auth/deleteAccount", &body).await?;
    assert_eq!(deleted.status, 200, "{deleted:?}");
    system.publish(&subject, async_nats::HeaderMap::new(), &account).await?;
    system.idle("Profile").await?;
    assert_eq!(system.flow(ACTION).await?, refused);
    let users = system.database("profile").await?.collection::<Document>("users");
    assert_eq!(users.count_documents(doc! { "name_key": "ada" }).await?, 0);
    assert!(system.stream_messages("DEAD", ">").await?.is_empty());
    Ok(())
}
