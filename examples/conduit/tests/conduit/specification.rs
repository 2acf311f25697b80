//! The RealWorld specification: the statuses of its endpoints, its pitfalls, and hostile requests.

use serde_json::{Value, json};

use crate::app::{App, article, user};
use crate::{blank, error};

/// Every endpoint with its statuses. `*` is a parameter.
const STATUSES: &[(&str, &[u16])] = &[
    ("POST /users", &[201, 409, 422]),
    ("POST /users/login", &[200, 401, 422]),
    ("GET /user", &[200, 401]),
    ("PUT /user", &[200, 401, 422]),
    ("GET /profiles/*", &[200, 404]),
    ("POST /profiles/*/follow", &[200, 401, 404]),
    ("DELETE /profiles/*/follow", &[200, 401, 404]),
    ("GET /articles", &[200]),
    ("GET /articles/feed", &[200, 401]),
    ("POST /articles", &[201, 401, 422]),
    ("GET /articles/*", &[200, 404]),
    ("PUT /articles/*", &[200, 401, 403, 404, 422]),
    ("DELETE /articles/*", &[204, 401, 403, 404]),
    ("POST /articles/*/favorite", &[200, 401, 404]),
    ("DELETE /articles/*/favorite", &[200, 401, 404]),
    ("GET /articles/*/comments", &[200, 404]),
    ("POST /articles/*/comments", &[201, 401, 404, 422]),
    ("DELETE /articles/*/comments/*", &[204, 401, 403, 404]),
    ("GET /tags", &[200]),
];

/// Checks that the tests have seen every status.
pub(crate) fn is_covered(app: &App) {
    let pairs = STATUSES
        .iter()
        .flat_map(|(endpoint, statuses)| statuses.iter().map(move |status| (*endpoint, *status)));
    let missing: Vec<_> =
        pairs.filter(|(endpoint, status)| !app.has_seen(endpoint, *status)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// A value that is cleared, a key that is missing, and an article that is deleted.
pub(crate) async fn values(app: &App) -> anyhow::Result<()> {
    let max = app.register("max").await?;
    for field in ["bio", "image"] {
        for cleared in [Value::Null, json!("")] {
            for (value, expected) in [(json!("https://x.org/a"), true), (cleared, false)] {
                let body = json!({ "user": { field: value } });
                let changed = max.request("PUT", "/user", body).await?;
                assert_eq!(changed.body["user"][field] != Value::Null, expected, "{changed:?}");
                // A change of another value keeps it.
                let body = json!({ "user": { "email": "max@x.org" } });
                assert_eq!(max.request("PUT", "/user", body).await?.body, changed.body);
            }
        }
    }
    let is_missing = |field: &str| error(field, "is missing");
    let nothing = json!({});
    for (method, path, body, refusal) in [
        ("POST", "/users/login", json!({ "user": { "email": "a" } }), is_missing("password")),
        ("POST", "/users", json!({ "user": { "username": "a", "email": "b" } }), {
            is_missing("password")
        }),
        ("POST", "/articles", json!({ "article": { "title": "a", "body": "b" } }), {
            is_missing("description")
        }),
        ("POST", "/articles/x/comments", nothing, is_missing("body")),
        ("POST", "/articles", article("", &[]), blank("title")),
    ] {
        max.gets(method, path, body, 422, refusal).await?;
    }
    for list in [Value::Null, json!("a"), json!([1]), json!([null])] {
        let mut body = article("Tags", &[]);
        body["article"]["tagList"] = list;
        let refused = max.post("/articles", body).await?;
        assert!(refused.body["errors"]["tagList"][0].is_string(), "{refused:?}");
        assert_eq!(refused.status, 422, "{refused:?}");
    }

    // A new article of the same title has nothing of the deleted one.
    let slug = max.article("Twice", &["old"]).await?;
    let [path, comments] = [format!("/articles/{slug}"), format!("/articles/{slug}/comments")];
    max.post(&comments, json!({ "comment": { "body": "c" } })).await?;
    max.post(&format!("{path}/favorite"), Value::Null).await?;
    max.gets("DELETE", &path, Value::Null, 204, Value::Null).await?;
    assert_eq!(max.article("Twice", &[]).await?, slug);
    max.gets("GET", &comments, Value::Null, 200, json!({ "comments": [] })).await?;
    let again = max.get(&path).await?.body["article"].clone();
    assert_eq!((&again["favoritesCount"], &again["tagList"]), (&json!(0), &json!([])));
    Ok(())
}

/// Requests that clients do not send.
pub(crate) async fn hostile_requests(app: &App) -> anyhow::Result<()> {
    let long = "x".repeat(8192);
    let eve = user("eve2", "eve2@x.org", "password");
    let with = |key: &str, value: Value| {
        let mut body = eve.clone();
        body["user"][key] = value;
        body.to_string()
    };
    let twice = r#"{"user":{"username":"a","username":"b","email":"c","password":"d"}}"#;
    for (request, body, status) in [
        ("GET /articles?limit=NaN", String::new(), 422),
        ("GET /articles?limit=", String::new(), 422),
        ("GET /articles?limit=-1", String::new(), 422),
        ("GET /articles?limit=1e400", String::new(), 422),
        ("GET /articles?offset=-1", String::new(), 422),
        ("GET /articles?tag[]=a", String::new(), 400),
        ("GET /articles?__proto__=a", String::new(), 400),
        ("GET /articles?tag=a&tag=b", String::new(), 400),
        ("GET /articles?tag=%00", String::new(), 400),
        ("GET /articles?tag=%ff", String::new(), 400),
        (&format!("GET /articles?tag={long}"), String::new(), 422),
        (&format!("GET /articles?author={long}"), String::new(), 422),
        (&format!("GET /articles/{long}"), String::new(), 422),
        (&format!("GET /profiles/{long}"), String::new(), 422),
        ("GET /articles/a%2Fb", String::new(), 404),
        ("GET /articles/%00", String::new(), 404),
        ("GET /articles//comments", String::new(), 404),
        ("GET /articles/__proto__", String::new(), 404),
        ("GET /profiles/__proto__", String::new(), 404),
        ("PATCH /articles", String::new(), 405),
        ("POST /users", "{".to_owned(), 400),
        ("POST /users", "[]".to_owned(), 400),
        ("POST /users", twice.to_owned(), 400),
        ("POST /users", r#"{"__proto__":{"user":{}}}"#.to_owned(), 422),
        ("POST /users", with("username", json!(["a"])), 422),
        ("POST /users", with("username", json!({ "$ne": null })), 422),
        ("POST /users", with("username", json!(long)), 422),
        ("POST /users", with("password", json!(long)), 422),
    ] {
        let headers: &[_] =
            if body.is_empty() { &[] } else { &[("content-type", "application/json")] };
        let answer = app.send(request, body.clone().into_bytes(), headers).await?;
        assert_eq!(answer.status, status, "{request:.100} {body:.100}: {answer:?}");
        // Every refusal has the shape of the specification.
        let errors = answer.body["errors"].as_object().unwrap();
        assert!(!errors.is_empty() && errors.values().all(|texts| texts[0].is_string()));
    }
    let two = [("authorization", "Token a"), ("authorization", "Token b")];
    assert_eq!(app.send("GET /user", Vec::new(), &two).await?.status, 400);
    let max = app.register("max2").await?;
    let text = max.request("DELETE", "/articles/x/comments/x", Value::Null).await?;
    assert_eq!(text.status, 422, "{text:?}");
    // An unknown key is dropped, and a prototype is such a key.
    let body = serde_json::from_str(&with("__proto__", json!({})))?;
    assert_eq!(app.guest().post("/users", body).await?.status, 201);
    Ok(())
}
