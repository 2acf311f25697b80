//! Message-only baselines: the messages of a logout, or of a login with its hash, through the same
//! streams, with no other work.
//!
//! The chain is request → (router) delete → (worker) done → (router) respond → (edge) done →
//! received. A login has authenticate and create in place of delete. Each process publishes, waits
//! for the publish acknowledgement, and acknowledges its message, as Concert does. There are no
//! rules, log lookups, JSON, database or HTTP.
//!
//! The chain of five messages has a queue of respond, which Concert no longer has (ADR 37), so that
//! ratios stay comparable with earlier ones. The chain of four messages has the messages of today.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use concert_local_servers::{NatsOptions, NatsServer};
use concert_profile::HashPool;
use concert_runtime::ack;
use concert_runtime::bus::{Bus, BusArgs};
use concert_runtime::feed::{Feed, Source};
use concert_runtime::log;
use concert_runtime::nats::HeaderMap;
use concert_runtime::streams::{self, LogLimits};
use concert_wire::name::ConceptName;
use concert_wire::secret::Secret;
use concert_wire::subject;
use futures_util::StreamExt as _;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::load::histogram;
use crate::measurement::Measurement;
use crate::process::Watched;

/// The two queues of the chain. Each stream is configured like that of a concept.
const WORKER: &str = "BenchWorker";
const EDGE: &str = "BenchEdge";
/// Names of the chains in the report.
pub(crate) const FIVE_MESSAGES: &str = "chain of five messages";
pub(crate) const FOUR_MESSAGES: &str = "chain of four messages";
pub(crate) const LOGIN_MESSAGES: &str = "chain of a login with its hash";
/// A message body of the size of a logout's.
const BODY: &[u8] = &[b'x'; 120];

/// The kind of flow whose messages the chain sends.
#[derive(Debug, Clone)]
pub(crate) enum Course {
    Logout,
    /// The router completes respond itself.
    ShortLogout,
    /// Includes the password hash that every login needs.
    Login(HashPool),
}

impl Course {
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Logout => FIVE_MESSAGES,
            Self::ShortLogout => FOUR_MESSAGES,
            Self::Login(_) => LOGIN_MESSAGES,
        }
    }

    /// The message that the router publishes after a completion.
    fn next(&self, subject: &str) -> Option<String> {
        let (action, id) = subject.split_once('.')?.1.rsplit_once('.')?;
        let (concept, next) = match (self, action.rsplit('.').next()?) {
            (Self::Logout | Self::ShortLogout, "request") => (WORKER, "delete"),
            (Self::Login(_), "request") => (WORKER, "authenticate"),
            (Self::Login(_), "authenticate") => (WORKER, "create"),
            (Self::ShortLogout, "delete") => return Some(format!("done.{id}.{EDGE}.respond.{id}")),
            (_, "delete" | "create") => (EDGE, "respond"),
            _ => return None,
        };
        Some(format!("action.{concept}.{next}.{id}"))
    }

    /// The password hasher of the worker.
    fn hashes(&self) -> Option<HashPool> {
        match self {
            Self::Logout | Self::ShortLogout => None,
            Self::Login(hashes) => Some(hashes.clone()),
        }
    }
}

/// Runs a chain on a separate NATS server.
pub(crate) async fn chain(
    course: &Course,
    sync_interval: &str,
    binary: &Path,
    in_flight: usize,
    time: Duration,
) -> anyhow::Result<Measurement> {
    let dir = tempfile::tempdir()?;
    let mut options = NatsOptions::new(dir.path());
    options.port = 0;
    options.sync_interval = sync_interval.to_owned();
    let mut server = NatsServer::start(binary, &options).await?;
    let watched = Watched { name: "nats-server", pid: server.pid() };
    let measurement = run(course, &server.url(), in_flight, time, &watched).await;
    server.stop().await;
    measurement
}

async fn run(
    course: &Course,
    url: &str,
    in_flight: usize,
    time: Duration,
    server: &Watched,
) -> anyhow::Result<Measurement> {
    let limits = LogLimits {
        log_max_messages: 10_000_000,
        queue_max_messages: 10_000_000,
        ..LogLimits::default()
    };
    let args = BusArgs::at(url);
    let mut stations = JoinSet::new();
    let log_bus = Bus::connect(&args, "bench-router").await?;
    streams::log(&log_bus, &limits).await?;
    let mut router = Feed::new(log_bus.clone(), Source::Log, limits.clone(), 512, |_| None);
    router.open().await?;
    let routed = course.clone();
    stations.spawn(station(log_bus, router, None, move |subject| routed.next(subject)));
    for (concept, hashes) in [(WORKER, course.hashes()), (EDGE, None)] {
        let bus = Bus::connect(&args, concept).await?;
        let name: ConceptName = concept.parse()?;
        streams::actions(&bus, &name, &limits).await?;
        let mut feed =
            Feed::new(bus.clone(), Source::Invocations(name), limits.clone(), 64, |_| None);
        feed.open().await?;
        stations.spawn(station(bus, feed, hashes, move |subject| {
            let (action, id) = subject.split_once(concept)?.1.strip_prefix('.')?.split_once('.')?;
            Some(format!("done.{id}.{concept}.{action}.{id}"))
        }));
    }
    let before = server.usage();
    let measurement = clients(course, &args, in_flight, time).await?;
    stations.abort_all();
    let processes = vec![server.usage().per_flow(&before, measurement.flows)];
    Ok(Measurement { processes, ..measurement })
}

/// Computes the hash of a login, publishes the next message of the chain, waits for the publish
/// acknowledgement, and acknowledges.
async fn station(
    bus: Bus,
    mut feed: Feed,
    hashes: Option<HashPool>,
    next: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
) {
    let room = Arc::new(Semaphore::new(256));
    let mut under_way = JoinSet::new();
    loop {
        let message = feed.next().await;
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        let (bus, subject, hashes) = (bus.clone(), next(&message.subject), hashes.clone());
        under_way.spawn(async move {
            if let Some(hashes) = hashes
                && message.subject.contains(".authenticate.")
                && let Err(error) =
                    hashes.hash(Secret::new("correct horse battery".to_owned())).await
            {
                tracing::warn!(%error, "the message-only chain was interrupted");
            }
            if let Some(subject) = subject
                && let Err(error) =
                    log::publish_once(&bus, subject, HeaderMap::new(), BODY.into()).await
            {
                tracing::warn!(%error, "the message-only chain was interrupted");
            }
            ack::sent(&message).await;
            drop(permit);
        });
        while under_way.try_join_next().is_some() {}
    }
}

async fn clients(
    course: &Course,
    args: &BusArgs,
    in_flight: usize,
    time: Duration,
) -> anyhow::Result<Measurement> {
    let bus = Bus::connect(args, "bench-client").await?;
    let mut heard = bus.client.subscribe(format!("done.*.{EDGE}.respond.*")).await?;
    bus.client.flush().await?;
    let waiting: Arc<std::sync::Mutex<std::collections::HashMap<String, mpsc::Sender<()>>>> =
        Arc::default();
    let told = waiting.clone();
    let listener = tokio::spawn(async move {
        while let Some(message) = heard.next().await {
            let flow = message.subject.split('.').nth(1).unwrap_or_default().to_owned();
            let sender =
                told.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&flow);
            if let Some(sender) = sender {
                sender.try_send(()).unwrap_or_default();
            }
        }
    });
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..in_flight {
        let (bus, waiting) = (bus.clone(), waiting.clone());
        clients.spawn(async move {
            let mut latency_us = histogram()?;
            let (sender, mut answered) = mpsc::channel(1);
            while began.elapsed() < time {
                let flow = Uuid::now_v7().to_string();
                let sent = Instant::now();
                waiting
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .insert(flow.clone(), sender.clone());
                let subject = subject::completion(flow.parse()?, "Bench", "request", flow.parse()?);
                log::publish_once(&bus, subject, HeaderMap::new(), BODY.into()).await?;
                tokio::time::timeout(Duration::from_secs(10), answered.recv())
                    .await
                    .context("the message-only chain stalled")?;
                latency_us.saturating_record(
                    u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX),
                );
            }
            anyhow::Ok(latency_us)
        });
    }
    let mut latency_us = histogram()?;
    while let Some(client) = clients.join_next().await {
        latency_us.add(client??)?;
    }
    listener.abort();
    Ok(Measurement::new(course.name(), in_flight, &latency_us, began.elapsed()))
}
