//! Hostile input against real processes: nothing panics, hangs or leaks, and later requests
//! succeed.
//!
//! `CONCERT_FUZZ_SECONDS=1800 cargo test -p concert-tests --test fuzz -- --nocapture edge` (or
//! `bus`) runs longer; `CONCERT_FUZZ_SEED` repeats the input of a run.

mod bus;
mod http;
mod input;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{bail, ensure};
use concert_tests::{PARTS, Part, System};
use fastrand::Rng;
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use crate::http::CANARY;

const CONCEPTS: [&str; 2] = ["Profile", "Sessioning"];
/// Duration of each test in an ordinary run.
const SECONDS: u64 = 15;
/// Number of concurrent clients.
const CLIENTS: u64 = 8;
/// Timeout until the queues are short, including restarts of processes.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Messages between two checks of the queues.
const BATCH: usize = 64;
/// Maximum pending messages in a queue and in the log before the next batch.
const BACKLOG: u64 = 256;
/// Number of invocations whose outcome is checked.
const SAMPLES: usize = 200;
/// Maximum resident memory of a process at the end, in KiB; each starts below 40 MiB.
const RESIDENT_KIB: u64 = 200 * 1024;

#[expect(clippy::disallowed_methods, reason = "a test has no other configuration")]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn duration() -> Duration {
    Duration::from_secs(setting("CONCERT_FUZZ_SECONDS").unwrap_or(SECONDS))
}

/// Printed, so that a failure can be repeated.
fn seed() -> u64 {
    let seed = setting("CONCERT_FUZZ_SEED").unwrap_or_else(|| Rng::new().u64(..));
    eprintln!("CONCERT_FUZZ_SEED={seed}");
    seed
}

/// Logs in a user whose session must survive the run.
async fn someone(system: &System) -> anyhow::Result<String> {
    system.account("somebody", "Correct-Horse-Battery-9").await?;
    system.login("somebody", "Correct-Horse-Battery-9").await
}

/// Checks that no process panicked, leaked a password or holds too much memory, and that the
/// application works.
async fn check_unharmed(system: &mut System, session: &str) -> anyhow::Result<()> {
    system.ready().await?;
    for part in PARTS {
        let log = system.log(part)?;
        // The NATS client panics at a bare carriage return; its process is restarted.
        let panicked =
            log.lines().find(|line| line.contains("panicked at") && !line.contains("/async-nats-"));
        ensure!(panicked.is_none(), "{part:?}: {panicked:?}");
        let leaked = log.lines().find(|line| line.contains(CANARY));
        ensure!(leaked.is_none(), "{part:?} logs a password: {leaked:?}");
        let resident = system.resident_kib(part)?;
        eprintln!("{part:?} holds {} MiB", resident / 1024);
        ensure!(resident < RESIDENT_KIB, "{part:?} holds {resident} KiB");
    }
    let who = system.post("/auth/whoami", &json!({ "session": session })).await?;
    ensure!(who.status == 200, "{who:?}");
    let out = system.post("/auth/logout", &json!({ "session": session })).await?;
    ensure!(out.status == 200, "{out:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn edge_survives_arbitrary_http() -> anyhow::Result<()> {
    let mut system = System::start().await?;
    let session = someone(&system).await?;
    let (edge, end, seed) = (system.address(), Instant::now() + duration(), seed());
    let mut clients = JoinSet::new();
    let seen: Arc<Mutex<BTreeMap<Option<u16>, u64>>> = Arc::default();
    let missing = |seen: &BTreeMap<Option<u16>, u64>| {
        let wanted = [200, 400, 401, 404, 405, 413, 415];
        wanted.into_iter().find(|status| !seen.contains_key(&Some(*status)))
    };
    for client in 0..CLIENTS {
        let seen = seen.clone();
        clients.spawn(async move {
            let mut rng = Rng::with_seed(seed.wrapping_add(client));
            // A slow machine continues until it has seen each status.
            while Instant::now() < end
                || (missing(&*seen.lock().await).is_some() && Instant::now() < end + TIMEOUT)
            {
                let status = http::Request::any(&mut rng).send(edge).await?;
                *seen.lock().await.entry(status).or_default() += 1;
            }
            anyhow::Ok(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    let seen = seen.lock().await;
    eprintln!("{seen:?}");
    ensure!(missing(&seen).is_none(), "never seen: {:?}", missing(&seen));
    for part in [Part::Profile, Part::Sessioning] {
        system.idle(&format!("{part:?}")).await?;
    }
    check_unharmed(&mut system, &session).await
}

#[tokio::test(flavor = "multi_thread")]
async fn bus_completes_or_dead_letters_every_message() -> anyhow::Result<()> {
    let mut system = System::start().await?;
    let session = someone(&system).await?;
    let (end, mut rng) = (Instant::now() + duration(), Rng::with_seed(seed()));
    let mut client = system.raw_nats().await?;
    let (mut published, mut samples, mut started) = (0_u64, Vec::new(), 0);
    while Instant::now() < end {
        for _ in 0..BATCH {
            let message = bus::Message::any(&mut rng);
            message.publish(&mut client).await?;
            published += 1;
            if let Some(id) = message.id {
                // Reservoir sampling: each invocation is kept with the same probability.
                if samples.len() < SAMPLES {
                    samples.push(id);
                } else if let Some(sample) =
                    samples.get_mut(rng.usize(..usize::try_from(published)?))
                {
                    *sample = id;
                }
            }
        }
        client.round_trip().await?;
        started += until(&mut system, "the queues are short", async |system| {
            Ok(waiting(system).await? < BACKLOG && unrouted(system).await? < BACKLOG)
        })
        .await?;
    }
    started +=
        until(&mut system, "the queues are empty", async |system| Ok(waiting(system).await? == 0))
            .await?;
    started +=
        until(&mut system, "the log is routed", async |system| Ok(unrouted(system).await? == 0))
            .await?;
    eprintln!("{published} messages, {started} processes started again");
    ensure!(samples.len() >= SAMPLES.min(usize::try_from(published / 50)?), "too few messages");
    let ended = ended(&system).await?;
    for id in &samples {
        ensure!(
            ended.contains(&id.to_string()),
            "{id} was stored but neither completed nor dead-lettered"
        );
    }
    check_unharmed(&mut system, &session).await
}

/// Waits until a condition holds, restarts processes that a message crashed, and returns their
/// number.
async fn until(
    system: &mut System,
    what: &str,
    mut holds: impl AsyncFnMut(&System) -> anyhow::Result<bool>,
) -> anyhow::Result<usize> {
    let (began, mut started) = (Instant::now(), 0);
    loop {
        started += system.restart_crashed()?;
        if holds(system).await? {
            return Ok(started);
        }
        if began.elapsed() > TIMEOUT {
            let (waiting, unrouted) = (waiting(system).await?, unrouted(system).await?);
            bail!(
                "{what}: timed out; {waiting} invocations are pending, {unrouted} messages of the log \
                 are unrouted; {}",
                held_up(system).await?
            );
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The position of the routers and the first message that they have not processed, as stored.
async fn held_up(system: &System) -> anyhow::Result<String> {
    let nats = system.nats().await?;
    let jetstream = async_nats::jetstream::new(nats.clone());
    let routers = jetstream.get_stream("COMPLETIONS").await?.consumer_info("routers").await?;
    let next = json!({ "seq": routers.ack_floor.stream_sequence + 1, "next_by_subj": ">" });
    let first = nats.request("$JS.API.STREAM.MSG.GET.COMPLETIONS", next.to_string().into()).await?;
    let first = String::from_utf8_lossy(&first.payload).into_owned();
    let log = system.log(Part::Router)?;
    let last: Vec<&str> = log.lines().rev().take(20).collect();
    Ok(format!(
        "delivered {:?}, acknowledged {:?}, pending {}, unacknowledged {}, redelivered {}\n\
         the first: {}\nthe router, last line first: {last:#?}",
        routers.delivered,
        routers.ack_floor,
        routers.num_pending,
        routers.num_ack_pending,
        routers.num_redelivered,
        first.chars().take(4000).collect::<String>(),
    ))
}

/// Number of messages in the log that the routers have not processed.
async fn unrouted(system: &System) -> anyhow::Result<u64> {
    let jetstream = async_nats::jetstream::new(system.nats().await?);
    let log = jetstream.get_stream("COMPLETIONS").await?;
    let routers = log.consumer_info("routers").await?;
    Ok(routers.num_pending + u64::try_from(routers.num_ack_pending)?)
}

/// Number of pending invocations in the longest queue.
async fn waiting(system: &System) -> anyhow::Result<u64> {
    let jetstream = async_nats::jetstream::new(system.nats().await?);
    let mut most = 0;
    for concept in CONCEPTS {
        let mut stream = jetstream.get_stream(format!("ACTIONS_{concept}")).await?;
        most = most.max(stream.info().await?.state.messages);
    }
    Ok(most)
}

/// The IDs of all actions that completed or became dead letters.
async fn ended(system: &System) -> anyhow::Result<BTreeSet<String>> {
    // The messages themselves cannot be read: some have headers that are valid as routers get them,
    // with the server's header in place of the last two bytes, but not as stored.
    let log = async_nats::jetstream::new(system.nats().await?).get_stream("COMPLETIONS").await?;
    let mut subjects = log.info_with_subjects("done.>").await?;
    let mut ended = BTreeSet::new();
    while let Some(subject) = subjects.next().await {
        ended.extend(subject?.0.rsplit('.').next().map(str::to_owned));
    }
    // Without an action name, only the subject identifies a message.
    let dead = system.header_values("DEAD", "dead.>", "Concert-Subject").await?;
    ended.extend(dead.iter().filter_map(|subject| subject.rsplit('.').next()).map(str::to_owned));
    ensure!(ended.iter().any(|id| Uuid::parse_str(id).is_ok()), "no action ended");
    Ok(ended)
}
