//! Tests the example concept on real servers: the platform, not its author, makes its writes take
//! effect once.

#[expect(unreachable_pub, reason = "the file belongs to another crate")]
#[path = "../../../../examples/labels/src/label.rs"]
mod label;

use concert_worker::store::{DateTime, doc};
use concert_worker::trial::{Point, Trial, TrialError};
use serde_json::{Value, json};

async fn create(trial: &Trial, name: &str) -> Result<Value, TrialError> {
    Ok(trial.act("create", json!({ "name": name, "item": "i" })).await?.output)
}

#[tokio::test]
async fn redelivered_action_writes_once_and_has_the_same_output() -> Result<(), TrialError> {
    let trial = Trial::of(label::worker()).await?;
    let created = trial.act("create", json!({ "name": "red", "item": "i" })).await?;
    let renamed = json!({ "label": created.output["label"], "name": "blue" });
    let renamed = trial.act("rename", renamed).await?;
    let deleted = trial.act("delete", created.output.clone()).await?;
    assert_eq!(create(&trial, "blue").await?.get("error"), None, "its name is free");
    // Each finds its own stamp, although later actions changed and deleted the document.
    for act in [&created, &renamed, &deleted] {
        assert_eq!(trial.redeliver(act).await?, act.output);
        assert_eq!(trial.redeliver_uncompleted(act).await?, act.output);
    }
    let labels = trial.collection("labels").await?;
    assert_eq!(labels.count_documents(doc! {}).await.unwrap(), 2);
    let left = labels.find_one(doc! { "created_by": created.flow.to_string() }).await.unwrap();
    let left = left.unwrap();
    assert!(!left.contains_key("name") && !left.contains_key("item"), "{left}");
    assert!(left.get_datetime("purge_at").unwrap() > &now());
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the test compares with the machine's clock")]
fn now() -> DateTime {
    DateTime::now()
}

#[tokio::test]
async fn unique_name_belongs_to_one_label_until_freed() -> Result<(), TrialError> {
    let trial = Trial::of(label::worker()).await?;
    let red = create(&trial, "red").await?;
    let blue = create(&trial, "blue").await?;
    let taken = json!({ "error": "The name is taken" });
    assert_eq!(create(&trial, "red").await?, taken);
    let rename = json!({ "label": blue["label"], "name": "red" });
    assert_eq!(trial.act("rename", rename.clone()).await?.output, taken);
    assert_eq!(create(&trial, &"x".repeat(65)).await?, json!({ "error": "The name is too long" }));

    trial.act("delete", red.clone()).await?;
    let not_there = json!({ "error": "There is no such label" });
    assert_eq!(trial.act("delete", red.clone()).await?.output, not_there);
    let gone = json!({ "label": red["label"], "name": "pink" });
    assert_eq!(trial.act("rename", gone).await?.output, not_there);
    assert_eq!(trial.act("rename", rename).await?.output, blue);
    let found = json!([{ "label": blue["label"], "name": "red", "item": "i" }]);
    assert_eq!(trial.ask("_named", json!({ "name": "red" })).await?, found);
    assert_eq!(trial.ask("_named", json!({ "name": "blue" })).await?, json!([]));
    Ok(())
}

#[tokio::test]
async fn action_on_many_documents_finishes_those_of_its_first_delivery() -> Result<(), TrialError> {
    let trial = Trial::of(label::worker()).await?;
    for name in ["red", "blue"] {
        create(&trial, name).await?;
    }
    let all = trial.act("deleteAll", json!({ "item": "i" })).await?;
    let green = create(&trial, "green").await?;
    assert_eq!(trial.redeliver_uncompleted(&all).await?, json!({}));
    let left = json!([{ "label": green["label"], "name": "green", "item": "i" }]);
    assert_eq!(trial.ask("_getLabels", json!({ "item": "i" })).await?, left);
    Ok(())
}

#[tokio::test]
async fn action_survives_a_crash_at_each_point() -> Result<(), TrialError> {
    let mut trial = Trial::of(label::worker()).await?;
    for (name, point) in
        [("red", Point::Received), ("blue", Point::Written), ("green", Point::BeforeAck)]
    {
        let input = json!({ "name": name, "item": name });
        let invoked = trial.crash_at(point, "create", input).await?;
        trial.restart().await?;
        let created = trial.finished(invoked).await?.output;
        let listed = trial.ask("_getLabels", json!({ "item": name })).await?;
        assert_eq!(
            listed,
            json!([{ "label": created["label"], "name": name, "item": name }]),
            "{point:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn delivery_paused_after_its_write_keeps_later_changes() -> Result<(), TrialError> {
    let trial = Trial::of(label::worker()).await?;
    let created = trial.act("create", json!({ "name": "red", "item": "i" })).await?;
    let rename = json!({ "label": created.output["label"], "name": "blue" });
    let paused = trial.hold_at(Point::Written, "rename", rename).await?;
    trial.act("delete", created.output.clone()).await?;
    trial.release();
    assert_eq!(trial.finished(paused).await?.output, created.output);
    assert_eq!(trial.ask("_named", json!({ "name": "blue" })).await?, json!([]));
    Ok(())
}

#[tokio::test]
async fn redelivery_without_stamps_is_refused() -> Result<(), TrialError> {
    let trial = Trial::of(label::worker().forgetting_stamps()).await?;
    let created = trial.act("create", json!({ "name": "red", "item": "i" })).await?;
    let again = trial.redeliver_uncompleted(&created).await?;
    assert_eq!(again, json!({ "error": "The name is taken" }));
    Ok(())
}
