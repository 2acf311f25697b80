//! Flows with more messages than one read of the log returns. A firing with many frames can create
//! one, and so can any client that may publish.

use std::collections::BTreeSet;

use async_nats::Client;
use concert_tests::{Part, System};
use serde_json::json;
use uuid::Uuid;

/// More than the 1,024 messages that one read of a flow returns.
const MESSAGES: usize = 1100;

/// Publishes completions of a flow as a worker would.
async fn complete(nats: &Client, flow: Uuid, count: usize) -> anyhow::Result<()> {
    for _ in 0..count {
        let subject = format!("done.{flow}.Sessioning.deleteAll.{}", Uuid::now_v7());
        let body = json!({ "input": { "user": "nobody" }, "output": {} }).to_string();
        nats.publish(subject, body.into()).await?;
    }
    nats.flush().await?;
    Ok(())
}

/// Number of messages with dead letters.
async fn dead_lettered(system: &System) -> anyhow::Result<usize> {
    let subjects = system.header_values("DEAD", "dead.>", "Concert-Subject").await?;
    Ok(subjects.into_iter().collect::<BTreeSet<String>>().len())
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_flow_does_not_block_other_flows() -> anyhow::Result<()> {
    let mut system = System::start().await?;
    let nats = system.nats().await?;
    // A flow without a root cannot continue.
    complete(&nats, Uuid::now_v7(), MESSAGES).await?;
    system.routed().await?;
    assert_eq!(dead_lettered(&system).await?, MESSAGES);
    // The flow of a root that the router knows, which a restarted router has to read.
    let answer = system.post("/auth/logout", &json!({ "session": "nobody's" })).await?;
    assert_eq!(answer.status, 404);
    let flow: Uuid = answer.headers["concert-flow"].to_str()?.parse()?;
    complete(&nats, flow, MESSAGES).await?;
    // Headers that are valid as a router gets them, with the server's header in place of the last
    // two bytes, but not as stored.
    let odd = format!("done.{flow}.Sessioning.deleteAll.{}", Uuid::now_v7());
    let mut raw = system.raw_nats().await?;
    raw.publish(&odd, Some(b"N"), br#"{"input":{},"output":{}}"#).await?;
    raw.round_trip().await?;
    system.routed().await?;
    system.kill(Part::Router).await?;
    complete(&nats, flow, 3).await?;
    system.start_part(Part::Router)?;
    system.routed().await?;
    assert_eq!(dead_lettered(&system).await?, MESSAGES);
    let after = system.post("/auth/logout", &json!({ "session": "nobody's" })).await?;
    assert_eq!(after.status, 404);
    Ok(())
}
