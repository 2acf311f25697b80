//! The worker of one concept: fetches messages while it has capacity, and drains at shutdown.

use std::sync::Arc;
use std::time::Duration;

use concert_runtime::blobs::{Blobs, BlobsConnectError};
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

use crate::boxed::Boxed;
use crate::concept::Concept;
use crate::host::turns::Turns;
use crate::large::LargeValues;
use crate::oldest_message::OldestMessageTime;
use crate::service;
use crate::worker_metrics::WorkerMetrics;

/// Maximum value of the number of attempts.
const ATTEMPTS_MAX: i64 = 1000;

/// Minimum value of the budget of large values, in bytes.
const LARGE_BUDGET_MIN: u64 = 64 * 1024;

/// Limits of a worker: the section `[workers]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HostLimits {
    /// Maximum number of concurrent actions of one worker; further ones wait in the queue of the
    /// concept. Each of several workers of a concept has this limit.
    #[serde(rename = "concurrency")]
    #[schemars(range(min = 1, max = COUNT_MAX))]
    pub worker_concurrency: usize,
    /// Maximum number of attempts per action. After that, one isolated attempt is made, during
    /// which the worker retries no other action. If it fails, the action becomes a dead letter.
    #[serde(rename = "attempts")]
    #[schemars(range(min = 1, max = ATTEMPTS_MAX))]
    pub worker_attempts: i64,
    /// Difference between the clocks of two machines that is tolerated, in milliseconds: a worker
    /// treats a deadline as passed only when it is over by more than this time.
    #[schemars(range(min = 0, max = DAY_MS))]
    pub clock_skew_ms: u64,
    /// Maximum size of the large values in the inputs of concurrent actions and queries of one
    /// worker, in bytes. Further actions and queries wait; one whose input alone is larger fails.
    #[schemars(range(min = LARGE_BUDGET_MIN, max = i64::MAX))]
    pub large_value_budget_bytes: u64,
    /// Milliseconds that a synchronous request (`nats req concept.…`) waits for its action. The
    /// action continues after that.
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
            large_value_budget_bytes: 64 * 1024 * 1024,
        }
    }
}

/// Reason why a worker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A stream or consumer is missing.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The connection for large values fails.
    #[error(transparent)]
    Blobs(#[from] BlobsConnectError),
    /// The endpoints cannot be registered.
    #[error("cannot register the endpoints of {concept}: {source}")]
    Service {
        /// The concept.
        concept: String,
        /// The cause.
        source: concert_runtime::nats::Error,
    },
}

/// State shared by all messages of a worker.
pub(crate) struct Worker {
    pub(crate) bus: Bus,
    pub(crate) concept: Arc<Concept>,
    pub(crate) sealer: Sealer,
    pub(crate) large: LargeValues,
    pub(crate) limits: HostLimits,
    pub(crate) oldest_message: OldestMessageTime,
    pub(crate) backoff: Backoff,
    pub(crate) turns: Turns,
    pub(crate) metrics: WorkerMetrics,
}

/// A running worker; it runs until shutdown.
#[derive(Debug)]
pub struct Running {
    bus: Bus,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Returns when the worker has stopped receiving and its pending messages are sent.
    pub async fn ended(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "worker failed");
        }
        self.bus.flushed().await;
    }
}

/// Timeout for the log, which a router creates.
const LOG_TIMEOUT: Duration = Duration::from_secs(60);

/// Starts the worker of a concept. When this returns, its stream and its endpoints exist.
///
/// # Errors
/// See [`StartError`].
pub(crate) fn run(
    bus: Bus,
    concept: Arc<Concept>,
    sealer: Sealer,
    limits: HostLimits,
    bounds: LogLimits,
    shutdown: Shutdown,
) -> Boxed<'static, Result<Running, StartError>> {
    Box::pin(async move {
        let oldest_message = wait_for_log(&bus, &shutdown).await?;
        let notes = streams::notes(&bus, concept.name(), &bounds).await?;
        let large = LargeValues::new(
            Blobs::connect(&bus).await?,
            sealer.clone(),
            concept.name().clone(),
            limits.large_value_budget_bytes,
            Duration::from_secs(bounds.log_max_age_hours * 3600),
        );
        let worker = Arc::new(Worker {
            turns: Turns::of(concept.name(), notes),
            metrics: WorkerMetrics::of(concept.name().as_str()),
            bus,
            concept,
            sealer,
            large,
            limits,
            oldest_message,
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
    })
}

async fn wait_for_log(bus: &Bus, shutdown: &Shutdown) -> Result<OldestMessageTime, SetupError> {
    let started = tokio::time::Instant::now();
    loop {
        match OldestMessageTime::watch(bus.clone(), shutdown.clone()).await {
            Err(error) if started.elapsed() < LOG_TIMEOUT && !shutdown.begun() => {
                tracing::debug!(%error, "waiting for a router to create the log");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            result => return result,
        }
    }
}

/// Receives messages until shutdown, and then finishes those in progress.
async fn take_messages(worker: Arc<Worker>, mut feed: Feed, shutdown: Shutdown) {
    let room = Arc::new(Semaphore::new(worker.limits.worker_concurrency));
    // The semaphore is never closed.
    while let Some(Ok(permit)) = until(&shutdown, room.clone().acquire_owned()).await {
        // Including the permit that is held.
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

/// The future's result, or `None` at shutdown.
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
