//! Messages of a consumer, for the lifetime of the process.

mod delivery;
mod rest;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Message;
use concert_wire::name::ConceptName;
use concert_wire::subject::{ARCHIVES, ROUTERS};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use self::delivery::{Delivery, Interruption};
pub use self::rest::Rest;
use crate::bus::Bus;
use crate::dead::DeadLetter;
use crate::retry::Backoff;
use crate::streams::{self, LogLimits, SetupError};
use crate::unreadable::{Letter, Unreadable, UnreadableScanner, When};

/// Source of the messages.
#[derive(Debug, Clone)]
pub enum Source {
    /// Invocations of a concept, shared by its workers.
    Invocations(ConceptName),
    /// The log, for the active router.
    Log,
    /// The log, for the active archive.
    Archive,
    /// The dead letters, for the active archive.
    Dead,
}

/// Interval between scans for unreadable messages while the client is connected. The client skips
/// some of them silently.
const SCAN_INTERVAL: Duration = Duration::from_secs(10);
/// Delay between a failed scan and the next one.
const SCAN_RETRY: Duration = Duration::from_secs(1);

/// Receives messages from its source. Reopens the source when the server, the consumer or the
/// connection was lost.
pub struct Feed {
    bus: Bus,
    source: Source,
    limits: LogLimits,
    batch: usize,
    open: Option<Open>,
    failures: u32,
    letter: Letter,
}

struct Open {
    delivery: Delivery,
    /// Runs as long as the delivery exists.
    _scanning: Scanning,
}

/// Task that scans for unreadable messages; dropping this stops it. It is a separate task because
/// the receiver of messages may be cancelled at any time, or may pause while it waits for responses
/// that were lost with a connection.
struct Scanning(JoinHandle<()>);

impl Drop for Scanning {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Feed {
    /// Creates a feed that fetches up to `batch` messages at a time. The stream and the consumer
    /// are created if they are missing. An unreadable message becomes the dead letter that `letter`
    /// builds from it.
    pub fn new(
        bus: Bus,
        source: Source,
        limits: LogLimits,
        batch: usize,
        letter: impl Fn(&Unreadable) -> Option<DeadLetter> + Send + Sync + 'static,
    ) -> Self {
        Self { letter: Arc::new(letter), bus, source, limits, batch, open: None, failures: 0 }
    }

    /// Opens the source now, so that the start reports an error in the setup.
    ///
    /// # Errors
    /// The stream or the consumer is not available.
    pub async fn open(&mut self) -> Result<(), SetupError> {
        let consumer = match &self.source {
            Source::Invocations(concept) => {
                let stream = streams::actions(&self.bus, concept, &self.limits).await?;
                streams::workers_consumer(&self.bus, &stream).await?
            }
            Source::Log => {
                let stream = streams::log(&self.bus, &self.limits).await?;
                streams::routers_consumer(&self.bus, &stream).await?
            }
            Source::Archive => {
                let stream = streams::log(&self.bus, &self.limits).await?;
                streams::archives_consumer(&self.bus, &stream).await?
            }
            Source::Dead => {
                let stream = streams::existing_dead(&self.bus).await?;
                streams::archives_consumer(&self.bus, &stream).await?
            }
        };
        let mut connections = self.bus.connections();
        let mut scanner =
            UnreadableScanner::new(self.bus.clone(), consumer.clone(), self.letter.clone());
        // Scan before the first message: it may be the one that stopped the previous run of this
        // process.
        let scanned = Box::pin(scanner.quarantine(When::Always)).await;
        if let Err(error) = &scanned {
            log_failed_scan(&**error);
            connections.mark_changed();
        }
        let ahead = async |name| streams::active_messages(&consumer, name, self.batch).await;
        let delivery = match &self.source {
            Source::Invocations(_) => Delivery::on_demand(&self.bus, consumer.clone()),
            Source::Log => Delivery::Ahead(Box::new(ahead(ROUTERS).await?)),
            Source::Archive | Source::Dead => Delivery::Ahead(Box::new(ahead(ARCHIVES).await?)),
        };
        let scanning = Scanning(tokio::spawn(keep_scanning(scanner, connections)));
        self.open = Some(Open { delivery, _scanning: scanning });
        Ok(())
    }

    /// Waits for the next message. Cancellation loses no message.
    pub async fn next(&mut self) -> Message {
        self.next_of(self.batch).await
    }

    /// Waits for the next message of a receiver that can process `room` messages.
    /// [`Source::Invocations`] delivers no more than that, because a message that waits in this
    /// process uses up its ack deadline.
    pub async fn next_of(&mut self, room: usize) -> Message {
        loop {
            let Some(open) = &mut self.open else {
                if let Err(error) = Box::pin(self.open()).await {
                    self.pause(&error).await;
                }
                continue;
            };
            match open.delivery.next(room).await {
                Some(Ok(message)) => {
                    self.failures = 0;
                    return message;
                }
                Some(Err(Interruption::Silence)) => {
                    tracing::debug!(source = ?self.source, "no heartbeat")
                }
                Some(Err(Interruption::Ended(error))) => {
                    self.open = None;
                    self.pause(&*error).await;
                }
                None => self.open = None,
            }
        }
    }

    /// Stops fetching. The messages that the server still delivers must be processed, because no
    /// other process receives them before their ack deadline.
    pub async fn close(self) -> Rest {
        Rest::of(&self.bus, self.open.map(|open| open.delivery)).await
    }

    async fn pause(&mut self, error: &(dyn std::error::Error + Sync)) {
        self.failures += 1;
        let delay = Backoff { first: Duration::from_millis(50), most: Duration::from_secs(2) }
            .delay(self.failures);
        tracing::warn!(source = ?self.source, error = %error, "cannot receive messages; retrying");
        tokio::time::sleep(delay).await;
    }
}

/// Scans for unreadable messages after each connection and at regular intervals.
async fn keep_scanning(mut scanner: UnreadableScanner, mut connections: watch::Receiver<u64>) {
    let mut tick = tokio::time::interval_at(Instant::now() + SCAN_INTERVAL, SCAN_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let when = tokio::select! {
            connected = connections.changed() => match connected {
                Ok(()) => When::Always,
                Err(_) => return,
            },
            _ = tick.tick() => When::IfRedelivered,
        };
        if let Err(error) = scanner.quarantine(when).await {
            log_failed_scan(&*error);
            tokio::time::sleep(SCAN_RETRY).await;
            connections.mark_changed();
        }
    }
}

fn log_failed_scan(error: &(dyn std::error::Error + Send + Sync)) {
    tracing::warn!(%error, "cannot scan for unreadable messages; retrying");
}
