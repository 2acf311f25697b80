//! The NATS server as seen from the network of the compose project.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::StreamExt as _;
use serde_json::Value;

use crate::SCALE;
use crate::stack::Stack;

/// Silence after which no further response is expected.
const QUIET: Duration = Duration::from_secs(1);

/// A client without a key is rejected, the operator is accepted, and every worker container
/// answers.
pub(crate) async fn is_closed_and_served_by_all(stack: &Stack) -> anyhow::Result<()> {
    let nats = stack.one("nats").await?;
    let url = format!("nats://{}:4222", nats.ip);
    let stranger = async_nats::connect(&url).await;
    ensure!(stranger.is_err(), "NATS accepts a client without a key");
    let seed = stack.run("cat", &["/keys/nats/operator.nk"]).await?;
    let operator = async_nats::ConnectOptions::with_nkey(seed.trim().to_owned());
    let operator = operator.connect(&url).await?;
    let inbox = operator.new_inbox();
    let mut answers = operator.subscribe(inbox.clone()).await?;
    operator.publish_with_reply("$SRV.PING", inbox, "".into()).await?;
    let mut found = BTreeMap::<String, usize>::new();
    while let Ok(Some(answer)) = tokio::time::timeout(QUIET, answers.next()).await {
        let answer: Value = serde_json::from_slice(&answer.payload)?;
        let name = answer.get("name").and_then(Value::as_str).context("no name")?;
        *found.entry(name.to_owned()).or_default() += 1;
    }
    let of = |service: &str| {
        SCALE.iter().find(|(name, _)| *name == service).map_or(0, |(_, count)| *count)
    };
    for (service, name) in
        [("profile", "Profile"), ("sessioning", "Sessioning"), ("archive", "Concert")]
    {
        let found = found.get(name).copied().unwrap_or_default();
        ensure!(found == of(service), "{found} instances of {name} answer");
    }
    let answer =
        operator.request("concept.Profile._getUserByName", r#"{"username":"ada"}"#.into()).await?;
    ensure!(answer.payload.starts_with(br#"{"rows":[{"#), "{answer:?}");
    Ok(())
}
