//! Conduit over HTTP: every path with its statuses, races, order and counts.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a response without these members fails the test"
)]

mod app;
mod specification;

use concert_tests::running::START;
use concert_tests::until;
use futures_util::future::join_all;
use serde_json::{Value, json};

use self::app::{App, User, article, user};

/// Bodies of refusals.
fn error(field: &str, text: &str) -> Value {
    json!({ "errors": { field: [text] } })
}

fn taken(field: &str) -> Value {
    error(field, "has already been taken")
}

fn blank(field: &str) -> Value {
    error(field, "can't be blank")
}

fn slugs(page: &Value) -> Vec<&str> {
    let articles = page["articles"].as_array().unwrap();
    articles.iter().map(|article| article["slug"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn realworld_api() -> anyhow::Result<()> {
    let app = App::start().await?;
    accounts(&app).await?;
    profiles(&app).await?;
    articles(&app).await?;
    comments(&app).await?;
    lists(&app).await?;
    races(&app).await?;
    specification::values(&app).await?;
    specification::hostile_requests(&app).await?;
    page_costs_a_bounded_number_of_messages(&app).await?;
    specification::is_covered(&app);
    app.stop().await
}

async fn accounts(app: &App) -> anyhow::Result<()> {
    let guest = app.guest();
    let made = guest.post("/users", user("ada", "ada@x.org", "password")).await?;
    assert_eq!(made.status, 201, "{made:?}");
    let shown = |made: &Value| {
        let mut user = made["user"].clone();
        assert!(user["token"].as_str().is_some_and(|token| token.len() >= 40), "{user}");
        user["token"] = Value::Null;
        user
    };
    let expected = |bio: Value| {
        let (username, email, none) = ("ada", "ada@x.org", Value::Null);
        json!({ "username": username, "email": email, "bio": bio, "image": none, "token": none })
    };
    assert_eq!(shown(&made.body), expected(Value::Null));
    for (body, status, refusal) in [
        (user("ada", "other@x.org", "password"), 409, taken("username")),
        (user("other", "ada@x.org", "password"), 409, taken("email")),
        (user("", "other@x.org", "password"), 422, blank("username")),
        (user("other", "", "password"), 422, blank("email")),
        (user("other", "other@x.org", ""), 422, blank("password")),
    ] {
        guest.gets("POST", "/users", body, status, refusal).await?;
    }
    let login =
        |email: &str, password: &str| json!({ "user": { "email": email, "password": password } });
    for (body, status, refusal) in [
        (login("ada@x.org", "wrong"), 401, error("credentials", "invalid")),
        (login("nobody@x.org", "password"), 401, error("credentials", "invalid")),
        (login("", "password"), 422, blank("email")),
        (login("ada@x.org", ""), 422, blank("password")),
    ] {
        guest.gets("POST", "/users/login", body, status, refusal).await?;
    }
    let missing = guest.post("/users/login", json!({ "user": { "email": "ada@x.org" } })).await?;
    assert_eq!(missing.status, 422, "{missing:?}");
    assert!(missing.body["errors"]["password"][0].is_string(), "{missing:?}");

    let logged_in = guest.post("/users/login", login("ada@x.org", "password")).await?;
    assert_eq!((logged_in.status, shown(&logged_in.body)), (200, expected(Value::Null)));
    let ada = app.with_token(logged_in.body["user"]["token"].as_str().unwrap());
    let current = ada.get("/user").await?;
    assert_eq!(current.body, logged_in.body, "with the token of the request");
    let no_token = error("token", "is missing");
    for user in [&guest, &app.with_token("unknown-token-unknown-token-unknown-token-x")] {
        user.gets("GET", "/user", Value::Null, 401, no_token.clone()).await?;
        user.gets("PUT", "/user", json!({ "user": { "bio": "b" } }), 401, no_token.clone()).await?;
    }

    app.register("eve").await?;
    let put = |changes: Value| ada.request("PUT", "/user", json!({ "user": changes }));
    for (changes, bio) in [
        (json!({ "bio": "b" }), json!("b")),
        (json!({ "email": "ada@x.org" }), json!("b")),
        (json!({ "bio": null }), Value::Null),
        (json!({ "bio": "again" }), json!("again")),
        (json!({ "bio": "" }), Value::Null),
    ] {
        let changed = put(changes).await?;
        assert_eq!((changed.status, shown(&changed.body)), (200, expected(bio)), "{changed:?}");
    }
    for (changes, status, refusal) in [
        (json!({ "username": "eve" }), 409, taken("username")),
        (json!({ "email": "EVE@x.org" }), 409, taken("email")),
        (json!({ "username": "" }), 422, blank("username")),
        (json!({ "email": "" }), 422, blank("email")),
        (json!({ "password": "" }), 422, blank("password")),
    ] {
        let body = json!({ "user": changes });
        ada.gets("PUT", "/user", body, status, refusal).await?;
    }
    assert_eq!(put(json!({ "password": "another" })).await?.status, 200);
    let old = guest.post("/users/login", login("ada@x.org", "password")).await?;
    let new = guest.post("/users/login", login("ada@x.org", "another")).await?;
    assert_eq!((old.status, new.status), (401, 200));
    Ok(())
}

async fn profiles(app: &App) -> anyhow::Result<()> {
    let (guest, bob) = (app.guest(), app.register("bob").await?);
    let profile = |following: bool| {
        let row = json!({ "username": "ada", "bio": null, "image": null, "following": following });
        json!({ "profile": row })
    };
    let (path, follow) = ("/profiles/ada", "/profiles/ada/follow");
    guest.gets("GET", path, Value::Null, 200, profile(false)).await?;
    // A body may be sent and means nothing.
    let body = json!({ "user": { "email": "bob@x.org" } });
    bob.gets("POST", follow, body, 200, profile(true)).await?;
    bob.gets("POST", follow, Value::Null, 200, profile(true)).await?;
    bob.gets("GET", path, Value::Null, 200, profile(true)).await?;
    guest.gets("GET", path, Value::Null, 200, profile(false)).await?;
    bob.gets("DELETE", follow, Value::Null, 200, profile(false)).await?;
    bob.gets("GET", path, Value::Null, 200, profile(false)).await?;
    let not_found = error("profile", "not found");
    for (method, path) in [
        ("GET", "/profiles/nobody"),
        ("POST", "/profiles/nobody/follow"),
        ("DELETE", "/profiles/nobody/follow"),
    ] {
        bob.gets(method, path, Value::Null, 404, not_found.clone()).await?;
    }
    for method in ["POST", "DELETE"] {
        let path = "/profiles/nobody/follow";
        guest.gets(method, path, Value::Null, 401, error("token", "is missing")).await?;
    }
    Ok(())
}

async fn articles(app: &App) -> anyhow::Result<()> {
    let (guest, bob, carol) =
        (app.guest(), app.register("bob2").await?, app.register("carol").await?);
    let made = bob.post("/articles", article("How to train your dragon", &["z", "b", "z"])).await?;
    assert_eq!(made.status, 201, "{made:?}");
    let first = &made.body["article"];
    let author = json!({ "username": "bob2", "bio": null, "image": null, "following": false });
    let expected = json!({
        "slug": "how-to-train-your-dragon",
        "title": "How to train your dragon",
        "description": "d",
        "body": "b",
        "tagList": ["b", "z"],
        "createdAt": first["createdAt"],
        "updatedAt": first["updatedAt"],
        "favorited": false,
        "favoritesCount": 0,
        "author": author,
    });
    assert_eq!(*first, expected);
    let created = first["createdAt"].as_str().unwrap();
    assert!(created.len() == 24 && created.ends_with('Z') && created.contains('.'), "{created}");
    let path = "/articles/how-to-train-your-dragon";
    guest.gets("GET", path, Value::Null, 200, made.body.clone()).await?;
    guest.gets("GET", "/tags", Value::Null, 200, json!({ "tags": ["b", "z"] })).await?;
    for field in ["title", "description", "body"] {
        let mut body = article("t", &[]);
        body["article"][field] = json!("");
        bob.gets("POST", "/articles", body.clone(), 422, blank(field)).await?;
        guest.gets("POST", "/articles", body, 401, error("token", "is missing")).await?;
    }
    let without_tags = json!({ "article": { "title": "t", "description": "d", "body": "b" } });
    let without_tags = bob.post("/articles", without_tags).await?.body["article"].clone();
    assert_eq!(without_tags["tagList"], json!([]));

    let put = |changes: Value| bob.request("PUT", path, json!({ "article": changes }));
    let changed = put(json!({ "body": "new" })).await?;
    assert_eq!(changed.status, 200, "{changed:?}");
    let changed = &changed.body["article"];
    assert_eq!((&changed["body"], &changed["tagList"]), (&json!("new"), &json!(["b", "z"])));
    assert!(changed["updatedAt"].as_str() > first["updatedAt"].as_str(), "{changed}");
    assert_eq!(put(json!({ "tagList": null })).await?.status, 422);
    assert_eq!(put(json!({ "tagList": [] })).await?.body["article"]["tagList"], json!([]));
    assert_eq!(put(json!({ "tagList": ["x"] })).await?.body["article"]["tagList"], json!(["x"]));
    let blank_title = put(json!({ "title": "" })).await?;
    assert_eq!((blank_title.status, blank_title.body), (422, blank("title")));

    let favorite = format!("{path}/favorite");
    let favorites = async |user: &User<'_>, method: &str| {
        let answer = user.request(method, &favorite, Value::Null).await?;
        let article = &answer.body["article"];
        assert_eq!(article["body"], "new", "{answer:?}");
        anyhow::Ok((article["favorited"] == true, article["favoritesCount"].as_u64().unwrap()))
    };
    assert_eq!(favorites(&carol, "POST").await?, (true, 1));
    assert_eq!(favorites(&carol, "POST").await?, (true, 1));
    assert_eq!(favorites(&bob, "POST").await?, (true, 2));
    assert_eq!(favorites(&carol, "DELETE").await?, (false, 1));

    let body = json!({ "article": { "body": "x" } });
    let nothing = Value::Null;
    for (user, status, refusal) in
        [(&guest, 401, error("token", "is missing")), (&carol, 403, error("article", "forbidden"))]
    {
        user.gets("PUT", path, body.clone(), status, refusal.clone()).await?;
        user.gets("DELETE", path, nothing.clone(), status, refusal).await?;
    }
    let not_found = error("article", "not found");
    for (method, path, body) in [
        ("GET", "/articles/none", nothing.clone()),
        ("PUT", "/articles/none", body),
        ("DELETE", "/articles/none", nothing.clone()),
        ("POST", "/articles/none/favorite", nothing.clone()),
        ("DELETE", "/articles/none/favorite", nothing.clone()),
        ("GET", "/articles/none/comments", nothing.clone()),
        ("POST", "/articles/none/comments", json!({ "comment": { "body": "b" } })),
        ("DELETE", "/articles/none/comments/1", nothing.clone()),
    ] {
        carol.gets(method, path, body.clone(), 404, not_found.clone()).await?;
        if method != "GET" {
            guest.gets(method, path, body, 401, error("token", "is missing")).await?;
        }
    }

    // Deleting an article removes its comments, tags and favorites.
    let comment = json!({ "comment": { "body": "c" } });
    assert_eq!(carol.post(&format!("{path}/comments"), comment).await?.status, 201);
    let favorites_of_bob = "/articles?favorited=bob2";
    assert_eq!(guest.get(favorites_of_bob).await?.body["articlesCount"], 1);
    bob.gets("DELETE", path, nothing.clone(), 204, nothing.clone()).await?;
    bob.gets("DELETE", path, nothing.clone(), 404, not_found.clone()).await?;
    guest.gets("GET", path, nothing, 404, not_found).await?;
    until("tags are removed", START, async || {
        Ok((guest.get("/tags").await?.body["tags"] == json!([])).then_some(()))
    })
    .await?;
    assert_eq!(guest.get(favorites_of_bob).await?.body["articlesCount"], 0);
    Ok(())
}

async fn comments(app: &App) -> anyhow::Result<()> {
    let (guest, dan, fay) = (app.guest(), app.register("dan").await?, app.register("fay").await?);
    let slug = dan.article("Talk", &[]).await?;
    let path = format!("/articles/{slug}/comments");
    let comment = |body: &str| json!({ "comment": { "body": body } });
    let made = fay.post(&path, comment("first")).await?;
    assert_eq!(made.status, 201, "{made:?}");
    let first = &made.body["comment"];
    let author = json!({ "username": "fay", "bio": null, "image": null, "following": false });
    assert_eq!((&first["body"], &first["author"]), (&json!("first"), &author));
    let id = first["id"].as_u64().unwrap();
    fay.post("/profiles/dan/follow", Value::Null).await?;
    let second = dan.post(&path, comment("second")).await?.body["comment"]["id"].as_u64().unwrap();
    assert!(second > id);
    let listed = fay.get(&path).await?.body["comments"].clone();
    let following: Vec<_> =
        listed.as_array().unwrap().iter().map(|row| &row["author"]["following"]).collect();
    assert_eq!(following, [true, false]);
    assert_eq!(guest.get(&path).await?.body["comments"][1], *first);
    fay.gets("POST", &path, comment(""), 422, blank("body")).await?;
    let missing = fay.post(&path, json!({ "comment": {} })).await?;
    assert_eq!(missing.status, 422, "{missing:?}");

    let of = |id: u64| format!("{path}/{id}");
    let nothing = Value::Null;
    guest.gets("DELETE", &of(id), nothing.clone(), 401, error("token", "is missing")).await?;
    dan.gets("DELETE", &of(id), nothing.clone(), 403, error("comment", "forbidden")).await?;
    let not_found = error("comment", "not found");
    dan.gets("DELETE", &of(id + 1000), nothing.clone(), 404, not_found.clone()).await?;
    let other = dan.article("Other", &[]).await?;
    let elsewhere = format!("/articles/{other}/comments/{id}");
    fay.gets("DELETE", &elsewhere, nothing.clone(), 404, not_found.clone()).await?;
    fay.gets("DELETE", &of(id), nothing.clone(), 204, nothing.clone()).await?;
    fay.gets("DELETE", &of(id), nothing, 404, not_found).await?;
    assert_eq!(guest.get(&path).await?.body["comments"].as_array().map(Vec::len), Some(1));
    Ok(())
}

async fn lists(app: &App) -> anyhow::Result<()> {
    let (guest, gil, hal) = (app.guest(), app.register("gil").await?, app.register("hal").await?);
    let mut made = Vec::new();
    for number in 0..5 {
        let tags: &[&str] = if number % 2 == 0 { &["even", "all"] } else { &["all"] };
        let author = if number < 3 { &gil } else { &hal };
        made.push(author.article(&format!("list {number}"), tags).await?);
    }
    hal.post(&format!("/articles/{}/favorite", made[1]), Value::Null).await?;
    hal.post(&format!("/articles/{}/favorite", made[2]), Value::Null).await?;
    let page = async |user: &User<'_>, query: &str, count: u64, expected: &[usize]| {
        let found = user.get(&format!("/articles{query}")).await?;
        assert_eq!(found.status, 200, "{query}: {found:?}");
        let expected: Vec<&str> = expected.iter().map(|number| made[*number].as_str()).collect();
        assert_eq!(
            (found.body["articlesCount"].as_u64(), slugs(&found.body)),
            (Some(count), expected),
            "{query}"
        );
        anyhow::Ok(found.body["articles"].clone())
    };
    let all = page(&guest, "?tag=all", 5, &[4, 3, 2, 1, 0]).await?;
    let newest = &all[0];
    assert!(newest.get("body").is_none(), "{newest}");
    assert_eq!(newest["tagList"], json!(["all", "even"]));
    assert_eq!(newest["author"]["username"], "hal");
    page(&guest, "?tag=all&limit=2", 5, &[4, 3]).await?;
    page(&guest, "?tag=all&limit=2&offset=4", 5, &[0]).await?;
    page(&guest, "?tag=even", 3, &[4, 2, 0]).await?;
    page(&guest, "?tag=none", 0, &[]).await?;
    page(&guest, "?author=gil", 3, &[2, 1, 0]).await?;
    page(&guest, "?author=gil&tag=even", 2, &[2, 0]).await?;
    page(&guest, "?author=nobody", 0, &[]).await?;
    page(&guest, "?favorited=nobody", 0, &[]).await?;
    page(&guest, "?favorited=hal&tag=even&author=gil", 1, &[2]).await?;
    let favorites = page(&hal, "?favorited=hal", 2, &[2, 1]).await?;
    assert_eq!(
        (&favorites[0]["favorited"], &favorites[0]["favoritesCount"]),
        (&json!(true), &json!(1))
    );
    page(&hal, "/feed", 0, &[]).await?;
    hal.post("/profiles/gil/follow", Value::Null).await?;
    let feed = page(&hal, "/feed?limit=2", 3, &[2, 1]).await?;
    assert_eq!(feed[0]["author"]["following"], true);
    assert!(feed[0].get("body").is_none(), "{feed}");
    let token = error("token", "is missing");
    guest.gets("GET", "/articles/feed", Value::Null, 401, token).await?;
    let positive = error("limit", "must be positive");
    for user in [("/articles?limit=0", &guest), ("/articles/feed?limit=0", &hal)] {
        user.1.gets("GET", user.0, Value::Null, 422, positive.clone()).await?;
    }
    Ok(())
}

async fn races(app: &App) -> anyhow::Result<()> {
    let (ivy, jan) = (app.register("ivy").await?, app.register("jan").await?);
    let made = join_all((0..8).map(|_| ivy.article("Same title", &[]))).await;
    let mut made = made.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    made.sort();
    made.dedup();
    assert_eq!((made.len(), made[0].as_str()), (8, "same-title"));

    let favorite = format!("/articles/{}/favorite", made[0]);
    for answer in join_all((0..10).map(|_| jan.post(&favorite, Value::Null))).await {
        assert_eq!(answer?.body["article"]["favoritesCount"], 1);
    }
    for answer in join_all((0..50).map(|_| jan.post("/profiles/ivy/follow", Value::Null))).await {
        assert_eq!(answer?.body["profile"]["following"], true);
    }
    assert_eq!(jan.get("/articles/feed").await?.body["articlesCount"], 8);
    for field in ["username", "email"] {
        let made = join_all((0..8).map(|number| {
            let mut kim = user("kim", "kim@y.org", "password");
            let other = if field == "email" { "username" } else { "email" };
            kim["user"][other] = json!(format!("{field}{number}@x.org"));
            async move { app.guest().post("/users", kim).await }
        }));
        let made = made.await.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        let count = |expected: u16| made.iter().filter(|made| made.status == expected).count();
        assert_eq!((count(201), count(409)), (1, 7), "{made:?}");
        for refused in made.iter().filter(|made| made.status == 409) {
            assert_eq!(refused.body, taken(field));
        }
    }
    Ok(())
}

/// The queries of a page are one message each, as the trace of its flow shows.
async fn page_costs_a_bounded_number_of_messages(app: &App) -> anyhow::Result<()> {
    let lea = app.register("lea").await?;
    for number in 0..20 {
        lea.article(&format!("page {number}"), &["page"]).await?;
    }
    for (query, articles) in [("?tag=page&limit=20", 20), ("?tag=page&limit=2", 2)] {
        let page = lea.get(&format!("/articles{query}")).await?;
        assert_eq!(page.body["articles"].as_array().map(Vec::len), Some(articles));
        let flow = page.headers["concert-flow"].to_str()?;
        let trace = app.trace(flow, "queries:").await?;
        assert!(trace.contains("(10 queries: "), "{trace}");
        let batch = format!("Tagging._getTags with {articles} inputs");
        assert!(trace.contains(&batch), "{trace}");
    }
    Ok(())
}
