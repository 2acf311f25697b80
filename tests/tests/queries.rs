//! Queries of a worker that is slow, missing, or contradicts its spec; queries of many frames.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a response without these members fails the test"
)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::ensure;
use async_nats::{Client, HeaderMap};
use concert_tests::weathering::{RULE, SPEC};
use concert_tests::{Load, Part, System, faulty, http, nats};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery";
/// Timeout until every client has a response.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Queries the sky over each town.
const SKIES: &str = r#"
sync ShowSkies
when
    Requesting.request (path: "/skies", towns) : (request)
where
    each town in towns
    Weathering._getSky (town) : (sky)
    collect (town, sky) as skies
then
    Requesting.respond (request, skies)
"#;

/// The project with a concept that has a query and no worker.
async fn system(
    dir: &tempfile::TempDir,
    settings: &[(&'static str, &str)],
) -> anyhow::Result<System> {
    let [concepts, syncs] = faulty::rules(dir.path())?;
    std::fs::write(dir.path().join("concepts/Weathering.concept"), SPEC)?;
    std::fs::write(dir.path().join("syncs/sky.sync"), format!("{RULE}{SKIES}"))?;
    let own = [("CONCERT_RULES__CONCEPTS", &*concepts), ("CONCERT_RULES__SYNCS", &*syncs)];
    System::with(&[&own, settings].concat()).await
}

/// A worker in another language: it returns these rows after a delay. Returns the number of
/// queries that it has received.
async fn worker(client: &Client, delay: Duration, rows: Value) -> anyhow::Result<Arc<AtomicUsize>> {
    let mut queries = nats::subscribe(client, "concept.Weathering._getSky").await?;
    let received = Arc::new(AtomicUsize::new(0));
    let (count, client) = (received.clone(), client.clone());
    let body = json!({ "rows": rows }).to_string();
    tokio::spawn(async move {
        while let Some(query) = queries.next().await {
            count.fetch_add(1, Ordering::Relaxed);
            let (client, body) = (client.clone(), body.clone());
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                if let Some(reply) = query.reply {
                    drop(client.publish(reply, body.into()).await);
                }
            });
        }
    });
    Ok(received)
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_query_runs_once_and_its_rows_arrive() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let settings = [("CONCERT_ROUTER__QUERY_TIMEOUT_MS", "300")];
    let system = system(&dir, &settings).await?;
    let client = system.nats_as("weathering").await?;
    let received = worker(&client, Duration::from_secs(3), json!([{ "sky": "blue" }])).await?;
    let answer = system.post("/sky", &json!({ "town": "Ulm" })).await?;
    assert_eq!((answer.status, answer.text("sky")?), (200, "blue"), "{answer:?}");
    assert_eq!(received.load(Ordering::Relaxed), 1, "one copy of the query");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_contradict_the_spec_are_a_named_fault() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let system = system(&dir, &[]).await?;
    let client = system.nats_as("weathering").await?;
    worker(&client, Duration::ZERO, json!([{ "skies": "blue" }])).await?;
    let answer = system.post("/sky", &json!({ "town": "Ulm" })).await?;
    assert_eq!(answer.status, 500, "{answer:?}");
    assert!(answer.text("error")?.contains("Weathering: a row of _getSky"), "{answer:?}");
    let log = system.log(Part::Router)?;
    assert!(log.contains("a worker contradicts its spec"), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_worker_does_not_block_other_paths() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let settings = [("CONCERT_HTTP__DEADLINE_MS", "3000"), ("CONCERT_ROUTER__QUERIES", "4")];
    let system = system(&dir, &settings).await?;
    system.account("ada", PASSWORD).await?;
    let session = json!({ "session": system.login("ada", PASSWORD).await? });
    // It receives queries and never responds.
    let client = system.nats_as("weathering").await?;
    let _hanging = nats::subscribe(&client, "concept.Weathering._getSky").await?;
    let edge = system.address();
    let mut load = Load::begin(16, |_, rounds| async move {
        while rounds.continues() {
            let answer = http::post(edge, "/api/sky", &json!({ "town": "Ulm" })).await?;
            ensure!(answer.status >= 500, "{answer:?}");
            rounds.done();
        }
        Ok(())
    });
    for _ in 0..3 {
        load.wait_for_progress(TIMEOUT).await?;
        system.login("ada", PASSWORD).await?;
        // A path with a query of another concept.
        assert_eq!(system.post("/auth/whoami", &session).await?.status, 200);
    }
    load.end().await?;
    // All completions have become dead letters, with few lines in the log.
    system.routed().await?;
    let letters = system.header_values("DEAD", "dead.>", "Concert-Subject").await?.len();
    let log = system.log(Part::Router)?;
    let logged = log.lines().filter(|line| line.contains("dead letter")).count();
    assert!(logged > 0 && logged < letters, "{logged} lines about {letters} dead letters: {log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn query_ends_with_its_caller_and_is_retried_by_hand() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let settings = [
        ("CONCERT_HTTP__DEADLINE_MS", "1000"),
        ("CONCERT_TELEMETRY__METRICS_LISTEN", "localhost:0"),
    ];
    let system = system(&dir, &settings).await?;
    let answer = system.post("/sky", &json!({ "town": "Ulm" })).await?;
    assert_eq!(answer.status, 504, "{answer:?}");
    let flow = answer.headers["concert-flow"].to_str()?.to_owned();
    let dead = async |args: &[&str]| -> anyhow::Result<String> {
        let done = system.concert(&["dead"]).args(args).output().await?;
        Ok(String::from_utf8([done.stdout, done.stderr].concat())?)
    };
    let listed = system
        .until("the completion is dead-lettered", async |_: &System| {
            let listed = dead(&["list", "--json"]).await?;
            Ok(listed.contains(&flow).then_some(listed))
        })
        .await?;
    assert!(listed.contains("the query Weathering._getSky has no result"), "{listed}");
    // Nothing is left for the router to do.
    system.routed().await?;
    let metrics = http::metrics(&system.metrics_address(Part::Router).await?).await?;
    let abandoned = metrics.get(r#"concert_router_queries_abandoned_total{concept="Weathering"}"#);
    assert_eq!(abandoned, Some(&1.0), "{metrics:?}");

    let client = system.nats_as("weathering").await?;
    worker(&client, Duration::ZERO, json!([{ "sky": "blue" }])).await?;
    let retried = dead(&["retry", "--all"]).await?;
    assert!(retried.contains("the rules have fired"), "{retried}");
    system
        .until("the flow continues", async |system: &System| {
            let log = system.flow(&flow).await?;
            let has_response = |(subject, body): &(String, Value)| {
                subject.contains(".Requesting.respond.") && body.to_string().contains("blue")
            };
            Ok(log.iter().any(has_response).then_some(()))
        })
        .await?;
    assert_eq!(dead(&["list", "--json"]).await?.trim(), "");
    Ok(())
}

/// A worker that serves batches, and returns an error for those with more inputs than `most`.
/// Returns the numbers of inputs that it has received.
async fn batch_worker(client: &Client, most: usize) -> anyhow::Result<Arc<Mutex<Vec<usize>>>> {
    let mut batches = nats::subscribe(client, "concept.Weathering.query-batch").await?;
    let received: Arc<Mutex<Vec<usize>>> = Arc::default();
    let (sizes, client) = (received.clone(), client.clone());
    tokio::spawn(async move {
        while let Some(batch) = batches.next().await {
            let body: Value = serde_json::from_slice(&batch.payload).unwrap();
            assert_eq!(body["query"], "_getSky");
            let towns = body["inputs"].as_array().unwrap();
            sizes.lock().unwrap().push(towns.len());
            let rows = |of: &Value| json!([{ "sky": format!("over {}", of["town"]) }]);
            let results = json!({ "results": towns.iter().map(rows).collect::<Vec<_>>() });
            let mut headers = HeaderMap::new();
            if towns.len() > most {
                headers.insert("Nats-Service-Error-Code", "413");
                headers.insert("Nats-Service-Error", "too large");
            }
            let reply = batch.reply.unwrap();
            client.publish_with_headers(reply, headers, results.to_string().into()).await.unwrap();
        }
    });
    Ok(received)
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_a_step_query_with_one_message_if_the_worker_serves_batches() -> anyhow::Result<()>
{
    let dir = tempfile::tempdir()?;
    let system = system(&dir, &[]).await?;
    let client = system.nats_as("weathering").await?;
    let towns = |count: usize| (0..count).map(|number| format!("t{number}")).collect::<Vec<_>>();
    let ask = async |count: usize| {
        let answer = system.post("/skies", &json!({ "towns": towns(count) })).await?;
        assert_eq!(answer.status, 200, "{answer:?}");
        anyhow::Ok(answer.body["skies"].clone())
    };
    let skies = |count: usize, sky: fn(&str) -> String| {
        let row = |town: String| json!({ "sky": sky(&town), "town": town });
        Value::from(towns(count).into_iter().map(row).collect::<Vec<_>>())
    };
    let blue: fn(&str) -> String = |_| "blue".to_owned();
    let over: fn(&str) -> String = |town| format!("over \"{town}\"");

    // A worker without batches gets one message per input.
    let single = worker(&client, Duration::ZERO, json!([{ "sky": "blue" }])).await?;
    assert_eq!(ask(3).await?, skies(3, blue));
    assert_eq!(single.load(Ordering::Relaxed), 3);

    let batches = batch_worker(&client, 60).await?;
    assert_eq!(ask(20).await?, skies(20, over));
    assert_eq!(ask(1).await?, skies(1, blue));
    assert_eq!(
        (batches.lock().unwrap().as_slice(), single.load(Ordering::Relaxed)),
        (&[20][..], 4)
    );
    // A batch has at most 100 inputs. The first one here is too large for its worker.
    let found = ask(120).await?;
    assert_eq!(found[119], skies(120, over)[119]);
    assert_eq!(found[0], skies(1, blue)[0]);
    let mut sizes = batches.lock().unwrap().clone();
    sizes.sort_unstable();
    assert_eq!((sizes, single.load(Ordering::Relaxed)), (vec![20, 20, 100], 104));
    Ok(())
}
