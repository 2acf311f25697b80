use concert_worker::trial::{Trial, TrialError};
use serde_json::{Value, json};

use super::*;

#[tokio::test]
async fn tags_are_sorted_and_replaced() -> Result<(), TrialError> {
    let trial = Trial::of(worker()).await?;
    let replace = async |item: &str, tags: Value| {
        let act = trial.act("replace", json!({ "item": item, "tags": tags })).await?;
        assert_eq!(trial.redeliver_uncompleted(&act).await?, json!({}));
        let rows = trial.ask("_getTags", json!({ "item": item })).await?;
        Ok::<_, TrialError>(rows[0]["tags"].clone())
    };
    assert_eq!(replace("a", json!(["z", "b", "z"])).await?, json!(["b", "z"]));
    assert_eq!(replace("b", json!(["b"])).await?, json!(["b"]));
    let all = async || trial.ask("_getAll", json!({})).await;
    let of = async |tag: &str| trial.ask("_getItems", json!({ "tag": tag })).await;
    assert_eq!(all().await?, json!([{ "tags": ["b", "z"] }]));
    assert_eq!(of("b").await?, json!([{ "items": ["b", "a"] }]), "the newest first");
    assert_eq!(of("none").await?, json!([{ "items": [] }]));
    assert_eq!(trial.ask("_getItems", json!({})).await?, json!([]), "no tag is no restriction");
    trial.act("replace", json!({ "item": "a" })).await?;
    assert_eq!(of("z").await?, json!([{ "items": ["a"] }]), "without tags, nothing changes");
    assert_eq!(replace("a", json!([])).await?, json!([]));
    assert_eq!(all().await?, json!([{ "tags": ["b"] }]));
    for item in ["b", "unknown"] {
        assert_eq!(trial.act("clear", json!({ "item": item })).await?.output, json!({}));
    }
    assert_eq!(all().await?, json!([{ "tags": [] }]));
    assert_eq!(replace("b", json!(["again"])).await?, json!(["again"]));
    Ok(())
}
