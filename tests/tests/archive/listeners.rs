//! Notifications of flows to subscribers.

use std::time::Duration;

use anyhow::Context as _;
use concert_tests::faulty::{self, Faulty};
use concert_tests::nats::subscribe;
use concert_tests::{Part, System};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::queries::{answers, post, with_archive};

#[tokio::test(flavor = "multi_thread")]
async fn subscriber_is_notified_of_new_flows() -> anyhow::Result<()> {
    let system = with_archive().await?;
    let operator = system.nats_as("operator").await?;
    let mut notices = subscribe(&operator, "notice.flows").await?;
    let id = post(&system, "/auth/logout", 404, &json!({ "session": "nobody's" })).await?;
    let received = async {
        while let Some(notice) = notices.next().await {
            let notice: Value = serde_json::from_slice(&notice.payload)?;
            let flows = notice["flows"].as_array().context("flows")?;
            if flows.iter().any(|row| row["flow"] == id.as_str() && row["status"] == 404) {
                return Ok(());
            }
        }
        anyhow::bail!("the connection is closed")
    };
    tokio::time::timeout(Duration::from_secs(60), received).await?
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriber_is_notified_of_a_slow_flow_before_its_response() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let [concepts, syncs] = faulty::rules(dir.path())?;
    // The flow is not archived before its response.
    let mut system = System::with(&[
        ("CONCERT_RULES__CONCEPTS", &concepts),
        ("CONCERT_RULES__SYNCS", &syncs),
        ("CONCERT_ARCHIVE__QUIET_MS", "60000"),
    ])
    .await?;
    system.start_part(Part::Archive)?;
    answers(&system).await?;
    let _worker = Faulty::run(&system)?;
    let first = json!(post(&system, "/faulty", 200, &json!({ "failure_mode": "good" })).await?);
    let operator = system.nats_as("operator").await?;
    let mut notices = subscribe(&operator, "notice.flows").await?;
    let received = async {
        let mut outcomes = Vec::new();
        while let Some(notice) = notices.next().await {
            let notice: Value = serde_json::from_slice(&notice.payload)?;
            let flows = notice["flows"].as_array().context("flows")?;
            let of_slow =
                flows.iter().filter(|row| row["path"] == "/faulty" && row["flow"] != first);
            outcomes.extend(of_slow.map(|row| (row["flow"].clone(), row["outcome"].clone())));
            if outcomes.last().is_some_and(|(_, outcome)| outcome != "open") {
                return Ok(outcomes);
            }
        }
        anyhow::bail!("the connection is closed")
    };
    let slow = json!({ "failure_mode": "slower" });
    let (received, id) = tokio::join!(
        tokio::time::timeout(Duration::from_secs(60), received),
        post(&system, "/faulty", 200, &slow)
    );
    let id = json!(id?);
    assert_eq!(received??, [(id.clone(), json!("open")), (id, json!("succeeded"))]);
    Ok(())
}
