//! Nested bodies, nested answers with secrets, absent and null keys, and shapes of errors, over
//! HTTP (ADR 44).

use anyhow::Context as _;
use concert_tests::{Part, System, faulty, http, nats};
use serde_json::{Value, json};

/// A concept whose query returns its own input as text; its worker is [`echo`].
const SPEC: &str = "concept Weathering\npurpose to return the input\nqueries\n    \
                    _echo (bio?: String | null, session?: Secret) : (input: String)\n";

const RULES: &str = r#"
sync RegisterNested
when
    Requesting.request (path: "/users", user: {username, password}) : (request)
then
    Profile.createAccount (username, password) : (user)
    Sessioning.create (user) : (session)
    Requesting.respond (request, user: {id: user, username, token: session}, status: 201)
else (error)
    Requesting.respond (request, errors: {username: [error]}, status: 422)

sync ShowOwner
when
    Requesting.request (path: "/user", session?) : (request)
where
    session != null
        else Requesting.respond (request, errors: {token: ["is missing"]}, status: 401)
    Sessioning._getUser (session) : (user)
        else Requesting.respond (request, errors: {token: ["is invalid"]}, status: 401)
then
    Requesting.respondWith (request, body: {user: {id: user, tokens: [session]}})

sync ShowViewer
when
    Requesting.request (path: "/profile", session?) : (request)
where
    optional Sessioning._getUser (session) : (user)
then
    Requesting.respond (request, viewer: {id: user, isGuest: user == null})

sync ShowInput
when
    Requesting.request (path: "/input", user: {bio?}) : (request)
where
    Weathering._echo (bio?) : (input)
then
    Requesting.respond (request, input)

sync StoreArticle
when
    Requesting.request (path: "/articles", article: {body, tag?}) : (request)
then
    Requesting.respond (request, article: {body, tag}, status: 201)

sync DeleteNothing
when
    Requesting.request (path: "/nothing") : (request)
then
    Requesting.respond (request, status: 204)
"#;

const PASSWORD: &str = "correct horse battery";

async fn system(settings: &[(&'static str, &str)]) -> anyhow::Result<(System, tempfile::TempDir)> {
    let dir = tempfile::tempdir()?;
    let [concepts, syncs] = faulty::rules(dir.path())?;
    std::fs::write(dir.path().join("concepts/Weathering.concept"), SPEC)?;
    std::fs::write(dir.path().join("syncs/nested.sync"), RULES)?;
    let own = [("CONCERT_RULES__CONCEPTS", &*concepts), ("CONCERT_RULES__SYNCS", &*syncs)];
    Ok((System::with(&[&own, settings].concat()).await?, dir))
}

/// The worker of Weathering.
async fn echo(system: &System) -> anyhow::Result<()> {
    let client = system.nats_as("weathering").await?;
    nats::respond(
        &client,
        "concept.Weathering._echo",
        |query| json!({ "rows": [{ "input": String::from_utf8_lossy(query) }] }),
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_bodies_and_secrets_in_nested_answers() -> anyhow::Result<()> {
    let (system, _dir) = system(&[]).await?;
    let user = json!({ "username": "ada", "password": PASSWORD, "more": 1 });
    let created = system.post("/users", &json!({ "user": user })).await?;
    assert_eq!(created.status, 201, "{created:?}");
    let token = created.body["user"]["token"].as_str().context("no token")?.to_owned();
    assert!(!token.starts_with("sealed:"), "{created:?}");
    // The log has neither the password nor the token.
    let flow = created.headers["concert-flow"].to_str()?;
    let log = format!("{:?}", system.flow(flow).await?);
    assert!(log.contains("ada") && !log.contains(PASSWORD) && !log.contains(&token), "{log}");

    let shown = system.post("/user", &json!({ "session": token })).await?;
    assert_eq!(shown.body["user"]["tokens"], json!([token]));
    let id = shown.body["user"]["id"].clone();
    for (body, status, expected) in [
        (json!({}), 401, json!({ "errors": { "token": ["is missing"] } })),
        (json!({ "session": "x" }), 401, json!({ "errors": { "token": ["is invalid"] } })),
    ] {
        let answer = system.post("/user", &body).await?;
        assert_eq!((answer.status, answer.body), (status, expected));
    }
    // One rule serves guests and users.
    let guest = json!({ "viewer": { "id": null, "isGuest": true } });
    let viewer = json!({ "viewer": { "id": id, "isGuest": false } });
    assert_eq!(system.post("/profile", &json!({})).await?.body, guest);
    assert_eq!(system.post("/profile", &json!({ "session": token })).await?.body, viewer);

    for (body, expected) in [
        (json!({ "user": { "username": 1 } }), NO_PASSWORD_AND_NUMBER),
        (json!({ "user": [] }), "`user` must be an object"),
        (json!({ "user.username": "bob" }), NOTHING),
    ] {
        let refused = system.post("/users", &body).await?;
        assert_eq!((refused.status, refused.text("error")?), (400, expected));
    }
    Ok(())
}

const NO_PASSWORD_AND_NUMBER: &str =
    "`user.password` is missing; `user.username` must be a string of at most 255 characters";
const NOTHING: &str = "`user.password` is missing; `user.username` is missing";

#[tokio::test(flavor = "multi_thread")]
async fn null_and_absent_keys_differ_and_empty_bodies_are_objects() -> anyhow::Result<()> {
    let (system, _dir) = system(&[]).await?;
    echo(&system).await?;
    for (body, expected) in [
        (json!({ "user": { "bio": "x" } }), json!({ "bio": "x" })),
        (json!({ "user": { "bio": null } }), json!({ "bio": null })),
        (json!({ "user": {} }), json!({})),
        (json!({}), json!({})),
    ] {
        let answer = system.post("/input", &body).await?;
        let input: Value = serde_json::from_str(answer.text("input")?)?;
        assert_eq!(input, expected, "{body}");
    }
    let empty = http::post_with(system.address(), "/api/profile", Vec::new(), &[]).await?;
    assert_eq!((empty.status, &empty.body["viewer"]["isGuest"]), (200, &json!(true)));
    let request = "POST /api/nothing HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = http::raw(system.address(), request.as_bytes()).await?.to_ascii_lowercase();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    assert!(head.starts_with("http/1.1 204") && body.is_empty(), "{answer}");
    assert!(!answer.contains("\ncontent-type:"), "{answer}");

    // Large values in nested keys are stored beside the log.
    let text = "x".repeat(600_000);
    let article = json!({ "article": { "more": "y", "body": text } });
    let stored = system.post("/articles", &article).await?;
    assert_eq!(stored.status, 201, "{:.300}", stored.body.to_string());
    assert!(stored.body == json!({ "article": { "body": text, "tag": null } }));
    let flow = stored.headers["concert-flow"].to_str()?;
    assert!(format!("{:?}", system.flow(flow).await?).len() < 100_000);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_the_configured_shape_and_status() -> anyhow::Result<()> {
    let settings = [("CONCERT_HTTP__ERRORS", "fields"), ("CONCERT_HTTP__MISFIT_STATUS", "422")];
    let (system, _dir) = system(&settings).await?;
    let user = json!({ "username": "ada" });
    let refused = system.post("/users", &json!({ "user": user })).await?;
    let expected = json!({ "errors": { "password": ["is missing"] } });
    assert_eq!((refused.status, refused.body), (422, expected));
    let unknown = system.post("/unknown", &json!({})).await?;
    assert_eq!(
        (unknown.status, unknown.body),
        (404, json!({ "errors": { "body": ["not found"] } }))
    );
    // The router responds to a fault, also when the edge reads the response from the log.
    let client = system.nats_as("weathering").await?;
    nats::respond(&client, "concept.Weathering._echo", |_| json!({ "rows": [] })).await?;
    let text = "The request was stopped: Weathering: _echo returned 0 rows, which its spec does \
                not allow.";
    let headers = [("content-type", "application/json"), ("idempotency-key", "one")];
    for _ in 0..2 {
        let body = b"{}".to_vec();
        let failed = http::post_with(system.address(), "/api/input", body, &headers).await?;
        assert_eq!((failed.status, failed.body), (500, json!({ "errors": { "body": [text] } })));
        assert_eq!(failed.headers["concert-answered-by"], "rules");
    }
    let raw = http::raw(system.address(), b"POST / HTTP/1.1\r\nconnection: close\r\n\r\n").await?;
    assert!(raw.contains(r#"{"errors":{"body":["#), "{raw}");

    let url = format!("http://{}/openapi.json", system.address());
    let document: Value = http::get(url).await?.json().await?;
    let error = &document["components"]["schemas"]["Error"];
    assert_eq!(error["required"], json!(["errors"]));
    let users = &document["paths"]["/users"]["post"];
    assert!(users["responses"]["422"].is_object(), "{users}");
    let schema = &users["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(schema["required"], json!(["user"]));
    let user = &schema["properties"]["user"];
    assert_eq!(user["required"], json!(["password", "username"]));
    assert_eq!(user["properties"]["password"]["format"], "password");
    let created = &users["responses"]["201"]["content"]["application/json"]["schema"];
    assert_eq!(created["properties"]["user"]["required"], json!(["id", "username", "token"]));
    assert!(!system.log(Part::Edge)?.contains("ERROR"));
    Ok(())
}
