use concert_worker::trial::{Trial, TrialError};
use futures_util::future::join_all;
use serde_json::json;

use super::*;

#[tokio::test]
async fn favorites_of_one_user_count_once() -> Result<(), TrialError> {
    let trial = Trial::of(worker()).await?;
    let act = |action: &'static str, user: &str, item: &str| {
        trial.act(action, json!({ "user": user, "item": item }))
    };
    let of = async |user: &str, item: &str| {
        let rows = trial.ask("_getFavorites", json!({ "user": user, "item": item })).await?;
        let row = &rows[0];
        Ok::<_, TrialError>((row["count"].as_u64(), row["favorited"].as_bool()))
    };
    for made in join_all((0..10).map(|_| act("favorite", "ada", "a"))).await {
        assert_eq!(made?.output, json!({}));
    }
    assert_eq!(of("ada", "a").await?, (Some(1), Some(true)));
    assert_eq!(of("eve", "a").await?, (Some(1), Some(false)));
    act("favorite", "eve", "a").await?;
    act("favorite", "ada", "b").await?;
    let guest = trial.ask("_getFavorites", json!({ "item": "a" })).await?;
    assert_eq!(guest, json!([{ "count": 2, "favorited": false }]));
    let items = async |users: &[&str]| trial.ask("_getItems", json!({ "users": users })).await;
    assert_eq!(items(&["ada"]).await?, json!([{ "items": ["b", "a"] }]));
    assert_eq!(items(&[]).await?, json!([{ "items": [] }]));
    assert_eq!(trial.ask("_getItems", json!({})).await?, json!([]), "no user is no restriction");

    let removed = act("unfavorite", "ada", "a").await?;
    assert_eq!(trial.redeliver_uncompleted(&removed).await?, json!({}));
    assert_eq!(of("ada", "a").await?, (Some(1), Some(false)));
    act("unfavorite", "nobody", "a").await?;
    act("favorite", "ada", "a").await?;
    assert_eq!(of("ada", "a").await?, (Some(2), Some(true)));
    trial.act("clear", json!({ "item": "a" })).await?;
    assert_eq!(of("ada", "a").await?, (Some(0), Some(false)));
    // The item has gone, so a late favorite has no effect.
    act("favorite", "ada", "a").await?;
    assert_eq!(of("ada", "a").await?, (Some(0), Some(false)));
    assert_eq!(of("ada", "b").await?, (Some(1), Some(true)));
    Ok(())
}
