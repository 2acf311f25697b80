//! Password guessing is throttled without locking out accounts permanently.

use concert_tests::http::{self, Answer};
use concert_tests::{PARTS, Part, System};
use mongodb::bson::{Document, doc};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const PASSWORD: &str = "correct horse battery";
const WRONG: &str = "wrong horse battery";
/// The address of the account's usual client.
const HOME: &str = "203.0.113.1";
/// The default of `login_account_failures`.
const LIMIT: usize = 10;
/// The tests act as a trusted proxy.
const BEHIND_A_PROXY: (&str, &str) = ("CONCERT_HTTP__TRUSTED_PROXIES", "127.0.0.0/8");

/// An address without earlier logins.
fn stranger(number: usize) -> String {
    format!("198.51.100.{number}")
}

async fn login(
    system: &System,
    from: &str,
    username: &str,
    password: &str,
) -> anyhow::Result<Answer> {
    let body = json!({ "username": username, "password": password });
    let headers = [("content-type", "application/json"), ("x-forwarded-for", from)];
    http::post_with(system.address(), "/api/auth/login", body.to_string().into_bytes(), &headers)
        .await
}

/// Fails up to the limit, each time from another address.
async fn guess(system: &System, username: &str) -> anyhow::Result<()> {
    for number in 0..LIMIT {
        let answer = login(system, &stranger(number), username, WRONG).await?;
        let unrecognised = r#"{"error":"Invalid username or password."}"#.to_owned();
        assert_eq!(answer.brief(), (401, unrecognised), "{username} {number}");
    }
    Ok(())
}

fn assert_throttled(answer: &Answer) {
    let expected = r#"{"error":"Too many attempts have failed. Try again later."}"#.to_owned();
    assert_eq!(answer.brief(), (429, expected));
    let header = |name| answer.headers.get(name).and_then(|value| value.to_str().ok());
    assert_eq!(header("concert-answered-by"), Some("rules"));
    let wait_s = header("retry-after").and_then(|text| text.parse::<u64>().ok());
    // The failures of a test are younger than its timeouts.
    assert!(
        wait_s.is_some_and(|wait_s| wait_s <= 10 || (10 * 60..=15 * 60).contains(&wait_s)),
        "{wait_s:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_is_equal_for_all_names_and_survives_restarts() -> anyhow::Result<()> {
    let mut system =
        System::with(&[BEHIND_A_PROXY, ("CONCERT_HTTP__DEADLINE_MS", "40000")]).await?;
    for name in ["ada", "bob"] {
        system.account(name, PASSWORD).await?;
        assert_eq!(login(&system, HOME, name, PASSWORD).await?.status, 200);
    }
    for name in ["ada", "nobody"] {
        guess(&system, name).await?;
    }
    let refused = async |system: &System| {
        for name in ["ada", "Ada", "nobody"] {
            for password in [PASSWORD, WRONG] {
                assert_throttled(&login(system, &stranger(100), name, password).await?);
            }
        }
        anyhow::Ok(())
    };
    refused(&system).await?;
    // Injected requests are throttled, too.
    let nats = system.nats().await?;
    let injected = json!({ "username": "ada", "password": PASSWORD }).to_string();
    let answer = nats.request("concept.Profile.authenticate", injected.into()).await?;
    let answer: Value = serde_json::from_slice(&answer.payload)?;
    assert_eq!(answer["fault"], "throttled", "{answer}");
    // The usual client can still log in, and other accounts are not affected.
    assert_eq!(login(&system, HOME, "ada", WRONG).await?.status, 401);
    assert_eq!(login(&system, HOME, "ada", PASSWORD).await?.status, 200);
    assert_eq!(login(&system, &stranger(100), "bob", PASSWORD).await?.status, 200);

    system.kill(Part::Profile).await?;
    system.start_part(Part::Profile)?;
    system.ready().await?;
    refused(&system).await?;
    system.servers.nats.kill().await;
    system.servers.mongo.kill().await;
    system.servers.nats.restart().await?;
    system.servers.mongo.restart().await?;
    for part in PARTS {
        system.kill(part).await?;
        system.start_part(part)?;
    }
    system.ready().await?;
    refused(&system).await?;
    assert_eq!(login(&system, HOME, "ada", PASSWORD).await?.status, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn redelivered_failed_login_counts_once() -> anyhow::Result<()> {
    let system = System::with(&[BEHIND_A_PROXY]).await?;
    system.account("ada", PASSWORD).await?;
    let answer = login(&system, &stranger(0), "ada", WRONG).await?;
    assert_eq!(answer.status, 401);
    let flow = answer.headers["concert-flow"].to_str()?.to_owned();
    let filter = format!("done.{flow}.Profile.authenticate.*");
    let done = system.stream_messages("COMPLETIONS", &filter).await?;
    let id = done[0].0.rsplit('.').next().unwrap_or_default().to_owned();
    let roots = format!("done.{flow}.Requesting.request.*");
    let client = system.header_values("COMPLETIONS", &roots, "Concert-Client").await?;
    let attempts = system.database("profile").await?.collection::<Document>("attempts");
    let counted = attempts.find_one(doc! { "_id": format!("client:{}", client[0]) }).await?;
    assert!(counted.is_some(), "the worker receives the root's client tag: {client:?}");
    let jetstream = async_nats::jetstream::new(system.nats().await?);
    let log = jetstream.get_stream("COMPLETIONS").await?;
    for _ in 0..3 {
        // The state after a worker exits before it publishes its completion.
        log.purge().filter(&done[0].0).await?;
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Concert-Flow", flow.as_str());
        headers.insert("Concert-Client", client[0].as_str());
        let subject = format!("action.Profile.authenticate.{id}");
        let stored = system.publish(&subject, headers, &done[0].1["input"].to_string()).await?;
        assert!(stored.get("seq").is_some(), "{stored}");
        system.idle("Profile").await?;
        assert_eq!(system.stream_messages("COMPLETIONS", &filter).await?, done);
    }
    // The account was created from this address as well, which has a separate counter.
    let logins = doc! { "_id": { "$not": { "$regex": "^created:" } } };
    let documents = attempts.find(logins).await?;
    let documents: Vec<Document> = futures_util::TryStreamExt::try_collect(documents).await?;
    assert_eq!(documents.len(), 2, "{documents:?}");
    for document in documents {
        assert_eq!(document.get_array("failures")?.len(), 1, "{document}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_concurrent_guesses_stay_within_the_limit() -> anyhow::Result<()> {
    let system = System::with(&[BEHIND_A_PROXY]).await?;
    system.account("ada", PASSWORD).await?;
    let address = system.address();
    let mut guesses = JoinSet::new();
    for number in 0..60 {
        let body = json!({ "username": "ada", "password": format!("guess number {number}") });
        let from = stranger(number);
        guesses.spawn(async move {
            let headers =
                [("content-type", "application/json"), ("x-forwarded-for", from.as_str())];
            http::post_with(address, "/api/auth/login", body.to_string().into_bytes(), &headers)
                .await
        });
    }
    let mut statuses = Vec::new();
    while let Some(answer) = guesses.join_next().await {
        statuses.push(answer??.status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [vec![401; LIMIT], vec![429; 60 - LIMIT]].concat());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_ends_after_its_window() -> anyhow::Result<()> {
    let system = System::with(&[
        BEHIND_A_PROXY,
        ("CONCERT_WORKERS__PROFILE__SETTINGS__LOGIN_ACCOUNT_FAILURES", "1"),
        ("CONCERT_WORKERS__PROFILE__SETTINGS__LOGIN_WINDOW_SECONDS", "10"),
    ])
    .await?;
    system.account("ada", PASSWORD).await?;
    assert_eq!(login(&system, &stranger(1), "ada", WRONG).await?.status, 401);
    assert_throttled(&login(&system, &stranger(2), "ada", PASSWORD).await?);
    // Attempts during the window do not extend it.
    system
        .until("the window ends", async |system: &System| {
            let answer = login(system, &stranger(2), "ada", PASSWORD).await?;
            Ok((answer.status == 200).then_some(()))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn client_limit_spans_accounts_and_ignores_untrusted_headers() -> anyhow::Result<()> {
    // No proxy is trusted, so that all requests come from one client.
    let system =
        System::with(&[("CONCERT_WORKERS__PROFILE__SETTINGS__LOGIN_CLIENT_FAILURES", "5")]).await?;
    system.account("ada", PASSWORD).await?;
    let session = system.login("ada", PASSWORD).await?;
    for number in 0..5 {
        let answer = login(&system, &stranger(number), &format!("victim{number}"), WRONG).await?;
        assert_eq!(answer.status, 401);
    }
    assert_throttled(&login(&system, HOME, "ada", PASSWORD).await?);
    // The holder of a session has a separate counter and limit; the rule's `else` branch
    // responds.
    let new = "another battery horse";
    let change = |old: &str| json!({ "session": session, "oldPassword": old, "newPassword": new });
    for _ in 0..LIMIT {
        let answer = system.post("/auth/changePassword", &change(WRONG)).await?;
        assert_eq!(answer.brief(), (400, r#"{"error":"Incorrect old password."}"#.to_owned()));
    }
    assert_throttled(&system.post("/auth/changePassword", &change(PASSWORD)).await?);
    // No message contains the address itself.
    let tags = system
        .header_values("COMPLETIONS", "done.*.Requesting.request.*", "Concert-Client")
        .await?;
    assert!(tags.len() >= 8 && tags.iter().all(|tag| *tag == tags[0]), "{tags:?}");
    assert!(!tags[0].contains('.') && tags[0].len() == 22, "{tags:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn common_password_is_refused_with_a_reason() -> anyhow::Result<()> {
    let system = System::start().await?;
    let refused = (400, r#"{"error":"This password is too common."}"#.to_owned());
    for common in ["password1", "Football", "ada lovelace1815"] {
        let body = json!({ "username": "Ada Lovelace", "password": common });
        assert_eq!(system.post("/auth/createAccount", &body).await?.brief(), refused);
    }
    system.account("Ada Lovelace", PASSWORD).await?;
    let session = system.login("Ada Lovelace", PASSWORD).await?;
    let body = json!({ "session": session, "oldPassword": PASSWORD, "newPassword": "iloveyou" });
    assert_eq!(system.post("/auth/changePassword", &body).await?.brief(), refused);
    Ok(())
}

/// The audit events of all processes. The last line of a log may be incomplete.
fn audit_events(system: &System) -> anyhow::Result<Vec<Value>> {
    let mut events = Vec::new();
    for part in PARTS {
        for line in system.log(part)?.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let event: Value = serde_json::from_str(line)?;
            if event.get("target").is_some_and(|target| target == "audit") {
                events.push(event);
            }
        }
    }
    Ok(events)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attempt_writes_an_audit_event_without_secrets() -> anyhow::Result<()> {
    let system = System::with(&[
        BEHIND_A_PROXY,
        ("CONCERT_WORKERS__PROFILE__SETTINGS__LOGIN_ACCOUNT_FAILURES", "1"),
        ("CONCERT_TELEMETRY__LOG_FORMAT", "json"),
    ])
    .await?;
    let user = system.account("grace", PASSWORD).await?;
    let right = login(&system, HOME, "grace", PASSWORD).await?;
    let session = right.text("session")?.to_owned();
    let wrong = login(&system, &stranger(1), "grace", WRONG).await?;
    let late = login(&system, &stranger(1), "grace", WRONG).await?;
    assert_eq!((wrong.status, late.status), (401, 429));
    system.post("/auth/logout", &json!({ "session": session })).await?;

    // A worker writes its audit event after it replies to the client.
    let events = system
        .until("the logout is logged", async |system: &System| {
            let events = audit_events(system)?;
            let is_last =
                |event: &Value| event["concept"] == "Sessioning" && event["name"] == "delete";
            Ok(events.iter().any(is_last).then_some(events))
        })
        .await?;
    for part in PARTS {
        let text = system.log(part)?;
        for secret in [PASSWORD, WRONG, &session, "grace", "198.51.100"] {
            assert!(!text.contains(secret), "{part:?} logs {secret}");
        }
    }
    let of = |concept: &str, name: &str| -> Vec<&Value> {
        let found =
            events.iter().filter(|event| event["concept"] == concept && event["name"] == name);
        found.collect()
    };
    let authenticate = of("Profile", "authenticate");
    let outcomes: Vec<&Value> = authenticate.iter().map(|event| &event["outcome"]).collect();
    assert_eq!(outcomes, ["success", "refused", "throttled"]);
    for (event, answer) in authenticate.iter().zip([&right, &wrong, &late]) {
        assert_eq!(event["flow"], answer.headers["concert-flow"].to_str()?);
        assert_eq!(event["client"].as_str().map(str::len), Some(22), "{event}");
    }
    assert_eq!(authenticate[0]["user"], user.as_str());
    assert_eq!(authenticate[1]["user"], "-", "a failed login has no user");
    assert_eq!(authenticate[1]["client"], authenticate[2]["client"]);
    assert_ne!(authenticate[0]["client"], authenticate[1]["client"]);
    assert_eq!(of("Sessioning", "create")[0]["user"], user.as_str());
    assert_eq!(of("Sessioning", "delete")[0]["outcome"], "success");
    assert_eq!(of("Profile", "createAccount").len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_do_not_lock_out_the_holder_of_a_session() -> anyhow::Result<()> {
    let system = System::with(&[BEHIND_A_PROXY]).await?;
    system.account("ada", PASSWORD).await?;
    let session = system.login("ada", PASSWORD).await?;
    guess(&system, "ada").await?;
    assert_throttled(&login(&system, &stranger(100), "ada", PASSWORD).await?);
    let new = "another battery horse";
    let body = json!({ "session": session, "oldPassword": PASSWORD, "newPassword": new });
    let changed = system.post("/auth/changePassword", &body).await?;
    assert_eq!(changed.status, 200, "{changed:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn client_creates_a_limited_number_of_accounts() -> anyhow::Result<()> {
    let limit = ("CONCERT_WORKERS__PROFILE__SETTINGS__ACCOUNTS_PER_CLIENT", "3");
    let system = System::with(&[limit]).await?;
    for name in ["ada", "bob", "eve"] {
        system.account(name, PASSWORD).await?;
    }
    let body = json!({ "username": "mallory", "password": PASSWORD });
    let refused = system.post("/auth/createAccount", &body).await?;
    assert_eq!(refused.status, 429, "{refused:?}");
    let wait_s: u64 = refused.headers["retry-after"].to_str()?.parse()?;
    assert!((3000..=3600).contains(&wait_s), "{wait_s}");
    Ok(())
}
