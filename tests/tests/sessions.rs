//! The routes for users with and without a session.

#![expect(clippy::disallowed_methods, reason = "a test has the clock of the machine")]

use concert_tests::{System, http};
use mongodb::bson::{DateTime, Document, doc};
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery";
const ROUTES: [&str; 6] = [
    "/auth/whoami",
    "/auth/sessions",
    "/auth/endSession",
    "/auth/changePassword",
    "/auth/logoutEverywhere",
    "/auth/deleteAccount",
];

async fn with(system: &System, path: &str, session: &Value) -> anyhow::Result<http::Answer> {
    let new = "a newer horse battery";
    let body = json!({ "session": session, "oldPassword": PASSWORD, "newPassword": new,
        "password": PASSWORD, "id": "x",
    });
    system.post(path, &body).await
}

async fn status(system: &System, path: &str, session: &str) -> anyhow::Result<u16> {
    Ok(with(system, path, &json!(session)).await?.status)
}

async fn live(system: &System, user: &str) -> anyhow::Result<u64> {
    let sessions = system.database("sessioning").await?.collection::<Document>("sessions");
    let live = doc! { "user": user, "ended": { "$exists": false } };
    Ok(sessions.count_documents(live).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_rejects_requests_without_a_live_session() -> anyhow::Result<()> {
    let system = System::start().await?;
    system.account("ada", PASSWORD).await?;
    let ended = system.login("ada", PASSWORD).await?;
    system.post("/auth/logout", &json!({ "session": ended })).await?;
    let longest = "x".repeat(43);
    let too_long = "x".repeat(44);
    let other_flow = "sealed:seal:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for route in ROUTES {
        for bogus in ["bogus", "", &ended, &longest, "\u{0}", "{\"$ne\":null}", "sealed:k1"] {
            let answer = with(&system, route, &json!(bogus)).await?;
            let expected = (401, r#"{"error":"Session not found"}"#.to_owned());
            assert_eq!(answer.brief(), expected, "{route} {bogus:.60}");
        }
        for ill_typed in [json!(5), json!(null), json!({"$ne": null}), json!(["x"])] {
            assert_eq!(with(&system, route, &ill_typed).await?.status, 400, "{route} {ill_typed}");
        }
        // Longer than a token.
        for long in [too_long.as_str(), other_flow] {
            let answer = with(&system, route, &json!(long)).await?;
            let expected = r#"{"error":"`session` must be a string of at most 43 characters"}"#;
            assert_eq!(answer.brief(), (400, expected.to_owned()), "{route} {long}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_without_tokens_and_ended_everywhere() -> anyhow::Result<()> {
    let system = System::start().await?;
    let user = system.account("ada", PASSWORD).await?;
    system.account("bob", PASSWORD).await?;
    let bob = system.login("bob", PASSWORD).await?;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(system.login("ada", PASSWORD).await?);
    }
    let listed = with(&system, "/auth/sessions", &json!(tokens[1])).await?;
    let sessions = listed.body["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 3, "{listed:?}");
    let current: Vec<bool> = sessions.iter().map(|one| one["current"] == true).collect();
    assert_eq!(current, [false, true, false], "newest first");
    for token in &tokens {
        assert!(!listed.body.to_string().contains(token), "{listed:?}");
    }
    for id in sessions.iter().map(|one| one["id"].as_str().unwrap()) {
        assert_eq!(status(&system, "/auth/whoami", id).await?, 401, "a listed ID is not a token");
    }
    assert_eq!(status(&system, "/auth/logoutEverywhere", &tokens[0]).await?, 200);
    for token in &tokens {
        assert_eq!(status(&system, "/auth/whoami", token).await?, 401);
    }
    assert_eq!(live(&system, &user).await?, 0);
    assert_eq!(status(&system, "/auth/whoami", &bob).await?, 200, "sessions of other users stay");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn session_expires_when_idle_or_too_old() -> anyhow::Result<()> {
    const WEEK_MS: i64 = 7 * 24 * 3600 * 1000;
    let system = System::start().await?;
    let user = system.account("ada", PASSWORD).await?;
    let sessions = system.database("sessioning").await?.collection::<Document>("sessions");
    let live = doc! { "user": &user, "ended": { "$exists": false } };
    for expiry in ["idle_expires_at", "expires_at"] {
        sessions.delete_many(live.clone()).await?;
        let token = system.login("ada", PASSWORD).await?;
        // Almost expired, then used: use extends the idle timeout by a week and the lifetime by
        // nothing.
        let soon = DateTime::from_millis(DateTime::now().timestamp_millis() + 600_000);
        let set = doc! { "$set": { "idle_expires_at": soon, "expires_at": soon } };
        sessions.update_one(live.clone(), set).await?;
        assert_eq!(status(&system, "/auth/whoami", &token).await?, 200);
        let used = sessions.find_one(live.clone()).await?.unwrap_or_default();
        let put_off_ms =
            used.get_datetime("idle_expires_at")?.timestamp_millis() - soon.timestamp_millis();
        assert!(put_off_ms > WEEK_MS - 1_200_000, "{used}");
        assert_eq!(used.get_datetime("expires_at")?, &soon);
        // Expired, although no sweep has run.
        let over = doc! { "$set": { expiry: DateTime::now() } };
        sessions.update_one(live.clone(), over).await?;
        for route in ROUTES {
            assert_eq!(status(&system, route, &token).await?, 401, "{route} {expiry}");
        }
        assert_eq!(status(&system, "/auth/logout", &token).await?, 404, "{expiry}");
        assert_eq!(
            sessions.count_documents(live.clone()).await?,
            1,
            "the expired session is unchanged"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn new_password_ends_all_sessions_and_starts_a_new_one() -> anyhow::Result<()> {
    let system = System::start().await?;
    system.account("ada", PASSWORD).await?;
    let (own, other) = (system.login("ada", PASSWORD).await?, system.login("ada", PASSWORD).await?);
    let change = async |old: &str, new: &str| {
        let body = json!({ "session": own, "oldPassword": old, "newPassword": new });
        Ok::<_, anyhow::Error>(system.post("/auth/changePassword", &body).await?.brief())
    };
    let refused = |error: &str| (400, json!({ "error": error }).to_string());
    assert_eq!(change("wrong horse", "a newer horse").await?, refused("Incorrect old password."));
    assert_eq!(
        change(PASSWORD, "short").await?,
        refused("New password must be at least 8 characters long.")
    );
    assert_eq!(
        change(PASSWORD, PASSWORD).await?,
        refused("New password cannot be the same as the old password.")
    );
    assert_eq!(status(&system, "/auth/whoami", &other).await?, 200, "nothing was changed yet");
    let (status_of_change, changed) = change(PASSWORD, "a newer horse").await?;
    assert_eq!(status_of_change, 200, "{changed}");
    let changed: Value = serde_json::from_str(&changed)?;
    let fresh = changed["session"].as_str().unwrap();
    assert_eq!(status(&system, "/auth/whoami", fresh).await?, 200);
    assert_eq!(status(&system, "/auth/whoami", &own).await?, 401, "it has a new token");
    assert_eq!(status(&system, "/auth/whoami", &other).await?, 401);
    assert!(system.login("ada", PASSWORD).await.is_err());
    system.login("ada", "a newer horse").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn account_deletion_ends_all_its_sessions() -> anyhow::Result<()> {
    let system = System::start().await?;
    let user = system.account("ada", PASSWORD).await?;
    let (own, other) = (system.login("ada", PASSWORD).await?, system.login("ada", PASSWORD).await?);
    let wrong = json!({ "session": own, "password": "wrong horse battery" });
    let refused = (400, r#"{"error":"Incorrect password."}"#.to_owned());
    assert_eq!(system.post("/auth/deleteAccount", &wrong).await?.brief(), refused);
    assert_eq!(status(&system, "/auth/whoami", &own).await?, 200, "nothing was deleted");
    assert_eq!(status(&system, "/auth/deleteAccount", &own).await?, 200);
    for token in [&own, &other] {
        for route in ROUTES {
            assert_eq!(status(&system, route, token).await?, 401, "{route}");
        }
    }
    assert_eq!(live(&system, &user).await?, 0);
    assert!(system.login("ada", PASSWORD).await.is_err());
    // The name is free again.
    assert_ne!(system.account("ada", PASSWORD).await?, user);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn redelivered_logout_everywhere_keeps_sessions_created_since() -> anyhow::Result<()> {
    let system = System::start().await?;
    let user = system.account("ada", PASSWORD).await?;
    let before = system.login("ada", PASSWORD).await?;
    assert_eq!(status(&system, "/auth/logoutEverywhere", &before).await?, 200);
    let since = system.login("ada", PASSWORD).await?;
    let done = system.stream_messages("COMPLETIONS", "done.*.Sessioning.deleteAll.*").await?;
    let tokens: Vec<&str> = done[0].0.split('.').collect();
    // The state of a log that lost the completion while the queue kept the action: it is delivered
    // and executed again.
    let jetstream = async_nats::jetstream::new(system.nats().await?);
    let log = jetstream.get_stream("COMPLETIONS").await?;
    log.purge().filter(&done[0].0).await?;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Concert-Flow", tokens[1]);
    let subject = format!("action.Sessioning.deleteAll.{}", tokens[4]);
    system.publish(&subject, headers, &done[0].1["input"].to_string()).await?;
    system.idle("Sessioning").await?;
    let again = system.stream_messages("COMPLETIONS", "done.*.Sessioning.deleteAll.*").await?;
    assert_eq!(again, done, "the action ran again with the same outcome");
    assert_eq!(status(&system, "/auth/whoami", &since).await?, 200);
    assert_eq!(status(&system, "/auth/whoami", &before).await?, 401);
    assert_eq!(live(&system, &user).await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_requests_for_a_taken_name_get_409() -> anyhow::Result<()> {
    let system = System::start().await?;
    let credentials = json!({ "username": "ada", "password": PASSWORD });
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let (address, credentials) = (system.address(), credentials.clone());
        asked.spawn(
            async move { http::post(address, "/api/auth/createAccount", &credentials).await },
        );
    }
    let mut made = 0;
    while let Some(answer) = asked.join_next().await {
        let answer = answer??;
        if answer.status == 200 {
            made += 1;
        } else {
            assert_eq!(
                answer.brief(),
                (409, r#"{"error":"Username 'ada' already exists."}"#.to_owned())
            );
        }
    }
    assert_eq!(made, 1);
    let short = json!({ "username": "eve", "password": "short" });
    assert_eq!(system.post("/auth/createAccount", &short).await?.status, 400);
    Ok(())
}
