//! The archive: what happened in any flow, also when the log has let it go.
//!
//! It reads the whole log behind the routers, keeps one document for each flow in MongoDB, and
//! answers queries about flows as the micro service `Concert`. Nothing depends on it: without it
//! every flow runs as before, and when it comes back it goes on where it was, as long as the log
//! reaches.

mod collector;
mod dead_letters;
mod firings;
mod messages;
mod metrics;
mod observers;
mod problems;
mod queries;
mod read_throttle;
mod repository;
mod rule_cache;
mod rule_rows;
mod service;
mod traces;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use concert_runtime::bus::Bus;
use concert_runtime::dead::DeadLetter;
use concert_runtime::feed::{Feed, Source};
use concert_runtime::mongodb::{StoreArgs, StoreError};
use concert_runtime::nats;
use concert_runtime::process::Shutdown;
use concert_runtime::setting::{BYTES_MAX, DAY_MS};
use concert_runtime::streams::{LogLimits, SetupError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::firings::Firings;
use crate::metrics::Metrics;
use crate::observers::Observers;
use crate::queries::Queries;
use crate::repository::Archive;
use crate::rule_cache::RuleCache;
use crate::traces::Traces;
pub use crate::traces::{BadEndpoint, Sampler, TraceArgs};
use crate::writer::Writer;

/// The name of the archive's database, as concepts have theirs.
pub const NAME: &str = "Archive";

/// The section `[archive]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ArchiveArgs {
    /// Whether `concert up` starts an archive; without one, flows are not kept and cannot be
    /// listed.
    pub enabled: bool,
    /// Days that a flow is kept.
    #[schemars(range(min = 1, max = 3650))]
    pub days: u32,
    /// Maximum number of log messages in memory that wait for their flow to end or for the
    /// database; the log keeps the others.
    #[schemars(range(min = 100, max = 20_000))]
    pub messages: u32,
    /// Maximum size of those messages, in bytes; the log keeps the others.
    #[schemars(range(min = 1024 * 1024, max = BYTES_MAX))]
    pub bytes: u64,
    /// Milliseconds without a message after which a flow that has no response is stored as it is.
    #[schemars(range(min = 1, max = DAY_MS))]
    pub quiet_ms: u64,
    /// Maximum age of the archive's backlog, in seconds, while it throttles itself on a busy
    /// machine; 0 disables throttling.
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

/// Why an archive does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stream or consumer is missing.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// Traces cannot be exported.
    #[error(transparent)]
    Traces(#[from] BadEndpoint),
    /// The queries cannot be listened for.
    #[error("the service Concert cannot be offered: {0}")]
    Service(nats::Error),
}

/// An archive that reads and answers; it goes on until shutdown.
pub struct Running {
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Running {
    /// Ends when what was read is written, or left to the next archive.
    pub async fn ended(self) {
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "the archive ended in disorder");
            }
        }
    }
}

/// Messages asked for at once.
const BATCH: usize = 1000;

/// Starts an archive. When this returns, it answers.
///
/// # Errors
/// See [`StartError`].
pub async fn run(
    bus: Bus,
    store: &StoreArgs,
    (args, traces): (&ArchiveArgs, &TraceArgs),
    log: LogLimits,
    shutdown: Shutdown,
) -> Result<Running, StartError> {
    let database = concert_runtime::mongodb::connect(store, NAME).await?;
    let keep = Duration::from_secs(u64::from(args.days) * 24 * 3600);
    let archive = Archive::open(&database, keep).await?;
    let rules = Arc::new(RuleCache::new(bus.clone(), archive.clone()));
    let letter = |message: &concert_runtime::unreadable::Unreadable| {
        let reason = format!("its headers cannot be read: {}", message.why);
        DeadLetter::of_completion(&message.subject, &message.body, reason).ok()
    };
    let mut feed = Feed::new(bus.clone(), Source::Archive, log.clone(), BATCH, letter);
    feed.open().await?;
    // What no client reads among the dead letters stays where it is.
    let mut dead = Feed::new(bus.clone(), Source::Dead, log, BATCH, |_| None);
    dead.open().await?;
    let metrics = Metrics::new();
    let observers = Arc::new(Observers {
        firings: Firings::new(concert_runtime::clock::now_ms()),
        traces: Traces::start(traces, metrics.clone(), &shutdown)?,
        metrics: metrics.clone(),
    });
    let new_writer = || Writer::new(bus.clone(), archive.clone(), rules.clone(), observers.clone());
    let queries = Queries::new(bus.clone(), archive.clone(), rules.clone(), observers.clone());
    service::start(Arc::new(queries), args.questions, &shutdown)
        .await
        .map_err(StartError::Service)?;
    tracing::info!(days = args.days, "archive started");
    let gathering =
        collector::run(feed, new_writer(), metrics.clone(), args.clone(), shutdown.clone());
    let letters =
        dead_letters::run(dead, new_writer(), archive.clone(), metrics.clone(), shutdown.clone());
    let watching = metrics.clone().watch(bus, rules, shutdown);
    Ok(Running {
        tasks: vec![tokio::spawn(gathering), tokio::spawn(letters), tokio::spawn(watching)],
    })
}
