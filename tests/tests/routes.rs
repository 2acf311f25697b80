//! Methods, path parameters, query strings and headers, over HTTP.

#[path = "routes/application.rs"]
mod application;

use anyhow::Context as _;
use concert_tests::{Answer, Part, System, http};
use serde_json::{Value, json};

use self::application::system;

const PASSWORD: &str = "correct horse battery";
const JSON: (&str, &str) = ("content-type", "application/json");

async fn send(
    system: &System,
    request: &str,
    body: &str,
    headers: &[(&str, &str)],
) -> anyhow::Result<Answer> {
    let (method, path) = request.split_once(' ').context("a method")?;
    let body = body.as_bytes().to_vec();
    http::request(method, system.address(), &format!("/api{path}"), body, headers).await
}

async fn check(
    system: &System,
    request: &str,
    body: &str,
    headers: &[(&str, &str)],
    expected: (u16, Value),
) -> anyhow::Result<()> {
    let answer = send(system, request, body, headers).await?;
    let (status, body) = expected;
    assert_eq!(answer.brief(), (status, body.to_string()), "{request} {headers:?}");
    Ok(())
}

fn error(text: &str) -> Value {
    json!({ "error": text })
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_with_methods_and_parameters_reach_their_rules() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let system = system(&dir).await?;
    let found = |value: Value| (200, json!({ "found": value }));
    for (request, expected) in [
        ("GET /articles/feed", (200, json!({ "feed": true }))),
        ("GET /articles/%66eed", (200, json!({ "feed": true }))),
        ("GET /articles/feeds", found(json!({ "slug": "feeds" }))),
        ("GET /articles/a%2Fb%20%C3%A4+", found(json!({ "slug": "a/b ä+" }))),
        ("GET /articles/%252F", found(json!({ "slug": "%2F" }))),
        ("GET /articles", found(json!({}))),
        ("GET /articles?limit=20&draft=true&order=new&unknown=1", {
            found(json!({ "limit": 20, "draft": true, "order": "new" }))
        }),
        ("GET /articles?tag[]=a&other=b", found(json!({}))),
    ] {
        check(&system, request, "", &[], expected).await?;
    }
    // GET has no body, and PUT ignores the query string.
    check(&system, "GET /articles", "{\"limit\":1}", &[JSON], found(json!({}))).await?;
    let changed = (200, json!({ "slug": "x", "title": "T" }));
    check(&system, "PUT /articles/x?title=U", "{\"title\":\"T\"}", &[JSON], changed).await?;
    // The body of a DELETE is optional, and so are its keys in the query string.
    let deleted = |why: Value| (200, json!({ "found": { "id": 7 }, "why": why }));
    let delete = "DELETE /articles/x/comments/7";
    check(&system, delete, "", &[], deleted(Value::Null)).await?;
    check(&system, delete, "{\"why\":\"old\"}", &[JSON], deleted(json!("old"))).await?;
    check(&system, "DELETE /articles/x/comments/7?why=old", "", &[], deleted(json!("old"))).await?;
    // HEAD has the headers of GET.
    let head = send(&system, "HEAD /articles/feed", "", &[]).await?;
    assert_eq!((head.status, &head.body), (200, &Value::Null));
    assert_eq!(head.headers.get("content-length").unwrap(), "13");
    // The text of the pattern is the path of the flow, and the label of the metrics.
    let flow = head.headers.get("concert-flow").unwrap().to_str()?.to_owned();
    let log = system.flow(&flow).await?;
    assert!(log[0].1.to_string().contains("\"GET /articles/feed\""), "{log:?}");
    let metrics = http::get(format!("http://{}/metrics", system.address())).await?.text().await?;
    assert!(metrics.contains("path=\"GET /articles/:slug\""), "{metrics}");
    assert!(!metrics.contains("feeds"), "{metrics}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn token_of_a_header_is_the_secret_key() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let system = system(&dir).await?;
    let user = system.account("ada", PASSWORD).await?;
    let session = system.login("ada", PASSWORD).await?;
    let (token, bearer) = (format!("Token {session}"), format!("bearer {session}"));
    let known = (200, json!({ "user": user }));
    let missing = (400, error("`session` is missing"));
    for (lines, expected) in [
        (vec![("authorization", &*token)], known.clone()),
        (vec![("authorization", &*bearer)], known),
        (vec![("authorization", "Token nobody")], (401, error("unknown token"))),
        (vec![("authorization", "Basic eDp5")], missing.clone()),
        (vec![("authorization", "Token ")], missing.clone()),
        (vec![], missing),
        (
            vec![("authorization", &*token), ("authorization", &*token)],
            (400, error("the header `authorization` is sent more than once")),
        ),
    ] {
        check(&system, "GET /user", "", &lines, expected).await?;
    }
    let body = json!({ "session": session }).to_string();
    check(&system, "POST /user/x", &body, &[JSON], (200, json!({ "user": user, "tag": "x" })))
        .await?;
    let twice = error("`session` is in two places of the request; send it once");
    let lines = [JSON, ("authorization", &*token)];
    check(&system, "POST /user/x", &body, &lines, (400, twice)).await?;
    let in_url = error("`session` is a secret and must not be in the URL");
    check(&system, &format!("GET /user?session={session}"), "", &[], (400, in_url)).await?;
    // No process logs it.
    assert!(!system.log(Part::Edge)?.contains(&session));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_are_rejected_immediately() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let system = system(&dir).await?;
    let long = "x".repeat(8192);
    let misfit = |text: &str| (400, error(text));
    let unknown = || (404, error("not found"));
    for (request, expected) in [
        ("GET /articles?limit=", misfit("`limit` must be a number")),
        ("GET /articles?limit=NaN", misfit("`limit` must be a number")),
        ("GET /articles?limit=1&limit=1", misfit("`limit` is in the query string twice")),
        ("GET /articles?limit=%00", misfit("malformed query string at `limit`")),
        ("GET /articles?limit=%ff", misfit("malformed query string at `limit`")),
        ("GET /articles?%zz=1", misfit("malformed query string at `%zz`")),
        ("GET /articles?draft=yes", misfit("`draft` must be true or false")),
        ("GET /articles?order=up", misfit("`order` must be one of \"new\", \"old\"")),
        ("DELETE /articles/x/comments/x", misfit("`id` must be a number")),
        (&format!("GET /articles/{long}"), {
            misfit("`slug` must be a string of at most 64 characters")
        }),
        (&format!("GET /articles?order={long}"), misfit("`order` must be one of \"new\", \"old\"")),
        ("GET /articles/", unknown()),
        ("GET //articles", unknown()),
        ("GET /articles//comments", unknown()),
        ("GET /articles/%00", unknown()),
        ("GET /articles/%ff", unknown()),
        ("GET /articles/%2e%2e", unknown()),
        ("GET /articles/%", unknown()),
        ("GET /nowhere", unknown()),
        ("POST /auth/log%69n", unknown()),
        ("POST /articles", (405, error("method not allowed; use GET or HEAD"))),
        ("BREW /articles/x", (405, error("method not allowed; use GET or HEAD or PUT"))),
        ("GET /auth/login", (405, error("method not allowed; use POST"))),
        // A body of no bytes is an empty object.
        ("POST /auth/login", (400, error("`password` is missing; `username` is missing"))),
    ] {
        check(&system, request, "", &[], expected).await?;
    }
    let put = send(&system, "POST /articles/x", "{}", &[JSON]).await?;
    assert_eq!((put.status, put.headers.get("allow").unwrap().to_str()?), (405, "GET, HEAD, PUT"));
    for (body, text) in [
        (r#"{"title":"T","slug":"y"}"#, "`slug` is in two places of the request; send it once"),
        (r#"{"__proto__":1}"#, "`title` is missing"),
    ] {
        check(&system, "PUT /articles/x", body, &[JSON], misfit(text)).await?;
    }
    let repeated = send(&system, "PUT /articles/x", r#"{"title":1,"title":1}"#, &[JSON]).await?;
    assert_eq!(repeated.status, 400, "{repeated:?}");
    let etag = [("if-none-match", "\"a\""), ("if-none-match", "\"b\"")];
    let text = "the header `if-none-match` is sent more than once";
    check(&system, "GET /articles", "", &etag, misfit(text)).await?;

    // Targets that clients do not send.
    for (target, status) in [
        ("http://edge/api/articles/feed", "200"),
        ("http://edge/api/articles/../feed", "404"),
        ("/api/articles/./feed", "404"),
        ("/api/articles/%2e/feed", "404"),
        ("/api\\articles", "404"),
        ("*", "404"),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nhost: edge\r\nconnection: close\r\n\r\n");
        let answer = http::raw(system.address(), request.as_bytes()).await?;
        let line = answer.lines().next().unwrap_or_default();
        assert!(line.starts_with("HTTP/1.1 ") && line.contains(status), "{target}: {answer}");
    }
    // The rules of this test did not log an error, and the edge is still ready.
    assert!(http::is_ready(system.address()).await);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn preflight_names_the_methods_of_the_path() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let system = system(&dir).await?;
    for (path, methods) in [
        ("/articles/x", "GET, HEAD, PUT"),
        ("/articles/x/comments/1", "DELETE"),
        ("/auth/login", "POST"),
    ] {
        let lines = [
            ("origin", "https://app.example"),
            ("access-control-request-method", "PUT"),
            ("access-control-request-headers", "authorization"),
        ];
        let answer = send(&system, &format!("OPTIONS {path}"), "", &lines).await?;
        let named = |name: &str| {
            let values = answer.headers.get_all(name).iter();
            values.filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(",")
        };
        assert_eq!((answer.status, &*named("access-control-allow-methods")), (200, methods));
        let headers = named("access-control-allow-headers");
        assert!(
            headers.contains("authorization") && headers.contains("if-none-match"),
            "{headers}"
        );
    }
    Ok(())
}
