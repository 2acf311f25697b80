//! The archive: what happened in any flow, also when the log has let it go.
//!
//! It reads the whole log behind the routers, keeps one document for each flow in MongoDB, and answers questions about flows as the micro service `Concert`.
//! Nothing depends on it: without it every flow runs as before, and when it comes back it goes on where it was, as long as the log reaches.

mod courtesy;
mod firings;
mod gather;
mod kept;
mod letters;
mod messages;
mod metrics;
mod observers;
mod questions;
mod rulebook;
mod service;
mod told_rules;
mod traces;
mod writer;
mod wrong;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use concert_runtime::bus::Bus;
use concert_runtime::dead::DeadLetter;
use concert_runtime::feed::{Feed, Source};
use concert_runtime::mongodb::{StoreArgs, StoreError};
use concert_runtime::nats;
use concert_runtime::process::Shutdown;
use concert_runtime::setting::{BYTES_MAX, DAY_MS, within};
use concert_runtime::streams::{LogLimits, SetupError};

use crate::firings::Firings;
use crate::kept::Archive;
use crate::metrics::Metrics;
use crate::observers::Observers;
use crate::questions::Questions;
use crate::rulebook::Rulebook;
use crate::traces::Traces;
pub use crate::traces::{BadEndpoint, Sampler, TraceArgs};
use crate::writer::Writer;

/// The name of the archive's database, as concepts have theirs.
pub const NAME: &str = "Archive";

/// What the archive is told.
#[derive(Debug, Clone, Args)]
pub struct ArchiveArgs {
    /// How long a flow is kept, in days.
    #[arg(long, env = "CONCERT_ARCHIVE_DAYS", default_value_t = 30, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub archive_days: u32,
    /// Messages of the log that wait in memory at most, for their flow to end or the database to answer; past it the log keeps them.
    #[arg(long, env = "CONCERT_ARCHIVE_MESSAGES", default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=20_000))]
    pub archive_messages: u32,
    /// Bytes of those messages that wait in memory at most; past them, too, the log keeps the rest.
    #[arg(long, env = "CONCERT_ARCHIVE_BYTES", default_value_t = 64 * 1024 * 1024, value_name = "BYTES", value_parser = within(1024 * 1024..=BYTES_MAX))]
    pub archive_bytes: u64,
    /// How long a flow that is not answered must be quiet before it is written as it is, in milliseconds.
    #[arg(long, env = "CONCERT_ARCHIVE_QUIET_MS", default_value_t = 2000, value_name = "MS", value_parser = within(1..=DAY_MS))]
    pub archive_quiet_ms: u64,
    /// For how long the archive gives way to others while its machine has no processor idle, in seconds: the age of what it has not read at most. 0 is never.
    #[arg(
        long,
        env = "CONCERT_ARCHIVE_YIELD_SECONDS",
        default_value_t = 600,
        value_name = "SECONDS",
        value_parser = within(0..=DAY_MS / 1000)
    )]
    pub archive_yield_seconds: u64,
    /// Questions that are answered at once; further ones wait.
    #[arg(long, env = "CONCERT_ARCHIVE_QUESTIONS", default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub archive_questions: u16,
    /// Where traces go.
    #[command(flatten)]
    pub traces: TraceArgs,
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
    /// The questions cannot be listened for.
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
    args: &ArchiveArgs,
    log: LogLimits,
    shutdown: Shutdown,
) -> Result<Running, StartError> {
    let database = concert_runtime::mongodb::connect(store, NAME).await?;
    let keep = Duration::from_secs(u64::from(args.archive_days) * 24 * 3600);
    let archive = Archive::open(&database, keep).await?;
    let rulebook = Arc::new(Rulebook::new(bus.clone(), archive.clone()));
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
        traces: Traces::start(&args.traces, metrics.clone(), &shutdown)?,
        metrics: metrics.clone(),
    });
    let new_writer = || Writer::new(bus.clone(), archive.clone(), rulebook.clone(), observers.clone());
    let questions = Questions::new(bus.clone(), archive.clone(), rulebook.clone(), observers.clone());
    service::start(Arc::new(questions), args.archive_questions, &shutdown)
        .await
        .map_err(StartError::Service)?;
    tracing::info!(days = args.archive_days, "archive started");
    let gathering = gather::run(feed, new_writer(), metrics.clone(), args.clone(), shutdown.clone());
    let letters = letters::run(dead, new_writer(), archive.clone(), metrics.clone(), shutdown.clone());
    let watching = metrics.clone().watch(bus, rulebook, shutdown);
    Ok(Running {
        tasks: vec![tokio::spawn(gathering), tokio::spawn(letters), tokio::spawn(watching)],
    })
}
