//! The worker of one concept: takes messages as long as it has room, and drains when it is asked to
//! stop.

use std::sync::Arc;
use std::time::Duration;

use concert_runtime::bus::Bus;
use concert_runtime::feed::{Feed, Source};
use concert_runtime::nats::Message;
use concert_runtime::process::Shutdown;
use concert_runtime::retry::Backoff;
use concert_runtime::setting::{COUNT_MAX, DAY_MS};
use concert_runtime::streams::{self, LogLimits, SetupError};
use concert_wire::seal::Sealer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::concept::Concept;
use crate::figures::Figures;
use crate::host::turns::Turns;
use crate::log_start::LogStart;
use crate::service;

/// The most attempts that can be asked for.
const ATTEMPTS_MAX: i64 = 1000;

/// Limits of a worker: the section `[workers]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HostLimits {
    /// Maximum number of concurrent actions of one concept; others wait in its queue.
    #[serde(rename = "concurrency")]
    #[schemars(range(min = 1, max = COUNT_MAX))]
    pub worker_concurrency: usize,
    /// Maximum number of attempts per action. After that, one isolated attempt is made; if it
    /// fails, the action is dead-lettered.
    #[serde(rename = "attempts")]
    #[schemars(range(min = 1, max = ATTEMPTS_MAX))]
    pub worker_attempts: i64,
    /// Maximum difference between clocks when a deadline is compared, in milliseconds.
    #[schemars(range(min = 0, max = DAY_MS))]
    pub clock_skew_ms: u64,
    /// Milliseconds that a synchronous request (`nats req concept.…`) waits for its action.
    #[schemars(range(min = 1, max = DAY_MS))]
    pub request_timeout_ms: u64,
}

impl Default for HostLimits {
    fn default() -> Self {
        Self {
            worker_concurrency: 64,
            worker_attempts: 10,
            clock_skew_ms: 1000,
            request_timeout_ms: 10_000,
        }
    }
}

/// Why a worker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A stream or consumer is missing.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The endpoints cannot be registered.
    #[error("the endpoints of {concept} cannot be registered: {source}")]
    Service {
        /// The concept.
        concept: String,
        /// Why not.
        source: concert_runtime::nats::Error,
    },
}

/// What every message of a worker needs.
pub(crate) struct Worker {
    pub(crate) bus: Bus,
    pub(crate) concept: Arc<Concept>,
    pub(crate) sealer: Sealer,
    pub(crate) limits: HostLimits,
    pub(crate) log_start: LogStart,
    pub(crate) backoff: Backoff,
    pub(crate) turns: Turns,
    pub(crate) figures: Figures,
}

/// A worker that takes messages; it goes on until shutdown.
#[derive(Debug)]
pub struct Running {
    bus: Bus,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Ends when the worker takes no more messages, and the server has what was sent.
    pub async fn ended(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a worker ended in disorder");
        }
        self.bus.flushed().await;
    }
}

/// How long a worker waits for the log, which a router makes.
const LOG_PATIENCE: Duration = Duration::from_secs(60);

/// Starts the worker of a concept. When this returns, its stream and its endpoints are there.
///
/// # Errors
/// See [`StartError`].
pub(crate) async fn run(
    bus: Bus,
    concept: Arc<Concept>,
    sealer: Sealer,
    limits: HostLimits,
    bounds: LogLimits,
    shutdown: Shutdown,
) -> Result<Running, StartError> {
    let log_start = wait_for_log(&bus, &shutdown).await?;
    let notes = streams::notes(&bus, concept.name(), &bounds).await?;
    let worker = Arc::new(Worker {
        turns: Turns::of(concept.name(), notes),
        figures: Figures::of(concept.name().as_str()),
        bus,
        concept,
        sealer,
        limits,
        log_start,
        backoff: Backoff::default(),
    });
    let keeper = worker.clone();
    let mut feed = Feed::new(
        worker.bus.clone(),
        Source::Invocations(worker.concept.name().clone()),
        bounds,
        worker.limits.worker_concurrency,
        move |message| Some(keeper.unreadable(message)),
    );
    feed.open().await?;
    service::start(worker.clone(), &shutdown).await?;
    tracing::info!(concept = %worker.concept.name(), "worker started");
    let bus = worker.bus.clone();
    let tasks = shutdown.tasks().clone();
    let task = tasks.spawn(take_messages(worker, feed, shutdown));
    Ok(Running { bus, task })
}

async fn wait_for_log(bus: &Bus, shutdown: &Shutdown) -> Result<LogStart, SetupError> {
    let started = tokio::time::Instant::now();
    loop {
        match LogStart::watch(bus.clone(), shutdown.clone()).await {
            Err(error) if started.elapsed() < LOG_PATIENCE && !shutdown.begun() => {
                tracing::debug!(%error, "waiting for a router to make the log");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            result => return result,
        }
    }
}

/// Takes messages until shutdown, and then the rest.
async fn take_messages(worker: Arc<Worker>, mut feed: Feed, shutdown: Shutdown) {
    let room = Arc::new(Semaphore::new(worker.limits.worker_concurrency));
    // The semaphore is never closed.
    while let Some(Ok(permit)) = until(&shutdown, room.clone().acquire_owned()).await {
        // With the one that is taken.
        let free = 1 + room.available_permits();
        let Some(message) = until(&shutdown, feed.next_of(free)).await else {
            break;
        };
        take(&worker, &shutdown, message, permit);
    }
    let mut rest = feed.close().await;
    while let Some(message) = rest.next().await
        && let Ok(permit) = room.clone().acquire_owned().await
    {
        take(&worker, &shutdown, message, permit);
    }
}

/// What comes of it before shutdown.
async fn until<T>(shutdown: &Shutdown, coming: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        () = shutdown.requested() => None,
        come = coming => Some(come),
    }
}

fn take(worker: &Arc<Worker>, shutdown: &Shutdown, message: Message, permit: OwnedSemaphorePermit) {
    let worker = worker.clone();
    shutdown.tasks().spawn(async move {
        worker.take(message).await;
        drop(permit);
    });
}
