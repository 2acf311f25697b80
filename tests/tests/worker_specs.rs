//! Workers that are missing or have another spec than the rules.

use std::sync::{Arc, Mutex, PoisonError};

use async_nats::Client;
use concert_lang::concept;
use concert_tests::weathering::{RULE, SPEC};
use concert_tests::{Part, System, faulty, http::Answer, nats};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::task::JoinHandle;

fn hash(spec: &str) -> anyhow::Result<String> {
    Ok(concept::parse_one("Weathering.concept", spec).map_err(anyhow::Error::msg)?.hash())
}

/// A worker in another language that announces a spec.
async fn worker(client: &Client, announced: Arc<Mutex<String>>) -> anyhow::Result<JoinHandle<()>> {
    let mut pings = nats::subscribe(client, "$SRV.PING.Weathering").await?;
    let mut queries = nats::subscribe(client, "concept.Weathering._getSky").await?;
    let client = client.clone();
    Ok(tokio::spawn(async move {
        loop {
            let (request, body) = tokio::select! {
                Some(ping) = pings.next() => {
                    let spec = announced.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    (ping, json!({ "id": "one", "metadata": { "concert-spec": spec } }))
                }
                Some(query) = queries.next() => (query, json!({ "rows": [{ "sky": "blue" }] })),
                else => return,
            };
            if let Some(reply) = request.reply {
                drop(client.publish(reply, body.to_string().into()).await);
            }
        }
    }))
}

/// Asks for the sky until the response has this status and text.
async fn until(system: &System, status: u16, text: &str) -> anyhow::Result<Answer> {
    system
        .until(text, async |system: &System| {
            let answer = system.post("/sky", &json!({ "town": "Ulm" })).await?;
            let is_it = answer.status == status && answer.body.to_string().contains(text);
            Ok(is_it.then_some(answer))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_of_a_missing_or_different_worker_get_503() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let [concepts, syncs] = faulty::rules(dir.path())?;
    let file = dir.path().join("concepts/Weathering.concept");
    std::fs::write(&file, SPEC)?;
    // The table of release 0.1.0 has no paths with a method.
    std::fs::write(dir.path().join("syncs/sky.sync"), RULE.replace("/sky", "POST /sky"))?;
    let mut system = System::with(&[
        ("CONCERT_RULES__CONCEPTS", &concepts),
        ("CONCERT_RULES__SYNCS", &syncs),
        ("CONCERT_RULES__POLL_MS", "50"),
        ("CONCERT_ROUTER__WORKER_GRACE_MS", "1"),
        ("CONCERT_HTTP__DEADLINE_MS", "2000"),
    ])
    .await?;
    let missing = until(&system, 503, "the concept `Weathering` has no worker").await?;
    assert!(missing.headers.contains_key("retry-after"), "{missing:?}");
    // Other paths are not affected, as soon as the router knows their workers.
    let account = json!({ "username": "ada", "password": "correct horse battery" });
    system
        .until("another path is served", async |system: &System| {
            let answer = system.post("/auth/createAccount", &account).await?;
            Ok((answer.status == 200).then_some(()))
        })
        .await?;

    let client = system.nats_as("weathering").await?;
    let announced = Arc::new(Mutex::new("0000".to_owned()));
    let announce = |hash: String| {
        *announced.lock().unwrap_or_else(PoisonError::into_inner) = hash;
    };
    let running = worker(&client, announced.clone()).await?;
    until(&system, 503, "the worker of `Weathering` has another spec").await?;
    announce(hash(SPEC)?);
    until(&system, 200, "blue").await?;

    // The spec changes under the running worker. It is detected before the change is active.
    let changed = SPEC.replace("(sky: String)", "(sky: String, wind?: String)");
    std::fs::write(&file, &changed)?;
    until(&system, 503, "the worker of `Weathering` has another spec").await?;
    let log = system.log(Part::Router)?;
    assert!(log.contains("update the older one; until then"), "{log}");
    announce(hash(&changed)?);
    until(&system, 200, "blue").await?;

    // A worker that ran before is only down. A router that starts now does not know that, and must
    // not contradict the active one.
    running.abort();
    system.start_one(Part::Router, 1)?;
    system.ready().await?;
    system
        .until("the new router misses the worker", async |system: &System| {
            // The first router reported it once, at the start.
            let log = system.log(Part::Router)?;
            Ok((log.matches("the concept `Weathering` has no worker").count() == 2).then_some(()))
        })
        .await?;
    for _ in 0..4 {
        let answer = system.post("/sky", &json!({ "town": "Ulm" })).await?;
        assert_eq!(answer.status, 504, "{answer:?}");
    }
    Ok(())
}
