use concert_worker::trial::{Trial, TrialError};
use futures_util::future::join_all;
use serde_json::json;

use super::*;

#[tokio::test]
async fn concurrent_comments_get_different_numbers() -> Result<(), TrialError> {
    let trial = Trial::of(worker()).await?;
    let create = |number: usize| {
        let (item, body) = (format!("i{}", number % 2), number.to_string());
        trial.act("create", json!({ "author": "ada", "item": item, "body": body }))
    };
    let acts = join_all((0..20).map(create)).await;
    let acts = acts.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut numbers: Vec<u64> =
        acts.iter().map(|act| act.output["comment"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
    for act in acts.iter().take(3) {
        assert_eq!(trial.redeliver_uncompleted(act).await?, act.output);
    }
    let listed = trial.ask("_getComments", json!({ "item": "i1" })).await?;
    assert_eq!(listed.as_array().map(Vec::len), Some(10));

    // The number of a deleted comment is not used again.
    let last = json!({ "comment": 20 });
    assert_eq!(trial.act("delete", last.clone()).await?.output, json!({}));
    let missing = json!({ "error": "comment not found" });
    assert_eq!(trial.act("delete", last).await?.output, missing);
    assert_eq!(create(1).await?.output, json!({ "comment": 21 }));
    let get = async |item: &str, comment: f64| {
        trial.ask("_get", json!({ "item": item, "comment": comment })).await
    };
    assert_eq!(get("i1", 21.0).await?[0]["body"], "1");
    for (item, comment) in [("i0", 21.0), ("i1", 20.0), ("i1", 1.5)] {
        assert_eq!(get(item, comment).await?, json!([]), "{item} {comment}");
    }
    trial.act("clear", json!({ "item": "i1" })).await?;
    let left = async |item: &str| {
        let rows = trial.ask("_getComments", json!({ "item": item })).await?;
        Ok::<_, TrialError>(rows.as_array().map(Vec::len))
    };
    assert_eq!(left("i1").await?, Some(0));
    assert!(left("i0").await? >= Some(9), "those of another item");
    Ok(())
}
