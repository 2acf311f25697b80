use concert_worker::trial::{Trial, TrialError};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::*;

async fn create(trial: &Trial, author: &str, title: &str) -> Result<String, TrialError> {
    let input = json!({ "author": author, "title": title, "description": "d", "body": "b" });
    let output = trial.act("create", input).await?.output;
    Ok(output["article"].as_str().unwrap().to_owned())
}

async fn get(trial: &Trial, article: &str) -> Result<Value, TrialError> {
    Ok(trial.ask("_get", json!({ "article": article })).await?[0].clone())
}

#[tokio::test]
async fn concurrent_articles_of_one_title_get_different_slugs() -> Result<(), TrialError> {
    let trial = Trial::of(worker()).await?;
    let made = join_all((0..8).map(|_| create(&trial, "ada", "Hello,  World!"))).await;
    let mut slugs = Vec::new();
    for article in made {
        let article = get(&trial, &article?).await?;
        let by_slug = trial.ask("_getBySlug", json!({ "slug": article["slug"] })).await?;
        assert_eq!(by_slug[0]["author"], "ada");
        slugs.push(article["slug"].as_str().unwrap().to_owned());
    }
    slugs.sort();
    slugs.dedup();
    assert_eq!((slugs.len(), slugs[0].as_str()), (8, "hello-world"));
    assert!(slugs[1].starts_with("hello-world-"), "{slugs:?}");
    for title in ["Feed", "?!"] {
        let article = get(&trial, &create(&trial, "ada", title).await?).await?;
        assert_ne!(article["slug"], "feed");
        assert!(article["slug"].as_str().unwrap().len() >= 36, "{article}");
    }
    Ok(())
}

#[tokio::test]
async fn update_changes_what_is_given_and_the_slug_follows_the_title() -> Result<(), TrialError> {
    let trial = Trial::of(worker()).await?;
    let article = create(&trial, "ada", "One").await?;
    create(&trial, "ada", "Taken").await?;
    let before = get(&trial, &article).await?;
    let update = async |changes: Value| {
        let mut input = changes;
        input["article"] = json!(article);
        let act = trial.act("update", input).await?;
        assert_eq!(trial.redeliver_uncompleted(&act).await?, json!({}));
        get(&trial, &article).await
    };
    let after = update(json!({ "body": "new" })).await?;
    assert_eq!((&after["body"], &after["slug"]), (&json!("new"), &before["slug"]));
    assert!(after["updatedAt"].as_str() > before["updatedAt"].as_str(), "{after}");
    assert_eq!(after["createdAt"], before["createdAt"]);
    let after = update(json!({ "title": "Two" })).await?;
    assert_eq!((&after["title"], &after["slug"]), (&json!("Two"), &json!("two")));
    let after = update(json!({ "title": "Taken" })).await?;
    assert_eq!(after["slug"], format!("taken-{article}"));
    let deleted = trial.act("delete", json!({ "article": article })).await?;
    assert_eq!(trial.redeliver_uncompleted(&deleted).await?, json!({}));
    let again = trial.act("delete", json!({ "article": article })).await?.output;
    assert_eq!(again, json!({ "error": "article not found" }));
    assert_eq!(get(&trial, &article).await?, Value::Null);
    Ok(())
}

#[tokio::test]
async fn pages_are_newest_first_and_restricted() -> Result<(), TrialError> {
    let trial = Trial::of(worker()).await?;
    let mut ids = Vec::new();
    for number in 0..6 {
        let author = if number % 2 == 0 { "ada" } else { "eve" };
        ids.push(create(&trial, author, &format!("t{number}")).await?);
    }
    let page = async |mut input: Value, limit: f64, offset: u32| {
        let count = trial.ask("_getCount", input.clone()).await?[0]["count"].clone();
        input["limit"] = json!(limit);
        input["offset"] = json!(offset);
        let rows = trial.ask("_getPage", input).await?;
        let rows = rows.as_array().unwrap().iter();
        let titles: Vec<String> =
            rows.map(|row| row["title"].as_str().unwrap().to_owned()).collect();
        Ok::<_, TrialError>((count.as_u64().unwrap(), titles.join(" ")))
    };
    let check = async |input: Value, limit, offset, count: u64, titles: &str| {
        assert_eq!(page(input, limit, offset).await?, (count, titles.to_owned()));
        Ok::<_, TrialError>(())
    };
    check(json!({}), 20.0, 0, 6, "t5 t4 t3 t2 t1 t0").await?;
    check(json!({}), 2.0, 1, 6, "t4 t3").await?;
    check(json!({}), 1.5, 9, 6, "").await?;
    check(json!({ "authors": ["ada"] }), 2.0, 0, 3, "t4 t2").await?;
    check(json!({ "authors": [] }), 2.0, 0, 0, "").await?;
    let within = json!([[ids[0], ids[3], ids[4]], null, [ids[3], ids[4], ids[5]]]);
    check(json!({ "within": within }), 20.0, 0, 2, "t4 t3").await?;
    let both = json!({ "within": within, "authors": ["eve"] });
    check(both, 20.0, 0, 1, "t3").await
}
