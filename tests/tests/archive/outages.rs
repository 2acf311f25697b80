//! Archives that are killed, and one whose database is away.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use concert_tests::{Part, System, http};
use serde_json::json;
use uuid::Uuid;

use crate::asking::{answers, flow, flows, holds_exactly, logouts, with_archive};
use crate::empty_the_log;

#[tokio::test(flavor = "multi_thread")]
async fn killed_archive_resumes_and_two_archives_write_each_flow_once() -> anyhow::Result<()> {
    let mut system = with_archive().await?;
    let mut expected = BTreeSet::new();
    for _ in 0..3 {
        expected.append(&mut logouts(&system, 60).await?);
        system.kill(Part::Archive).await?;
        expected.append(&mut logouts(&system, 20).await?);
        system.start_part(Part::Archive)?;
    }
    answers(&system).await?;
    system.start_one(Part::Archive, 1)?;
    expected.append(&mut logouts(&system, 60).await?);
    // The standby takes over what the other leaves.
    system.terminate(Part::Archive).await?;
    expected.append(&mut logouts(&system, 60).await?);
    holds_exactly(&system, &expected).await?;
    empty_the_log(&system).await?;
    let one = expected.first().context("a flow")?;
    assert_eq!(flow(&system, one).await?["actions"].as_array().map(Vec::len), Some(3));
    Ok(())
}

/// An archive with one bound, whose database is away while there is more to archive than that: what
/// waits, in `figure`, comes to the bound, by no more than `beyond`, and stays there; afterwards
/// nothing lacks.
async fn waits_at_its_bound(
    bound: (&'static str, f64),
    figure: &str,
    beyond: f64,
    user: &str,
) -> anyhow::Result<()> {
    let most = bound.1.to_string();
    let mut system =
        System::with(&[(bound.0, &most), ("CONCERT_TELEMETRY__METRICS_LISTEN", "127.0.0.1:0")])
            .await?;
    system.start_part(Part::Archive)?;
    answers(&system).await?;
    let figures = system.figures_at(Part::Archive).await?;
    let mut expected = logouts(&system, 20).await?;
    // Actions that were done, as their worker would write them: the workers are without a database,
    // too.
    let nats = system.nats().await?;
    let complete = async || -> anyhow::Result<()> {
        let id = Uuid::now_v7();
        let body = json!({ "input": { "user": user }, "output": {} }).to_string();
        nats.publish(format!("done.{id}.Sessioning.deleteAll.{id}"), body.into()).await?;
        Ok(nats.flush().await?)
    };
    system.servers.mongo.kill().await;
    // One flow is on its way into the database, and stays so.
    complete().await?;
    system
        .until("a write is stuck", async |system: &System| {
            let log = system.log(Part::Archive)?;
            Ok(log.contains("cannot archive flows").then_some(()))
        })
        .await?;
    // More than the archive has room for: the log keeps the rest.
    for _ in 0..250 {
        complete().await?;
    }
    let is_full = async || -> anyhow::Result<bool> {
        let waits = http::figures(&figures).await?[figure];
        assert!(waits <= bound.1 + beyond, "{figure}: {waits}");
        Ok(waits >= bound.1)
    };
    system
        .until("as much waits as may", async |_: &System| Ok(is_full().await?.then_some(())))
        .await?;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(is_full().await?);
    }
    system.servers.mongo.restart().await?;
    let by_hand = json!({ "action": "Sessioning.deleteAll", "limit": 500 });
    assert_eq!(flows(&system, &by_hand, 251).await?.len(), 251);
    expected.append(&mut logouts(&system, 40).await?);
    holds_exactly(&system, &expected).await
}

#[tokio::test(flavor = "multi_thread")]
async fn archive_waits_for_mongodb_and_loses_nothing() -> anyhow::Result<()> {
    let bound = ("CONCERT_ARCHIVE__MESSAGES", 100.0);
    waits_at_its_bound(bound, "concert_archive_waiting_messages", 0.0, "nobody").await
}

#[tokio::test(flavor = "multi_thread")]
async fn backlog_waiting_for_mongodb_is_limited_in_bytes() -> anyhow::Result<()> {
    let bound = ("CONCERT_ARCHIVE__BYTES", 1_048_576.0);
    // The message that reaches the bound may go beyond it: as it was delivered, and as it will be
    // written.
    waits_at_its_bound(bound, "concert_archive_waiting_bytes", 40_000.0, &"x".repeat(16_000)).await
}
