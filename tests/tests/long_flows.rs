//! Flows with more messages than one read of the log answers with. A firing with many frames may
//! make one, and whoever may publish can.

use std::collections::BTreeSet;

use async_nats::Client;
use concert_tests::{Part, System};
use serde_json::json;
use uuid::Uuid;

/// A read of a flow answers with 1,024 messages at most.
const MESSAGES: usize = 1100;

/// Completions of a flow, as a worker would write them.
async fn complete(nats: &Client, flow: Uuid, count: usize) -> anyhow::Result<()> {
    for _ in 0..count {
        let subject = format!("done.{flow}.Sessioning.deleteAll.{}", Uuid::now_v7());
        let body = json!({ "input": { "user": "nobody" }, "output": {} }).to_string();
        nats.publish(subject, body.into()).await?;
    }
    nats.flush().await?;
    Ok(())
}

/// How many messages have dead letters.
async fn put_aside(system: &System) -> anyhow::Result<usize> {
    let subjects = system.header_values("DEAD", "dead.>", "Concert-Subject").await?;
    Ok(subjects.into_iter().collect::<BTreeSet<String>>().len())
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_flow_does_not_block_other_flows() -> anyhow::Result<()> {
    let mut system = System::start().await?;
    let nats = system.nats().await?;
    // Without a root nothing can come of it.
    complete(&nats, Uuid::now_v7(), MESSAGES).await?;
    system.routed().await?;
    assert_eq!(put_aside(&system).await?, MESSAGES);
    // Behind a root that the router knows, and that one which has nothing in memory reads.
    let answer = system.post("/auth/logout", &json!({ "session": "nobody's" })).await?;
    assert_eq!(answer.status, 404);
    let flow: Uuid = answer.headers["concert-flow"].to_str()?.parse()?;
    complete(&nats, flow, MESSAGES).await?;
    // Its headers can be read as a router gets them, with the server's own in the place of their
    // last two bytes, and not as they are stored.
    let odd = format!("done.{flow}.Sessioning.deleteAll.{}", Uuid::now_v7());
    let mut raw = system.raw_nats().await?;
    raw.publish(&odd, Some(b"N"), br#"{"input":{},"output":{}}"#).await?;
    raw.settled().await?;
    system.routed().await?;
    system.kill(Part::Router).await?;
    complete(&nats, flow, 3).await?;
    system.start_part(Part::Router)?;
    system.routed().await?;
    assert_eq!(put_aside(&system).await?, MESSAGES);
    let after = system.post("/auth/logout", &json!({ "session": "nobody's" })).await?;
    assert_eq!(after.status, 404);
    Ok(())
}
