//! Queries to the archive and waits on it.

use std::collections::BTreeSet;

use anyhow::Context as _;
use concert_tests::{Part, System, service_error};
use serde_json::{Value, json};

/// Queries the archive as the operator.
pub(crate) async fn ask(system: &System, query: &str, input: &Value) -> anyhow::Result<Vec<Value>> {
    let operator = system.nats_as("operator").await?;
    let subject = format!("concept.Concert.{query}");
    let answer = operator.request(subject, input.to_string().into()).await?;
    if let Some((_, error)) = service_error(&answer) {
        anyhow::bail!("{query}: {error}");
    }
    let answer: Value = serde_json::from_slice(&answer.payload)?;
    Ok(answer["rows"].as_array().context("no rows")?.clone())
}

pub(crate) async fn flow(system: &System, flow: &str) -> anyhow::Result<Value> {
    ask(system, "_flow", &json!({ "flow": flow })).await?.pop().context("flow not found")
}

/// Waits until this many flows match a filter, and returns their rows.
pub(crate) async fn flows(
    system: &System,
    filter: &Value,
    count: usize,
) -> anyhow::Result<Vec<Value>> {
    system
        .until("the flows are archived", async |system: &System| {
            // The archive or its database may be starting.
            let rows = ask(system, "_flows", filter).await.ok();
            Ok(rows.filter(|rows| rows.len() >= count))
        })
        .await
}

pub(crate) async fn with_archive() -> anyhow::Result<System> {
    let mut system = System::start().await?;
    system.start_part(Part::Archive)?;
    answers(&system).await?;
    Ok(system)
}

/// Waits until an archive answers.
pub(crate) async fn answers(system: &System) -> anyhow::Result<()> {
    system
        .until("the archive answers", async |system: &System| {
            Ok(ask(system, "_rules", &json!({})).await.ok().map(drop))
        })
        .await
}

/// Posts a request and returns the ID of its flow.
pub(crate) async fn post(
    system: &System,
    path: &str,
    status: u16,
    body: &Value,
) -> anyhow::Result<String> {
    let answer = system.post(path, body).await?;
    anyhow::ensure!(answer.status == status, "{answer:?}");
    Ok(answer.headers["concert-flow"].to_str()?.to_owned())
}

/// Logs out `count` times with an unknown session and returns the flows.
pub(crate) async fn logouts(system: &System, count: usize) -> anyhow::Result<BTreeSet<String>> {
    let nobody = json!({ "session": "nobody's" });
    let mut flows = BTreeSet::new();
    for _ in 0..count {
        flows.insert(post(system, "/auth/logout", 404, &nobody).await?);
    }
    Ok(flows)
}

pub(crate) async fn holds_exactly(
    system: &System,
    expected: &BTreeSet<String>,
) -> anyhow::Result<()> {
    let filter = json!({ "path": "/auth/logout", "limit": 500 });
    let rows = flows(system, &filter, expected.len()).await?;
    let ids: Vec<String> =
        rows.iter().filter_map(|row| Some(row["flow"].as_str()?.to_owned())).collect();
    assert_eq!(ids.len(), expected.len(), "no flow is listed twice");
    assert_eq!(&ids.into_iter().collect::<BTreeSet<_>>(), expected);
    // Each flow is complete and has a response.
    for row in &rows {
        assert_eq!((&row["status"], &row["actions"]), (&json!(404), &json!(3)), "{row}");
    }
    Ok(())
}
