//! Accounts, logins and logouts, over HTTP.

use std::time::Duration;

use anyhow::Context as _;
use concert_tests::nats::subscribe;
use concert_tests::{EdgeWithStubArchive, Part, System, http};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery";

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_status_200_if_set_and_metrics_keep_theirs() -> anyhow::Result<()> {
    let system = System::with(&[("CONCERT_HTTP__REFUSALS", "200")]).await?;
    let logout = system.post("/auth/logout", &json!({ "session": "none" })).await?;
    assert_eq!(logout.brief(), (200, r#"{"error":"Session not found"}"#.to_owned()));
    // Errors of the edge itself keep their status.
    assert_eq!(system.post("/auth/logout", &json!({})).await?.status, 400);
    assert_eq!(system.post("/nowhere", &json!({})).await?.status, 404);
    let metrics = http::get(format!("http://{}/metrics", system.address())).await?.text().await?;
    let counted = metrics
        .lines()
        .any(|line| line.contains("/auth/logout") && line.contains("404") && !line.contains("200"));
    assert!(counted, "{metrics}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn login_and_logout_respond_as_the_rules_specify() -> anyhow::Result<()> {
    let mut system = System::start().await?;
    let user = system.account("ada", PASSWORD).await?;
    let credentials = json!({ "username": "ada", "password": PASSWORD });

    let login = system.post("/auth/login", &credentials).await?;
    let session = login.text("session")?.to_owned();
    assert_eq!(login.status, 200);
    assert_eq!(
        login.body,
        json!({ "user": user, "session": session, "message": "Login successful" })
    );
    assert_eq!(session.len(), 43);
    assert_ne!(session, system.login("ada", PASSWORD).await?, "each login has its own token");

    let wrong = system
        .post("/auth/login", &json!({ "username": "ada", "password": "wrong horse battery" }))
        .await?;
    let unknown =
        system.post("/auth/login", &json!({ "username": "bob", "password": PASSWORD })).await?;
    assert_eq!(wrong.brief(), (401, r#"{"error":"Invalid username or password."}"#.to_owned()));
    assert_eq!(unknown.brief(), wrong.brief());

    let logout = json!({ "session": session });
    let first = system.post("/auth/logout", &logout).await?;
    assert_eq!(first.brief(), (200, r#"{"message":"Logged out successfully"}"#.to_owned()));
    let second = system.post("/auth/logout", &logout).await?;
    assert_eq!(second.brief(), (404, r#"{"error":"Session not found"}"#.to_owned()));

    let taken = system.post("/auth/createAccount", &credentials).await?;
    assert_eq!(taken.brief(), (409, r#"{"error":"Username 'ada' already exists."}"#.to_owned()));
    let short = system
        .post("/auth/createAccount", &json!({ "username": "eve", "password": "short" }))
        .await?;
    assert_eq!(
        short.brief(),
        (400, r#"{"error":"Password must be at least 8 characters long."}"#.to_owned())
    );

    // One response each, and each action once, regardless of redeliveries.
    let flow = login.headers.get("concert-flow").unwrap().to_str()?.to_owned();
    let log = system.flow(&flow).await?;
    let actions: Vec<String> = log
        .iter()
        .map(|(subject, _)| subject.split('.').skip(2).take(2).collect::<Vec<_>>().join("."))
        .collect();
    assert_eq!(
        actions,
        ["Requesting.request", "Profile.authenticate", "Sessioning.create", "Requesting.respond"]
    );

    for part in [Part::Edge, Part::Profile, Part::Sessioning, Part::Router] {
        system.terminate(part).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_survive_restarts_of_all_processes_and_servers() -> anyhow::Result<()> {
    let mut system = System::with(&[("CONCERT_HTTP__DEADLINE_MS", "40000")]).await?;
    system.account("ada", PASSWORD).await?;
    let session = system.login("ada", PASSWORD).await?;
    system.servers.nats.kill().await;
    system.servers.mongo.kill().await;
    system.servers.nats.restart().await?;
    system.servers.mongo.restart().await?;
    for part in [Part::Edge, Part::Profile, Part::Sessioning, Part::Router] {
        system.kill(part).await?;
        system.start_part(part)?;
    }
    system.ready().await?;
    assert_eq!(system.post("/auth/logout", &json!({ "session": session })).await?.status, 200);
    system.login("ada", PASSWORD).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_concurrent_registrations_of_one_name_create_one_account() -> anyhow::Result<()> {
    let system = System::start().await?;
    let address = system.address();
    let mut registrations = tokio::task::JoinSet::new();
    for number in 0..50 {
        // Both spellings are the same name.
        let name = if number % 2 == 0 { "Ada" } else { "ada" };
        let body = json!({ "username": name, "password": format!("{PASSWORD} {number}") });
        registrations
            .spawn(async move { http::post(address, "/api/auth/createAccount", &body).await });
    }
    let mut statuses = Vec::new();
    while let Some(answer) = registrations.join_next().await {
        let answer = answer??;
        if answer.status != 200 {
            assert!(answer.text("error")?.ends_with("already exists."), "{answer:?}");
        }
        statuses.push(answer.status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [vec![200], vec![409; 49]].concat());
    let users = system.database("profile").await?.collection::<mongodb::bson::Document>("users");
    assert_eq!(users.count_documents(mongodb::bson::doc! {}).await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn spellings_of_a_name_share_an_account_and_look_alikes_are_refused() -> anyhow::Result<()> {
    let system = System::start().await?;
    for (first, second) in [("Νίκος", "ΝΊΚΟΣ"), ("straße", "STRASSE")] {
        system.account(first, PASSWORD).await?;
        system.login(second, PASSWORD).await?;
        let body = json!({ "username": second, "password": PASSWORD });
        assert_eq!(system.post("/auth/createAccount", &body).await?.status, 409);
    }
    system.account("admin", PASSWORD).await?;
    for (name, why) in [
        ("аdmin", "Username looks too similar to an existing one."),
        ("ad\u{200b}min", "Username must consist of letters, digits and ASCII symbols"),
    ] {
        let body = json!({ "username": name, "password": PASSWORD });
        let refused = system.post("/auth/createAccount", &body).await?;
        assert!(refused.status == 400 && refused.text("error")?.starts_with(why), "{refused:?}");
    }
    for weak in ["Password123!", "        "] {
        let body = json!({ "username": "eve", "password": weak });
        let refused = system.post("/auth/createAccount", &body).await?;
        assert_eq!(
            refused.brief(),
            (400, r#"{"error":"This password is too easy to guess."}"#.to_owned())
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_request_with_an_idempotency_key_is_one_flow() -> anyhow::Result<()> {
    let system = System::start().await?;
    let body = json!({ "username": "ada", "password": PASSWORD });
    let post = async |key: &str, body: &Value| {
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        http::post_with(
            system.address(),
            "/api/auth/createAccount",
            body.to_string().into_bytes(),
            &headers,
        )
        .await
    };
    let (first, again) = tokio::try_join!(post("one", &body), post("one", &body))?;
    assert_eq!(first.status, 200);
    assert_eq!(first.brief(), again.brief());
    assert_eq!(first.headers.get("concert-flow"), again.headers.get("concert-flow"));
    assert_eq!(
        post("one", &body).await?.brief(),
        first.brief(),
        "the response is read from the log"
    );
    assert_eq!(
        post("two", &body).await?.status,
        409,
        "another key is another request, and the name exists"
    );
    let guessed = json!({ "username": "ada", "password": "another password" });
    assert_eq!(
        post("one", &guessed).await?.status,
        409,
        "the key alone does not reveal the response"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn session_is_repeated_only_to_its_client_and_until_it_is_used() -> anyhow::Result<()> {
    let proxy = ("CONCERT_HTTP__TRUSTED_PROXIES", "127.0.0.0/8");
    let system = System::with(&[proxy]).await?;
    system.account("ada", PASSWORD).await?;
    let body = json!({ "username": "ada", "password": PASSWORD });
    let login = async |client: &str| {
        let headers = [
            ("content-type", "application/json"),
            ("idempotency-key", "once"),
            ("x-forwarded-for", client),
        ];
        http::post_with(system.address(), "/api/auth/login", body.to_string().into(), &headers)
            .await
    };
    let first = login("192.0.2.1").await?;
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(login("192.0.2.1").await?.brief(), first.brief());
    let other = login("192.0.2.2").await?;
    assert_eq!(other.status, 409, "{other:?}");
    assert_eq!(other.headers["concert-answered-by"], "edge");
    assert_eq!(other.headers["concert-flow"], first.headers["concert-flow"]);
    let session = json!({ "session": first.text("session")? });
    assert_eq!(system.post("/auth/logout", &session).await?.status, 200);
    assert_eq!(login("192.0.2.1").await?.status, 409);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn client_with_failing_requests_is_limited_and_others_are_not() -> anyhow::Result<()> {
    let system = System::with(&[
        ("CONCERT_HTTP__TRUSTED_PROXIES", "127.0.0.0/8"),
        ("CONCERT_HTTP__CLIENT_REQUESTS_PER_SECOND", "1"),
        ("CONCERT_HTTP__CLIENT_BURST", "3"),
    ])
    .await?;
    let post = async |client: &str, path: &str, body: Value| {
        let headers = [("content-type", "application/json"), ("x-forwarded-for", client)];
        http::post_with(system.address(), path, body.to_string().into(), &headers).await
    };
    let unknown = json!({ "session": "none", "id": "x".repeat(30_000) });
    let failed = post("192.0.2.1", "/api/auth/endSession", unknown.clone()).await?;
    assert_eq!(failed.status, 401, "{failed:?}");
    let limited = post("192.0.2.1", "/api/auth/endSession", unknown.clone()).await?;
    assert_eq!(limited.status, 429, "{limited:?}");
    assert!(limited.headers["retry-after"].to_str()?.parse::<u64>()? <= 4, "{limited:?}");
    assert_eq!(post("192.0.2.2", "/api/auth/endSession", unknown).await?.status, 401);
    for number in 0..10 {
        let body = json!({ "username": format!("user-{number}"), "password": PASSWORD });
        let created = post("192.0.2.3", "/api/auth/createAccount", body).await?;
        assert_eq!(created.status, 200, "{created:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_listed_actions_are_open_without_a_rule() -> anyhow::Result<()> {
    // The old names of the settings still work.
    let open = "Sessioning._getUser=used by the test;Sessioning.create=used by the test;\
                Sessioning.delete=not used";
    let system = System::with(&[
        ("CONCERT_PASSTHROUGH", open),
        ("CONCERT_PASSTHROUGH_EXCEPT", "Sessioning.delete"),
    ])
    .await?;
    let created = system.post("/Sessioning/create", &json!({ "user": "u1" })).await?;
    assert_eq!(created.status, 200, "{created:?}");
    let session = created.text("session")?.to_owned();
    assert_eq!(session.len(), 43, "the edge opens the concept's seal");
    let asked = system.post("/Sessioning/_getUser", &json!({ "session": session })).await?;
    assert_eq!(asked.brief(), (200, r#"{"rows":[{"user":"u1"}]}"#.to_owned()));
    let wrong = system.post("/Sessioning/create", &json!({ "user": 5 })).await?;
    assert_eq!(
        wrong.brief(),
        (400, r#"{"error":"`user` must be a non-empty string (a User)"}"#.to_owned())
    );
    for closed in ["/Sessioning/delete", "/Profile/authenticate", "/Profile/_getAllUsers"] {
        assert_eq!(
            system.post(closed, &json!({ "session": session })).await?.status,
            404,
            "{closed}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn passthrough_query_is_awaited_until_the_deadline() -> anyhow::Result<()> {
    let edge = EdgeWithStubArchive::start(&[
        "--set",
        "http.passthrough.Sessioning._getUser=used by the test",
    ])
    .await?;
    let nats = edge.nats().await?;
    let mut asked = subscribe(&nats, "concept.Sessioning._getUser").await?;
    let answer = async {
        let asked = asked.next().await.context("a query")?;
        // Longer than the default timeout of a NATS client.
        tokio::time::sleep(Duration::from_secs(6)).await;
        let reply = asked.reply.context("a reply subject")?;
        nats.publish(reply, r#"{"rows":[]}"#.into()).await?;
        anyhow::Ok(())
    };
    let body = json!({ "session": "nobody's" });
    let asking = http::post(edge.address(), "/api/Sessioning/_getUser", &body);
    let both = async { tokio::try_join!(asking, answer) };
    let (answered, ()) = tokio::time::timeout(Duration::from_secs(60), both).await??;
    assert_eq!(answered.brief(), (200, r#"{"rows":[]}"#.to_owned()));
    Ok(())
}
