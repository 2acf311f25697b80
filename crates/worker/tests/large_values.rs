//! Large values on real servers: a handler gets and returns whole texts, messages only references.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its results fails")]

use concert_worker::trial::{Trial, TrialError};
use concert_worker::{
    Call, Fingerprint, Large, NoSettings, Query, Start, StartError, Stop, Worker, concept,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const SPEC: &str = "concept Echo
purpose return texts
actions
    echo (text: String, short?: String(40000)) : (text: String, chars: Number)
queries
    _echo (text: String) : (texts: seq of {text: String})
    _twice (text: String) : (first: String, second: String)
";

struct Echo;

#[derive(Deserialize)]
struct Text {
    text: String,
}

#[derive(Serialize)]
struct Echoed {
    text: String,
    chars: usize,
}

#[derive(Serialize)]
struct Twice {
    first: Large,
    second: Large,
}

fn worker() -> Worker {
    concept(SPEC)
        .open(async |_: Start<NoSettings>| Ok::<_, StartError>(Echo))
        .action("echo", Echo::echo)
        .query("_echo", Echo::texts)
        .query("_twice", Echo::twice)
        .build()
}

impl Echo {
    async fn echo(&self, call: Call<Text>) -> Result<Echoed, Stop> {
        let Text { text } = call.input;
        Ok(Echoed { chars: text.chars().count(), text })
    }

    async fn texts(&self, query: Query<Text>) -> Result<concert_worker::One<Value>, Stop> {
        Ok(concert_worker::One(json!({ "texts": [{ "text": query.input.text }] })))
    }

    /// The second text is on the bus already, so it is not loaded.
    async fn twice(&self, query: Query<Text>) -> Result<concert_worker::One<Twice>, Stop> {
        let mut text = query.input.text.clone();
        let fingerprint = Fingerprint::of(&mut text).await?;
        let first = query.large(fingerprint.as_ref(), async { Ok(Some(text.clone())) });
        let first = first.await?.unwrap();
        let second = query.large(fingerprint.as_ref(), async { Ok(None) });
        Ok(concert_worker::One(Twice { first, second: second.await?.unwrap() }))
    }
}

/// A text of 845 KB, which has two chunks.
fn book() -> String {
    (0..65_000).map(|number| format!("{number:09} é\n")).collect()
}

async fn blobs(trial: &Trial) -> Result<u64, TrialError> {
    Ok(trial.stream_size("BLOBS").await?.0)
}

#[tokio::test]
async fn large_values_pass_through_actions_and_queries() -> Result<(), TrialError> {
    let trial = Trial::of(worker()).await?;
    let text = book();
    let act = trial.act("echo", json!({ "text": text })).await?;
    assert!(act.output == json!({ "text": text, "chars": text.chars().count() }));
    // The log contains the input and the output, and both are references.
    let (_, log_bytes) = trial.stream_size("COMPLETIONS").await?;
    assert!(log_bytes < 2_000, "{log_bytes}");

    // A redelivery, and an equal row, store nothing again.
    let stored = blobs(&trial).await?;
    assert!(stored >= 3, "{stored}");
    assert!(trial.redeliver_uncompleted(&act).await? == act.output);
    let rows = trial.ask("_echo", json!({ "text": text })).await?;
    assert!(rows == json!([{ "texts": [{ "text": text }] }]));
    let rows = trial.ask("_twice", json!({ "text": text })).await?;
    assert!(rows == json!([{ "first": text, "second": text }]));
    assert_eq!(blobs(&trial).await?, stored);

    // Short values stay in the messages.
    let short = "x".repeat(32 * 1024);
    let act = trial.act("echo", json!({ "text": short })).await?;
    assert_eq!(act.output["chars"], 32 * 1024);
    assert_eq!(blobs(&trial).await?, stored);
    Ok(())
}

#[tokio::test]
async fn length_of_a_large_value_is_counted_in_characters() -> Result<(), TrialError> {
    let trial = Trial::of(worker()).await?;
    let act = trial.act("echo", json!({ "text": "", "short": "é".repeat(40_000) })).await?;
    assert_eq!(act.output, json!({ "text": "", "chars": 0 }));
    let act = trial.act("echo", json!({ "text": "", "short": "é".repeat(40_001) })).await?;
    let error = "`short` must be a string of at most 40000 characters";
    assert_eq!(act.output, json!({ "error": error, "fault": "invalid" }));
    Ok(())
}

#[tokio::test]
async fn expired_value_is_a_fault_of_its_own() -> Result<(), TrialError> {
    let trial = Trial::of(worker()).await?;
    let nowhere = format!("large:{}:40000:{}", "A".repeat(22), "0".repeat(64));
    let act = trial.act("echo", json!({ "text": nowhere })).await?;
    let error = "a large value of the input has expired";
    assert_eq!(act.output, json!({ "error": error, "fault": "expired" }));
    let asked = trial.ask("_echo", json!({ "text": nowhere })).await.unwrap_err().to_string();
    assert!(asked.contains("error 410") && asked.contains(error), "{asked}");
    Ok(())
}

#[tokio::test]
async fn value_above_the_budget_is_a_fault() -> Result<(), TrialError> {
    let mut trial = Trial::of(worker()).await?;
    trial.limits_mut().large_value_budget_bytes = 64 * 1024;
    trial.restart().await?;
    let act = trial.act("echo", json!({ "text": "x".repeat(64 * 1024) })).await?;
    assert_eq!(act.output["chars"], 64 * 1024);
    let act = trial.act("echo", json!({ "text": "x".repeat(64 * 1024 + 1) })).await?;
    assert_eq!(act.output["fault"], "invalid");
    let error = act.output["error"].as_str().unwrap();
    assert!(error.contains("65537") && error.contains("workers.large_value"), "{error}");
    Ok(())
}
