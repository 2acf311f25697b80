//! The messages of a consumer, for as long as the process lives.

use std::time::Duration;

use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::pull::{self, MessagesErrorKind};
use concert_wire::name::ConceptName;
use futures_util::{FutureExt as _, StreamExt as _};

use crate::ack;
use crate::bus::Bus;
use crate::retry::Backoff;
use crate::streams::{self, LogLimits, SetupError};

/// Whose messages.
#[derive(Debug, Clone)]
pub enum Source {
    /// The invocations of a concept, shared by its workers.
    Invocations(ConceptName),
    /// The log, for the active router.
    Log,
}

/// Opens its source, and opens it again whenever the server, the consumer or the connection went away.
pub struct Feed {
    bus: Bus,
    source: Source,
    limits: LogLimits,
    batch: usize,
    open: Option<pull::Stream>,
    failures: u32,
}

impl Feed {
    /// A feed that asks for up to `batch` messages at once. The stream and the consumer are made where they are missing.
    pub fn new(bus: Bus, source: Source, limits: LogLimits, batch: usize) -> Self {
        Self {
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
        self.open = Some(match &self.source {
            Source::Invocations(concept) => {
                let stream = streams::actions(&self.bus, concept, &self.limits).await?;
                streams::worker_messages(&streams::workers_consumer(&stream).await?, self.batch).await?
            }
            Source::Log => {
                let stream = streams::log(&self.bus, &self.limits).await?;
                streams::router_messages(&streams::routers_consumer(&stream).await?, self.batch).await?
            }
        });
        Ok(())
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
            match open.next().await {
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

    /// Gives back what was delivered and not taken, so that others need not wait until the server does so by itself.
    pub async fn hand_back(mut self) {
        let Some(mut open) = self.open.take() else { return };
        while let Some(Some(Ok(message))) = open.next().now_or_never() {
            ack::later(&message, Duration::ZERO).await;
        }
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
