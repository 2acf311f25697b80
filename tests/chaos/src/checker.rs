//! The checks after all faults have ended. The system becomes idle, and the client history, the
//! log, the databases and the archive agree.

mod archive;
mod secrets;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, consumer::PullConsumer};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::bad_messages::BadMessageInjector;
use crate::client::Load;
use crate::cluster::Cluster;
use crate::history::History;
use crate::log::{self, Message};

/// Maximum time for the system to become idle.
const REST: Duration = Duration::from_secs(150);
/// Tokens of each kind to try at the end.
const TRIED: usize = 150;

/// Statistics of the run.
#[derive(Debug, Default)]
pub struct Sums {
    /// Seconds until the system was idle.
    pub rest_s: f32,
    /// Messages in the log.
    pub logged: usize,
    /// Flows in the log.
    pub flows: usize,
    /// Flows that the archive has completely.
    pub archived: usize,
    /// Dead letters, by reason.
    pub dead: BTreeMap<String, u32>,
    /// Tokens tried at the end.
    pub tokens: usize,
}

/// Checks a run whose load and faults have ended.
///
/// # Errors
/// Something cannot be read.
pub async fn check(
    cluster: &Cluster,
    load: &Arc<Load>,
    injector: &BadMessageInjector,
) -> anyhow::Result<Sums> {
    let history = &load.history;
    let jetstream = jetstream::new(cluster.bus.connect().await?);
    let mut sums = Sums::default();
    let began = Instant::now();
    let is_at_rest = rest(&jetstream, history).await;
    sums.rest_s = began.elapsed().as_secs_f32();
    // Otherwise the archive check would wait for each of these flows until it times out.
    if is_at_rest {
        sums.tokens = tokens(load).await;
        // That created flows of its own.
        rest(&jetstream, history).await;
    }
    let done = read(&jetstream, "COMPLETIONS").await?;
    let dead = read(&jetstream, "DEAD").await?;
    save(cluster, &done, &dead)?;
    sums.logged = done.len();
    sums.dead = dead_letters(history, &dead);
    let sent = injector.sent.lock().await;
    once(history, &done);
    let flows = flows(&done);
    sums.flows = flows.len();
    answers(history, &flows, &dead, &sent.foreign);
    seen(history, &flows);
    let completed: BTreeSet<&str> =
        done.iter().filter_map(|message| Some(message.tokens()?.3)).collect();
    let buried: BTreeSet<&str> =
        dead.iter().filter_map(|letter| letter.dead.as_ref()?[2].as_deref()).collect();
    for id in &sent.injected {
        if !completed.contains(id.as_str()) && !buried.contains(id.as_str()) {
            history.violated(format!("the injected action {id} was accepted but never completed"));
        }
    }
    state::check(cluster, history, &done).await?;
    sums.archived = archive::check(cluster, history, &flows, &buried_flows(&dead)).await?;
    secrets::check(cluster, history, &done, &dead).await?;
    Ok(sums)
}

/// Reads a whole stream. Retries, because nodes may not have elected a leader for the reading
/// consumer after a partition.
async fn read(jetstream: &jetstream::Context, stream: &str) -> anyhow::Result<Vec<Message>> {
    let began = Instant::now();
    loop {
        match log::read(jetstream, stream).await {
            Err(error) if began.elapsed() < REST => {
                eprintln!("cannot read {stream} yet: {error}")
            }
            read => return read,
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Waits until no message is pending or in progress; returns whether that happened in time.
async fn rest(jetstream: &jetstream::Context, history: &History) -> bool {
    let began = Instant::now();
    loop {
        let busy = match busy(jetstream).await {
            Ok(busy) => busy,
            Err(error) => Some(format!("cannot read a stream: {error}")),
        };
        match busy {
            None => return true,
            Some(what) if began.elapsed() > REST => {
                history.violated(format!("not idle within {} s: {what}", REST.as_secs()));
                return false;
            }
            Some(_) => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
}

/// Pending and unacknowledged messages. The readers of the log are checked first: work that left a
/// queue since then has extended the log or the dead letters.
async fn busy(jetstream: &jetstream::Context) -> anyhow::Result<Option<String>> {
    let ends = async || -> anyhow::Result<[u64; 2]> {
        let (log, dead) =
            (jetstream.get_stream("COMPLETIONS").await?, jetstream.get_stream("DEAD").await?);
        Ok([&log, &dead].map(|stream| stream.cached_info().state.last_sequence))
    };
    let before = ends().await?;
    for (stream, readers) in [
        ("COMPLETIONS", "routers"),
        ("COMPLETIONS", "archives"),
        ("DEAD", "archives"),
        ("ACTIONS_Profile", "workers"),
        ("ACTIONS_Sessioning", "workers"),
    ] {
        let read = jetstream.get_stream(stream).await?;
        let consumer: PullConsumer =
            read.get_consumer(readers).await.map_err(anyhow::Error::from_boxed)?;
        let info = consumer.cached_info();
        let (mut waiting, pending) = (info.num_pending, info.num_ack_pending);
        if readers == "workers" {
            // A queue holds every message that is not acknowledged.
            waiting = waiting.max(read.cached_info().state.messages);
        }
        if waiting > 0 || pending > 0 {
            return Ok(Some(format!(
                "{readers} of {stream}: {waiting} pending, {pending} unacknowledged"
            )));
        }
    }
    let after = ends().await?;
    Ok((before != after)
        .then(|| format!("log and dead letters still grow, from {before:?} to {after:?}")))
}

/// Checks that ended tokens are rejected and live ones accepted, regardless of redeliveries;
/// returns the number of tries.
async fn tokens(load: &Load) -> usize {
    let ended = load.ended.lock().await.clone();
    let live = load.live.lock().await.clone();
    let expected = ended
        .iter()
        .rev()
        .take(TRIED)
        .map(|token| (token, None))
        .chain(live.iter().take(TRIED).map(|(token, user)| (token, Some(user))));
    let mut tried = 0;
    for (token, user) in expected {
        tried += 1;
        match (load.whose(token).await, user) {
            (Some((401, _)), None) => {}
            (Some((200, answer)), Some(user))
                if answer.get("user").and_then(Value::as_str) == Some(user) => {}
            (found, user) => load.history.violated(format!(
                "at the end, a token of {user:?} (None: ended) returned {found:?}"
            )),
        }
    }
    tried
}

/// Dead letters by reason. Two outcomes of one action are a violation.
fn dead_letters(history: &History, dead: &[Message]) -> BTreeMap<String, u32> {
    let mut reasons = BTreeMap::new();
    for letter in dead {
        let reason =
            letter.dead.as_ref().and_then(|[reason, _, _]| reason.clone()).unwrap_or_default();
        if reason.starts_with("diverged") {
            history.violated(format!("{} at {} of DEAD: {reason}", letter.subject, letter.seq));
        }
        let class = reason.split(':').next().unwrap_or_default().to_owned();
        *reasons.entry(class).or_default() += 1;
    }
    reasons
}

/// A subject has at most one message.
fn once(history: &History, done: &[Message]) {
    let mut first: BTreeMap<&str, &Message> = BTreeMap::new();
    for message in done {
        match first.get(message.subject.as_str()) {
            Some(before) => {
                history.violated(format!(
                    "{} is in the log at {} and at {}",
                    message.subject, before.seq, message.seq
                ));
            }
            _ => {
                first.insert(&message.subject, message);
            }
        }
    }
}

type Flows<'a> = BTreeMap<&'a str, Vec<&'a Message>>;

/// The messages of each flow in order, one per subject.
fn flows(done: &[Message]) -> Flows<'_> {
    let mut flows: Flows<'_> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for message in done {
        if let Some((flow, _, _, _)) = message.tokens()
            && seen.insert(&message.subject)
        {
            flows.entry(flow).or_default().push(message);
        }
    }
    flows
}

/// The flows with a dead-lettered action.
fn buried_flows(dead: &[Message]) -> BTreeSet<&str> {
    dead.iter().filter_map(|letter| letter.dead.as_ref()?[1].as_deref()).collect()
}

fn is(message: &Message, concept: &str, action: &str) -> bool {
    message.tokens().is_some_and(|(_, of, name, _)| of == concept && name == action)
}

/// Checks that every accepted request has one response, and that its effects match that response.
fn answers(history: &History, flows: &Flows<'_>, dead: &[Message], foreign: &BTreeSet<String>) {
    let buried = buried_flows(dead);
    for (flow, messages) in flows {
        let Some(root) = messages.iter().find(|message| is(message, "Requesting", "request"))
        else {
            continue;
        };
        let responds: Vec<&&Message> = messages
            .iter()
            .filter(|message| is(message, "Requesting", "respond") && !message.failed())
            .collect();
        let path = root.input("path").unwrap_or_default();
        let lost = responds.is_empty() && !buried.contains(flow);
        if lost || (responds.len() > 1 && !foreign.contains(*flow)) {
            history.violated(format!(
                "flow {flow} ({path}) has {} responses in the log",
                responds.len()
            ));
        }
        let Some(answer) = responds.first() else { continue };
        let made = messages
            .iter()
            .filter(|message| is(message, "Sessioning", "create") && !message.failed())
            .count();
        let expected = usize::from(
            ["/auth/login", "/auth/changePassword"].contains(&path) && status_of(answer) == 200,
        );
        if made != expected {
            history.violated(format!(
                "flow {flow} ({path}), with status {}, created {made} sessions",
                status_of(answer)
            ));
        }
    }
}

fn status_of(respond: &Message) -> u64 {
    let input = respond.body.get("input");
    let status = input.and_then(|input| input.get("status")?.as_u64());
    let error = input.is_some_and(|input| input.get("error").is_some());
    status.unwrap_or(if error { 400 } else { 200 })
}

/// A client's response is the first response in the log.
fn seen(history: &History, flows: &Flows<'_>) {
    for request in history.requests() {
        let (Some(flow), 200..=499) = (&request.flow, request.status) else {
            continue;
        };
        let first = flows.get(flow.as_str()).and_then(|messages| {
            messages
                .iter()
                .find(|message| is(message, "Requesting", "respond") && !message.failed())
        });
        let returned = |key| request.answer.get(key).and_then(Value::as_str);
        match first {
            Some(respond)
                if status_of(respond) == u64::from(request.status)
                    && respond.input("user") == returned("user")
                    && respond.input("error") == returned("error") => {}
            Some(respond) => history.violated(format!(
                "flow {flow} ({}) got {} {}, but the first response in the log is {} at {}",
                request.path,
                request.status,
                request.answer,
                status_of(respond),
                respond.seq
            )),
            None => history.violated(format!(
                "flow {flow} ({}) got {} without a response in the log",
                request.path, request.status
            )),
        }
    }
}

/// Writes the log and the dead letters to a text file.
fn save(cluster: &Cluster, done: &[Message], dead: &[Message]) -> anyhow::Result<()> {
    for (name, messages) in [("log.jsonl", done), ("dead.jsonl", dead)] {
        let mut file =
            std::io::BufWriter::new(std::fs::File::create(cluster.options.dir.join(name))?);
        for message in messages {
            let line = json!({ "seq": message.seq, "subject": message.subject, "body": message.body,
                "dead": message.dead });
            writeln!(file, "{line}")?;
        }
        file.flush()?;
    }
    Ok(())
}
