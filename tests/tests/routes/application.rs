//! The application of the tests of routes: the project with rules that have methods, parameters and
//! headers.

use concert_tests::{System, faulty, nats};
use serde_json::{Value, json};

/// A concept whose query returns its input. The test is its worker.
const SPEC: &str = r#"concept Catalog
purpose to find articles
queries
    _find (slug?: String(64), limit?: Number, draft?: Boolean, order?: "new" | "old", id?: Number, etag?: String) : (found: Any)?
"#;

const RULES: &str = r#"
header "Authorization: Token" as session
header "Authorization: Bearer" as session

sync ShowFeed
when
    Requesting.request (path: "GET /articles/feed") : (request)
then
    Requesting.respond (request, feed: true)

sync ShowArticle
when
    Requesting.request (path: "GET /articles/:slug", slug) : (request)
where
    Catalog._find (slug) : (found)
        else Requesting.respond (request, status: 404)
then
    Requesting.respond (request, found)

sync ListArticles
when
    Requesting.request (path: "GET /articles", limit?, draft?, order?, ifNoneMatch?) : (request)
where
    Catalog._find (limit?, draft?, order?, etag?: ifNoneMatch) : (found)
        else Requesting.respond (request, status: 404)
then
    Requesting.respond (request, found)

sync ChangeArticle
when
    Requesting.request (path: "PUT /articles/:slug", slug, title) : (request)
then
    Requesting.respond (request, slug, title)

sync DeleteComment
when
    Requesting.request (path: "DELETE /articles/:slug/comments/:id", id, why?) : (request)
where
    Catalog._find (id) : (found)
        else Requesting.respond (request, status: 404)
then
    Requesting.respond (request, found, why)

sync ShowUser
when
    Requesting.request (path: "GET /user", session) : (request)
where
    Sessioning._getUser (session) : (user)
        else Requesting.respond (request, error: "unknown token", status: 401)
then
    Requesting.respond (request, user)

sync ReplaceUser
when
    Requesting.request (path: "POST /user/:tag", session, tag) : (request)
where
    Sessioning._getUser (session) : (user)
        else Requesting.respond (request, error: "unknown token", status: 401)
then
    Requesting.respond (request, user, tag)
"#;

/// The project with the rules of this test.
pub(crate) async fn system(dir: &tempfile::TempDir) -> anyhow::Result<System> {
    let [concepts, syncs] = faulty::rules(dir.path())?;
    std::fs::write(dir.path().join("concepts/Catalog.concept"), SPEC)?;
    std::fs::write(dir.path().join("syncs/catalog.sync"), RULES)?;
    let settings = [
        ("CONCERT_RULES__CONCEPTS", &*concepts),
        ("CONCERT_RULES__SYNCS", &*syncs),
        ("CONCERT_ROUTER__WORKER_GRACE_MS", "0"),
        ("CONCERT_HTTP__HEADERS", "If-None-Match"),
        ("CONCERT_HTTP__CORS_ORIGINS", "https://app.example"),
    ];
    let system = System::with(&settings).await?;
    let client = system.nats_as("catalog").await?;
    nats::respond(&client, "concept.Catalog._find", |query| {
        let input: Value = serde_json::from_slice(query).unwrap_or_default();
        json!({ "rows": [{ "found": input }] })
    })
    .await?;
    Ok(system)
}
