use concert_worker::trial::{Act, Trial, TrialError};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::*;

async fn start(trial: &Trial, document: &str) -> Result<Act, TrialError> {
    let input = json!({ "user": "ada", "document": document, "library": "library" });
    trial.act("startSession", input).await
}

async fn sessions(trial: &Trial) -> Result<Vec<Value>, TrialError> {
    let rows = trial.ask("_getSessions", json!({ "user": "ada" })).await?;
    Ok(rows[0]["sessions"].as_array().cloned().unwrap_or_default())
}

async fn ended(trial: &Trial) -> Result<Value, TrialError> {
    let rows = trial.ask("_viewStats", json!({ "user": "ada" })).await?;
    Ok(rows[0]["focusSessionIds"].clone())
}

#[tokio::test]
async fn ended_sessions_count_until_they_are_removed() -> Result<(), TrialError> {
    let trial = Trial::of(worker()).await?;
    let no_stats = json!({ "error": "User ada has no focus stats." });
    assert_eq!(start(&trial, "emma").await?.output, no_stats);
    assert_eq!(trial.ask("_viewStats", json!({ "user": "ada" })).await?, json!([]));
    let stats = trial.act("initUser", json!({ "user": "ada" })).await?;
    assert_eq!(trial.redeliver_uncompleted(&stats).await?, stats.output);
    let has_stats = json!({ "error": "User ada already has focus stats." });
    assert_eq!(trial.act("initUser", json!({ "user": "ada" })).await?.output, has_stats);

    let one = start(&trial, "emma").await?;
    assert_eq!(trial.redeliver_uncompleted(&one).await?, one.output);
    assert_eq!(ended(&trial).await?, json!([]));
    let all = sessions(&trial).await?;
    assert_eq!((all.len(), &all[0]["endTime"]), (1, &Value::Null));
    let end = trial.act("endSession", one.output.clone()).await?;
    assert_eq!(end.output, one.output);
    assert_eq!(trial.redeliver_uncompleted(&end).await?, end.output);
    let id = one.output["focusSession"].as_str().unwrap().to_owned();
    let over = json!({ "error": format!("FocusSession {id} has already ended.") });
    assert_eq!(trial.act("endSession", one.output.clone()).await?.output, over);
    assert_eq!(ended(&trial).await?, json!([id]));

    // Opening again ends the open session, and so does closing the document.
    let two = start(&trial, "emma").await?;
    start(&trial, "emma").await?;
    assert_eq!(trial.redeliver_uncompleted(&two).await?, two.output);
    assert_eq!(ended(&trial).await?.as_array().unwrap().len(), 2);
    let close = json!({ "user": "ada", "document": "emma" });
    let closed = trial.act("endOpenSession", close.clone()).await?;
    start(&trial, "emma").await?;
    assert_eq!(trial.redeliver_uncompleted(&closed).await?, json!({}));
    assert_eq!(ended(&trial).await?.as_array().unwrap().len(), 3);
    assert_eq!(trial.act("endOpenSession", close.clone()).await?.output, json!({}));
    assert_eq!(trial.act("endOpenSession", close).await?.output, json!({}));
    assert_eq!(ended(&trial).await?.as_array().unwrap().len(), 4);

    let removed = trial.act("removeSession", one.output.clone()).await?;
    assert_eq!(trial.redeliver_uncompleted(&removed).await?, json!({}));
    let gone = json!({ "error": format!("FocusSession {id} not found.") });
    assert_eq!(trial.act("removeSession", one.output.clone()).await?.output, gone);
    assert_eq!(trial.act("endSession", one.output.clone()).await?.output, gone);
    assert_eq!(trial.ask("_getOwner", one.output).await?, json!([]));
    assert_eq!(trial.ask("_getOwner", two.output).await?, json!([{ "user": "ada" }]));
    assert_eq!(ended(&trial).await?.as_array().unwrap().len(), 3);

    let deleted = trial.act("deleteAll", json!({ "user": "ada" })).await?;
    assert_eq!(trial.redeliver_uncompleted(&deleted).await?, json!({}));
    assert!(sessions(&trial).await?.is_empty());
    assert_eq!(start(&trial, "emma").await?.output, no_stats);
    Ok(())
}

#[tokio::test]
async fn twelve_starts_leave_one_open_session() -> Result<(), TrialError> {
    let trial = Trial::of(worker()).await?;
    let made = join_all((0..12).map(|_| trial.act("initUser", json!({ "user": "ada" })))).await;
    let made: Vec<Act> = made.into_iter().collect::<Result<_, _>>()?;
    let won = made.iter().filter(|act| act.output.get("focusStats").is_some());
    assert_eq!(won.count(), 1);
    let starts = join_all((0..12).map(|_| start(&trial, "emma"))).await;
    for act in starts {
        assert!(act?.output.get("focusSession").is_some());
    }
    let all = sessions(&trial).await?;
    let open = all.iter().filter(|session| session["endTime"].is_null());
    assert_eq!((all.len(), open.count()), (12, 1));
    Ok(())
}
