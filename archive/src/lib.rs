//! The archive: the history of all flows, including those that the log no longer has.
//!
//! It consumes the whole log, stores one document for each flow in MongoDB, and serves queries
//! about flows as the micro service `Concert`. No other component needs it. After an outage it
//! resumes where it stopped, if the log still has the messages.

mod collector;
mod dead_letters;
mod firings;
mod forget;
mod messages;
mod metrics;
mod observers;
mod problems;
mod queries;
mod read_throttle;
mod redaction;
mod repository;
mod rule_cache;
mod rule_rows;
mod seal_removal;
mod service;
mod traces;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use concert_runtime::bus::Bus;
use concert_runtime::dead::DeadLetter;
use concert_runtime::feed::{Feed, Source};
use concert_runtime::mongodb::{LiveDatabase, StoreArgs, StoreError};
use concert_runtime::nats;
use concert_runtime::process::Shutdown;
use concert_runtime::setting::{BYTES_MAX, DAY_MS};
use concert_runtime::streams::{LogLimits, SetupError};
use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::firings::Firings;
pub use crate::forget::{ForgetError, Forgotten, forget};
use crate::metrics::Metrics;
use crate::observers::Observers;
use crate::queries::Queries;
use crate::repository::Archive;
use crate::rule_cache::RuleCache;
use crate::traces::Traces;
pub use crate::traces::{BadEndpoint, Sampler, TraceArgs};
use crate::writer::Writer;

/// Name of the archive in its database's name, `<prefix>_<name in lower case>`.
pub const NAME: &str = "Archive";

/// The section `[archive]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ArchiveArgs {
    /// Start an archive with `concert up`; without one, flows are not stored and cannot be listed.
    pub enabled: bool,
    /// Days after which the archive deletes a flow.
    #[schemars(range(min = 1, max = 3650))]
    pub days: u32,
    /// Maximum number of log messages in memory that wait for the response of their flow. At the
    /// limit, the archive stops reading the log. An equal number of messages can wait for the
    /// database.
    #[schemars(range(min = 100, max = 20_000))]
    pub messages: u32,
    /// Maximum size of the messages that wait for the response of their flow, in bytes. At the
    /// limit, the archive stops reading the log.
    #[schemars(range(min = 1024 * 1024, max = BYTES_MAX))]
    pub bytes: u64,
    /// Time without messages after which a flow without a response is stored, in milliseconds.
    #[schemars(range(min = 1, max = DAY_MS))]
    pub quiet_ms: u64,
    /// On a busy machine, the archive throttles itself until its backlog has this age, in seconds.
    /// 0 disables throttling.
    #[schemars(range(min = 0, max = DAY_MS / 1000))]
    pub yield_seconds: u64,
    /// Maximum number of concurrent queries; further queries wait.
    #[schemars(range(min = 1, max = u16::MAX))]
    pub questions: u16,
}

impl Default for ArchiveArgs {
    fn default() -> Self {
        Self {
            enabled: true,
            days: 30,
            messages: 10_000,
            bytes: 64 * 1024 * 1024,
            quiet_ms: 2000,
            yield_seconds: 600,
            questions: 8,
        }
    }
}

/// Error at the start of an archive.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database is not available.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stream or consumer is missing.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The endpoint of the traces is invalid.
    #[error(transparent)]
    Traces(#[from] BadEndpoint),
    /// The subscriptions of the queries fail.
    #[error("cannot offer the NATS service Concert: {0}; check that the NATS server runs")]
    Service(nats::Error),
}

/// A running archive; it runs until shutdown.
pub struct Running {
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Running {
    /// Waits for the shutdown. Messages that are not stored by then stay in the log for the next
    /// archive.
    pub async fn ended(self) {
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the archive panicked");
            }
        }
    }
}

/// Messages per fetch.
const BATCH: usize = 1000;

/// Starts an archive. When this returns, the archive serves queries.
///
/// # Errors
/// See [`StartError`].
pub fn run<'a>(
    bus: Bus,
    store: &'a StoreArgs,
    (args, traces): (&'a ArchiveArgs, &'a TraceArgs),
    log: LogLimits,
    shutdown: Shutdown,
) -> BoxFuture<'a, Result<Running, StartError>> {
    Box::pin(async move {
        let database = LiveDatabase::connect(store, NAME, &shutdown).await?;
        let keep = Duration::from_secs(u64::from(args.days) * 24 * 3600);
        let archive = Archive::open(database, keep).await?;
        let rules = Arc::new(RuleCache::new(bus.clone(), archive.clone()));
        let dead_letter = |message: &concert_runtime::unreadable::Unreadable| {
            DeadLetter::of_completion(&message.subject, &message.body, message.reason()).ok()
        };
        let mut feed = Feed::new(bus.clone(), Source::Archive, log.clone(), BATCH, dead_letter);
        feed.open().await?;
        // Unreadable dead letters stay in their stream.
        let mut dead = Feed::new(bus.clone(), Source::Dead, log, BATCH, |_| None);
        dead.open().await?;
        let metrics = Metrics::new();
        let observers = Arc::new(Observers {
            firings: Firings::new(concert_runtime::clock::now_ms()),
            traces: Traces::start(traces, metrics.clone(), &shutdown)?,
            metrics: metrics.clone(),
        });
        let new_writer =
            || Writer::new(bus.clone(), archive.clone(), rules.clone(), observers.clone());
        let queries = Queries::new(bus.clone(), archive.clone(), rules.clone(), observers.clone());
        service::start(Arc::new(queries), args.questions, &shutdown)
            .await
            .map_err(StartError::Service)?;
        tracing::info!(days = args.days, "archive started");
        let collecting =
            collector::run(feed, new_writer(), metrics.clone(), args.clone(), shutdown.clone());
        let letters = dead_letters::run(
            dead,
            new_writer(),
            archive.clone(),
            metrics.clone(),
            shutdown.clone(),
        );
        let removing = seal_removal::run(archive, shutdown.clone());
        let watching = metrics.clone().watch(bus, rules, shutdown);
        Ok(Running {
            tasks: vec![
                tokio::spawn(removing),
                tokio::spawn(collecting),
                tokio::spawn(letters),
                tokio::spawn(watching),
            ],
        })
    })
}
