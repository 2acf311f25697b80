//! The messages of a consumer, for as long as the process lives.

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
use crate::unreadable::{Letter, Lookout, Unreadable, When};

/// Whose messages.
#[derive(Debug, Clone)]
pub enum Source {
    /// The invocations of a concept, shared by its workers.
    Invocations(ConceptName),
    /// The log, for the active router.
    Log,
    /// The log, for the active archive.
    Archive,
    /// The dead letters, for the active archive.
    Dead,
}

/// How often it is looked for messages that cannot be read while the connection stands: some of
/// them the client passes over in silence.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// How long after a look that failed the next one begins.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Opens its source, and opens it again whenever the server, the consumer or the connection went
/// away.
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
    /// Kept for as long as the delivery.
    _looking: Looking,
}

/// The task that looks for unreadable messages; it ends when this is dropped. It goes by itself:
/// whoever waits for a message may give up at any time, or take none for a while because all that
/// it has under way waits for answers that went with a connection.
struct Looking(JoinHandle<()>);

impl Drop for Looking {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Feed {
    /// A feed that asks for up to
    /// `batch` messages at once, where nothing else is said. The stream and the consumer are made where they are missing. A message that cannot be read becomes the dead letter that `letter`
    /// makes of it.
    pub fn new(
        bus: Bus,
        source: Source,
        limits: LogLimits,
        batch: usize,
        letter: impl Fn(&Unreadable) -> Option<DeadLetter> + Send + Sync + 'static,
    ) -> Self {
        Self { letter: Arc::new(letter), bus, source, limits, batch, open: None, failures: 0 }
    }

    /// Opens the source now, so that a mistake in the set-up is told at the start.
    ///
    /// # Errors
    /// The stream or the consumer cannot be had.
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
        let mut lookout = Lookout::new(self.bus.clone(), consumer.clone(), self.letter.clone());
        // Before the first message, since it may be one that ended this process's last run.
        let looked = Box::pin(lookout.put_aside(When::Always)).await;
        if let Err(error) = &looked {
            tell(&**error);
            connections.mark_changed();
        }
        let ahead = async |name| streams::active_messages(&consumer, name, self.batch).await;
        let delivery = match &self.source {
            Source::Invocations(_) => Delivery::on_demand(&self.bus, consumer.clone()),
            Source::Log => Delivery::Ahead(Box::new(ahead(ROUTERS).await?)),
            Source::Archive | Source::Dead => Delivery::Ahead(Box::new(ahead(ARCHIVES).await?)),
        };
        let looking = Looking(tokio::spawn(keep_looking(lookout, connections)));
        self.open = Some(Open { delivery, _looking: looking });
        Ok(())
    }

    /// The next message; waits until there is one. Nothing is lost when the call is dropped.
    pub async fn next(&mut self) -> Message {
        self.next_of(self.batch).await
    }

    /// The next message, for whoever can take so many at once and no more: of
    /// [`Source::Invocations`] no message is delivered that would have to wait in this process,
    /// where its time would run out.
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

    /// Asks for no more messages. What is delivered all the same must be taken: nobody else gets it
    /// for some time.
    pub async fn close(self) -> Rest {
        Rest::of(&self.bus, self.open.map(|open| open.delivery)).await
    }

    async fn pause(&mut self, error: &(dyn std::error::Error + Sync)) {
        self.failures += 1;
        let delay = Backoff { first: Duration::from_millis(50), most: Duration::from_secs(2) }
            .delay(self.failures);
        tracing::warn!(source = ?self.source, error = %error, "no messages for now");
        tokio::time::sleep(delay).await;
    }
}

/// Looks for unreadable messages whenever a connection was made, and every so often.
async fn keep_looking(mut lookout: Lookout, mut connections: watch::Receiver<u64>) {
    let mut tick = tokio::time::interval_at(Instant::now() + LOOK_INTERVAL, LOOK_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let when = tokio::select! {
            connected = connections.changed() => match connected {
                Ok(()) => When::Always,
                Err(_) => return,
            },
            _ = tick.tick() => When::IfRedelivered,
        };
        if let Err(error) = lookout.put_aside(when).await {
            tell(&*error);
            tokio::time::sleep(LOOK_AGAIN).await;
            connections.mark_changed();
        }
    }
}

fn tell(error: &(dyn std::error::Error + Send + Sync)) {
    tracing::warn!(%error, "it was not looked for messages that cannot be read; again soon");
}
