//! Responses to clients while a server is down, and afterwards.

use concert_tests::{Part, System};
use serde_json::json;

const PASSWORD: &str = "correct horse battery";

#[tokio::test(flavor = "multi_thread")]
async fn requests_get_503_while_nats_is_down_and_succeed_afterwards() -> anyhow::Result<()> {
    // Much longer than the test: an edge that waits for its deadline fails it.
    let mut system = System::with(&[("CONCERT_HTTP__DEADLINE_MS", "600000")]).await?;
    system.account("ada", PASSWORD).await?;
    let credentials = json!({ "username": "ada", "password": PASSWORD });
    system.servers.nats.kill().await;
    system
        .until("the edge has noticed", async |system: &System| {
            Ok(system.log(Part::Edge)?.contains("the connection to NATS is lost").then_some(()))
        })
        .await?;
    let refused = system.post("/auth/login", &credentials).await?;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(refused.headers["concert-answered-by"], "edge");
    system.servers.nats.restart().await?;
    system
        .until("a login succeeds", async |system: &System| {
            Ok((system.post("/auth/login", &credentials).await?.status == 200).then_some(()))
        })
        .await?;
    // Rejected requests have no flow.
    assert_eq!(
        system.stream_messages("COMPLETIONS", "done.*.Profile.authenticate.*").await?.len(),
        1
    );
    Ok(())
}
