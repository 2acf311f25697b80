//! The messages of a consumer, for as long as the process lives.

mod rest;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::{self, MessagesErrorKind};
use concert_wire::name::ConceptName;
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior};

pub use self::rest::Rest;
use crate::bus::Bus;
use crate::dead::DeadLetter;
use crate::retry::Backoff;
use crate::streams::{self, LogLimits, SetupError};
use crate::unreadable::{self, Look, Unreadable};

/// Whose messages.
#[derive(Debug, Clone)]
pub enum Source {
    /// The invocations of a concept, shared by its workers.
    Invocations(ConceptName),
    /// The log, for the active router.
    Log,
}

/// Makes a dead letter of a message that cannot be read; `None` where it has no name for it.
type Letter = Arc<dyn Fn(&Unreadable) -> Option<DeadLetter> + Send + Sync>;

/// How often it is looked for messages that cannot be read while the connection stands: some of them the client passes over in silence.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Opens its source, and opens it again whenever the server, the consumer or the connection went away.
pub struct Feed {
    bus: Bus,
    source: Source,
    limits: LogLimits,
    batch: usize,
    open: Option<Open>,
    failures: u32,
    letter: Letter,
    connections: watch::Receiver<u64>,
    look: Interval,
    /// The look that was begun last. It goes on by itself, as whoever waits for a message may give up at any time.
    looking: Option<JoinHandle<()>>,
}

struct Open {
    messages: pull::Stream,
    consumer: PullConsumer,
}

impl Feed {
    /// A feed that asks for up to `batch` messages at once. The stream and the consumer are made where they are missing. A message that cannot be read becomes the dead letter that `letter` makes of it.
    pub fn new(
        bus: Bus,
        source: Source,
        limits: LogLimits,
        batch: usize,
        letter: impl Fn(&Unreadable) -> Option<DeadLetter> + Send + Sync + 'static,
    ) -> Self {
        let mut look = tokio::time::interval_at(Instant::now() + LOOK_INTERVAL, LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            connections: bus.connections(),
            letter: Arc::new(letter),
            looking: None,
            look,
            bus,
            source,
            limits,
            batch,
            open: None,
            failures: 0,
        }
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
        };
        // Before the first message, since it may be one that ended this process's last run.
        put_aside(&self.bus, consumer.clone(), &*self.letter, Look::Always).await;
        let messages = match &self.source {
            Source::Invocations(_) => streams::worker_messages(&consumer, self.batch).await?,
            Source::Log => streams::router_messages(&consumer, self.batch).await?,
        };
        self.open = Some(Open { messages, consumer });
        Ok(())
    }

    fn look(&mut self, look: Look) {
        let Some(open) = &self.open else { return };
        let is_busy = self.looking.as_ref().is_some_and(|looking| !looking.is_finished());
        if is_busy && look == Look::IfRedelivered {
            return;
        }
        let (bus, consumer, letter) = (self.bus.clone(), open.consumer.clone(), self.letter.clone());
        let begun = tokio::spawn(async move { put_aside(&bus, consumer, &*letter, look).await });
        if let Some(before) = self.looking.replace(begun) {
            before.abort();
        }
    }

    /// The next message; waits until there is one. Nothing is lost when the call is dropped.
    pub async fn next(&mut self) -> Message {
        loop {
            let Some(open) = &mut self.open else {
                if let Err(error) = self.open().await {
                    self.pause(&error).await;
                }
                continue;
            };
            let next = tokio::select! {
                biased;
                Ok(()) = self.connections.changed() => Err(Look::Always),
                _ = self.look.tick() => Err(Look::IfRedelivered),
                next = open.messages.next() => Ok(next),
            };
            let next = match next {
                Ok(next) => next,
                Err(look) => {
                    self.look(look);
                    continue;
                }
            };
            match next {
                Some(Ok(message)) => {
                    self.failures = 0;
                    return message;
                }
                // The stream asks again by itself.
                Some(Err(error)) if error.kind() == MessagesErrorKind::MissingHeartbeat => {
                    tracing::debug!(source = ?self.source, "no heartbeat");
                }
                Some(Err(error)) => {
                    self.open = None;
                    self.pause(&error).await;
                }
                None => self.open = None,
            }
        }
    }

    /// Asks for no more messages. What is delivered all the same must be taken: nobody else gets it for some time.
    pub async fn close(self) -> Rest {
        Rest::of(&self.bus, self.open.map(|open| open.messages)).await
    }

    async fn pause(&mut self, error: &(dyn std::error::Error + Sync)) {
        self.failures += 1;
        let delay = Backoff {
            first: Duration::from_millis(50),
            most: Duration::from_secs(2),
        }
        .delay(self.failures);
        tracing::warn!(source = ?self.source, error = %error, "no messages for now");
        tokio::time::sleep(delay).await;
    }
}

/// Takes out what was delivered and cannot be read. What goes wrong here is tried again at the next look.
async fn put_aside(
    bus: &Bus,
    mut consumer: PullConsumer,
    letter: &(dyn Fn(&Unreadable) -> Option<DeadLetter> + Send + Sync),
    look: Look,
) {
    let found = match unreadable::find(bus, &mut consumer, look).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "it was not looked for messages that cannot be read");
            return;
        }
    };
    for message in found {
        let Some(letter) = letter(&message) else {
            tracing::error!(subject = %message.subject, "a dead letter has no name");
            continue;
        };
        if let Err(error) = letter.publish(bus).await {
            tracing::warn!(subject = %message.subject, %error, "a dead letter could not be stored");
            continue;
        }
        // Another process may have been faster.
        if let Err(error) = streams::delete(bus, &consumer.cached_info().stream_name, message.seq).await {
            tracing::debug!(subject = %message.subject, %error, "a message that cannot be read was not taken out");
        }
    }
}
