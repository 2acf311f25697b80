//! Dead letters: their reasons, their effect on the caller, and the command `concert dead`.

use anyhow::Context as _;
use async_nats::jetstream::AckKind;
use concert_tests::faulty::{self, Faulty};
use concert_tests::{Part, System};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use uuid::Uuid;

async fn system(dir: &tempfile::TempDir) -> anyhow::Result<System> {
    let [concepts, syncs] = faulty::rules(dir.path())?;
    System::with(&[
        ("CONCERT_RULES__CONCEPTS", &concepts),
        ("CONCERT_RULES__SYNCS", &syncs),
        ("CONCERT_WORKERS__ATTEMPTS", "2"),
        ("CONCERT_HTTP__DEADLINE_MS", "50000"),
    ])
    .await
}

/// The output of `concert dead …`, and whether it exited with 0.
async fn dead(system: &System, args: &[&str]) -> anyhow::Result<(bool, String)> {
    let done = system.concert(&["dead"]).args(args).output().await?;
    let text = [done.stdout, done.stderr].concat();
    Ok((done.status.success(), String::from_utf8(text)?))
}

fn completions(flow: &[(String, Value)], name: &str) -> usize {
    let token = format!(".{name}.");
    flow.iter().filter(|(subject, _)| subject.contains(&token)).count()
}

async fn publish(system: &System, failure_mode: &str, id: Uuid) -> anyhow::Result<()> {
    let subject = format!("action.Faulty.act.{id}");
    let body = json!({ "failure_mode": failure_mode }).to_string();
    let stored = system.publish(&subject, async_nats::HeaderMap::new(), &body).await?;
    anyhow::ensure!(stored.get("error").is_none(), "{stored}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_action_is_dead_lettered_and_a_retry_completes_its_flow() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let system = system(&dir).await?;
    let worker = Faulty::run(&system)?;
    let mut flows = Vec::new();
    for failure_mode in ["fail", "panic"] {
        let answer = system.post("/faulty", &json!({ "failure_mode": failure_mode })).await?;
        assert_eq!(answer.status, 500, "{answer:?}");
        let flow = answer.headers["concert-flow"].to_str()?.to_owned();
        assert_eq!(completions(&system.flow(&flow).await?, "Faulty.act"), 0);
        flows.push(flow);
    }
    assert_eq!(worker.starts(), 1, "a panic does not end the process");
    system.idle("Faulty").await?;
    let (good, listed) = dead(&system, &["list", "--json", "--concept", "Faulty"]).await?;
    assert!(good, "{listed}");
    let listed: Vec<Value> = listed.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(listed.len(), 2, "{listed:?}");
    for (dead_letter, flow) in listed.iter().zip(&flows) {
        assert_eq!(dead_letter["flow"], flow.as_str());
        assert_eq!(dead_letter["headers"]["Concert-Sync"], "RunFaulty");
        assert_eq!(dead_letter["headers"]["Concert-Attempts"], "3");
        let reason = dead_letter["reason"].as_str().unwrap_or_default();
        assert!(reason.starts_with("failed after 3 attempts: "), "{reason}");
    }
    let id = listed[0]["action"].as_str().unwrap_or_default();
    let (good, shown) = dead(&system, &["show", id]).await?;
    assert!(good && shown.contains("\"failure_mode\": \"fail\""), "{shown}");

    let mut invocations = system.subscribe("action.Faulty.>").await?;
    let (good, said) = dead(&system, &["retry", id]).await?;
    assert!(!good && said.contains("dead-lettered again"), "{said}");
    let retried = invocations.next().await.context("no invocation")?;
    let headers = retried.headers.context("no headers")?;
    assert!(headers.get("Concert-Attempts").is_some(), "the worker must see that it is a retry");
    worker.heal()?;
    let (good, said) = dead(&system, &["retry", "--all", "--concept", "Faulty"]).await?;
    assert!(good, "{said}");
    assert_eq!(said.matches("completed: {\"failure_mode\":").count(), 2, "{said}");
    system.routed().await?;
    for flow in &flows {
        system
            .until("the flow continues", async |system: &System| {
                let log = system.flow(flow).await?;
                Ok((completions(&log, "Requesting.respond") == 1).then_some(()))
            })
            .await?;
        assert_eq!(completions(&system.flow(flow).await?, "Faulty.act"), 1);
    }
    let (good, said) = dead(&system, &["list"]).await?;
    assert!(good && said.contains("no dead letters"), "{said}");
    let (good, said) = dead(&system, &["retry", id]).await?;
    assert!(!good && said.contains("not found"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn crashing_action_is_dead_lettered_alone_and_blocks_nothing() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let system = system(&dir).await?;
    // The stream must exist.
    let first = Faulty::run(&system)?;
    let well = Uuid::now_v7();
    system
        .until("the worker takes messages", async |system: &System| {
            Ok(publish(system, "well", well).await.ok())
        })
        .await?;
    system.idle("Faulty").await?;
    first.stop().await;
    let poison = Uuid::now_v7();
    publish(&system, "abort", poison).await?;
    let unrelated: Vec<Uuid> = (0..200).map(|_| Uuid::now_v7()).collect();
    for id in &unrelated {
        publish(&system, "well", *id).await?;
    }
    let worker = Faulty::run(&system)?;
    system.idle("Faulty").await?;
    // The action was attempted at least once next to others, because the server may have sent one
    // delivery to the worker that had just exited, and once in isolation.
    assert!(worker.starts() >= 3, "{} starts", worker.starts());
    let done = system.subjects("COMPLETIONS", "done.*.Faulty.act.>").await?;
    assert_eq!(done.len(), 1 + unrelated.len());
    let dead_lettered = system.header_values("DEAD", "dead.>", "Concert-Action").await?;
    assert_eq!(dead_lettered, [poison.to_string()]);
    let notes = system.subjects("KV_concert_Faulty", "$KV.concert_Faulty.>").await?;
    assert!(notes.is_empty(), "{notes:?}");

    worker.heal()?;
    let (good, said) = dead(&system, &["retry", "--all"]).await?;
    assert!(good && said.contains("completed: {\"failure_mode\":\"abort\"}"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_queued_after_slow_ones_are_delivered_once() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let [concepts, syncs] = faulty::rules(dir.path())?;
    let system = System::with(&[
        ("CONCERT_RULES__CONCEPTS", &concepts),
        ("CONCERT_RULES__SYNCS", &syncs),
        ("CONCERT_WORKERS__CONCURRENCY", "2"),
    ])
    .await?;
    // Together longer than the ack deadline: the server would redeliver an action that a worker had
    // buffered.
    for _ in 0..4 {
        publish(&system, "slower", Uuid::now_v7()).await?;
    }
    let _worker = Faulty::run(&system)?;
    system.idle("Faulty").await?;
    let jetstream = async_nats::jetstream::new(system.nats().await?);
    let queue = jetstream.get_stream("ACTIONS_Faulty").await?;
    let delivered = queue.consumer_info("workers").await?.delivered.consumer_sequence;
    assert_eq!(delivered, 4);
    assert_eq!(system.subjects("COMPLETIONS", "done.*.Faulty.act.>").await?.len(), 4);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn isolated_attempt_note_is_deleted_after_completion_despite_a_crash() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let system = system(&dir).await?;
    let id = Uuid::now_v7();
    let queue = async_nats::jetstream::new(system.nats().await?)
        .get_consumer_from_stream::<async_nats::jetstream::consumer::pull::Config, _, _>(
            "workers",
            "ACTIONS_Faulty",
        )
        .await?;
    publish(&system, "well", id).await?;
    // The state left by a worker that exited between the completion of an isolated attempt and its
    // cleanup.
    for _ in 0..3 {
        let mut delivered = queue.fetch().max_messages(1).messages().await?;
        let message = delivered.next().await.context("no message is delivered")?;
        let message = message.map_err(anyhow::Error::from_boxed)?;
        message.double_ack_with(AckKind::Nak(None)).await.map_err(anyhow::Error::from_boxed)?;
    }
    let note = format!("$KV.concert_Faulty.last-attempt.{id}");
    system.publish(&note, async_nats::HeaderMap::new(), "").await?;
    let completion = format!("done.{id}.Faulty.act.{id}");
    let body = json!({ "input": { "failure_mode": "well" }, "output": { "failure_mode": "well" } })
        .to_string();
    system.publish(&completion, async_nats::HeaderMap::new(), &body).await?;
    let _worker = Faulty::run(&system)?;
    system.idle("Faulty").await?;
    assert!(system.subjects("KV_concert_Faulty", &note).await?.is_empty());
    assert!(system.subjects("DEAD", "dead.>").await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letter_of_an_expired_flow_can_only_be_dropped() -> anyhow::Result<()> {
    let system = System::start().await?;
    system.account("ada", "correct horse battery").await?;
    let old = "01890a5d-ac96-774b-bcce-b302099a8057";
    let id = Uuid::now_v7();
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Concert-Flow", old);
    let body = json!({ "user": "nobody" }).to_string();
    let subject = format!("action.Sessioning.deleteAll.{id}");
    system.publish(&subject, headers, &body).await?;
    system.idle("Sessioning").await?;
    let (good, said) = dead(&system, &["list"]).await?;
    assert!(good && said.contains("the flow is older than the log"), "{said}");
    let id = id.to_string();
    let (good, said) = dead(&system, &["retry", &id]).await?;
    assert!(!good && said.contains("its flow has left the log"), "{said}");
    let (good, said) = dead(&system, &["drop", &id]).await?;
    assert!(!good && said.contains("nothing was deleted"), "{said}");
    assert_eq!(system.subjects("DEAD", "dead.>").await?.len(), 1);
    let (good, said) = dead(&system, &["drop", &id, "--yes"]).await?;
    assert!(good, "{said}");
    assert!(system.subjects("DEAD", "dead.>").await?.is_empty());
    let log = system.log(Part::Sessioning)?;
    assert!(log.contains("dead letter"), "{log}");
    Ok(())
}
