//! Killed archives, and an archive without its database.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use concert_tests::{Part, System, http};
use serde_json::json;
use uuid::Uuid;

use super::purge_log;
use super::queries::{answers, flow, flows, holds_exactly, logouts, with_archive};

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
    // The standby takes over where the other archive stopped.
    system.terminate(Part::Archive).await?;
    expected.append(&mut logouts(&system, 60).await?);
    holds_exactly(&system, &expected).await?;
    purge_log(&system).await?;
    let one = expected.first().context("a flow")?;
    assert_eq!(flow(&system, one).await?["actions"].as_array().map(Vec::len), Some(3));
    Ok(())
}

/// Stops the database of an archive with a limit while more than the limit backlog to be archived.
/// The backlog, reported by `metric`, reaches the limit, exceeds it by at most `beyond`, and stays
/// there. Afterwards nothing is missing.
async fn backlog_stays_at(
    limit: (&'static str, f64),
    metric: &str,
    beyond: f64,
    user: &str,
) -> anyhow::Result<()> {
    let most = limit.1.to_string();
    let mut system =
        System::with(&[(limit.0, &most), ("CONCERT_TELEMETRY__METRICS_LISTEN", "127.0.0.1:0")])
            .await?;
    system.start_part(Part::Archive)?;
    answers(&system).await?;
    let address = system.metrics_address(Part::Archive).await?;
    let mut expected = logouts(&system, 20).await?;
    // Completions as their worker would publish them: the workers have no database either.
    let nats = system.nats().await?;
    let complete = async || -> anyhow::Result<()> {
        let id = Uuid::now_v7();
        let body = json!({ "input": { "user": user }, "output": {} }).to_string();
        nats.publish(format!("done.{id}.Sessioning.deleteAll.{id}"), body.into()).await?;
        Ok(nats.flush().await?)
    };
    system.servers.mongo.kill().await;
    // A write of one flow starts and does not finish.
    complete().await?;
    system
        .until("a write is stuck", async |system: &System| {
            let log = system.log(Part::Archive)?;
            Ok(log.contains("cannot archive flows").then_some(()))
        })
        .await?;
    // More than the limit: the log keeps the rest.
    for _ in 0..250 {
        complete().await?;
    }
    let is_full = async || -> anyhow::Result<bool> {
        let backlog = http::metrics(&address).await?[metric];
        assert!(backlog <= limit.1 + beyond, "{metric}: {backlog}");
        Ok(backlog >= limit.1)
    };
    system
        .until("as much backlog as may", async |_: &System| Ok(is_full().await?.then_some(())))
        .await?;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(is_full().await?);
    }
    system.servers.mongo.restart().await?;
    let injected = json!({ "action": "Sessioning.deleteAll", "limit": 500 });
    assert_eq!(flows(&system, &injected, 251).await?.len(), 251);
    expected.append(&mut logouts(&system, 40).await?);
    holds_exactly(&system, &expected).await
}

#[tokio::test(flavor = "multi_thread")]
async fn archive_waits_for_mongodb_and_loses_nothing() -> anyhow::Result<()> {
    let limit = ("CONCERT_ARCHIVE__MESSAGES", 100.0);
    backlog_stays_at(limit, "concert_archive_waiting_messages", 0.0, "nobody").await
}

#[tokio::test(flavor = "multi_thread")]
async fn backlog_waiting_for_mongodb_is_limited_in_bytes() -> anyhow::Result<()> {
    let limit = ("CONCERT_ARCHIVE__BYTES", 1_048_576.0);
    // The message that reaches the limit may exceed it, in its delivered and in its stored form.
    backlog_stays_at(limit, "concert_archive_waiting_bytes", 40_000.0, &"x".repeat(16_000)).await
}
