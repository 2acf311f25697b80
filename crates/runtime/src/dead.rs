//! Dead letters: messages that no retry will fix. They are kept for people to look at, with the
//! reason.

use async_nats::HeaderMap;
use concert_wire::name::{ActionName, BadName, ConceptName};
use concert_wire::subject::{self, CompletionSubject};
use concert_wire::{RESERVED_CONCEPT, header};

mod stored;

pub use self::stored::{
    DeadLetterReadError, Retried, RetryError, StoredDeadLetter, each, find, remove, retry,
};
use crate::bus::Bus;
use crate::log::{self, PublishError};
use crate::nats::one_line;

/// What is known of a message that is given up.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// Whose it was, as far as the subject tells.
    pub concept: ConceptName,
    /// Which action it was, as far as the subject tells.
    pub action: Option<ActionName>,
    /// The subject that it came on.
    pub subject: String,
    /// Why no retry will help.
    pub reason: String,
    /// Further headers: the flow and the id, where they are known.
    pub headers: HeaderMap,
    /// The body, with its secrets sealed; empty where that could not be done.
    pub body: Vec<u8>,
}

impl DeadLetter {
    /// What is known of a message of the log that nothing can be made of.
    ///
    /// # Errors
    /// The reserved name is none, which does not happen.
    pub fn of_completion(subject: &str, body: &[u8], reason: String) -> Result<Self, BadName> {
        let completion = CompletionSubject::parse(subject).ok();
        let mut headers = HeaderMap::new();
        if let Some(subject) = &completion {
            headers.insert(header::FLOW, subject.flow.to_string());
            headers.insert(header::ACTION, subject.id.to_string());
        }
        Ok(Self {
            concept: match &completion {
                Some(completion) => completion.concept.clone(),
                None => RESERVED_CONCEPT.parse()?,
            },
            action: completion.map(|completion| completion.action),
            subject: subject.to_owned(),
            reason,
            headers,
            body: body.to_vec(),
        })
    }

    /// Stores it.
    ///
    /// # Errors
    /// It could not be stored; the message must not be given up yet.
    pub async fn publish(self, bus: &Bus) -> Result<(), PublishError> {
        let mut headers = self.headers;
        headers.insert(header::REASON, one_line(&self.reason));
        headers.insert(header::SUBJECT, one_line(&self.subject));
        tracing::error!(subject = %self.subject, reason = %self.reason, "dead letter");
        log::publish(
            bus,
            subject::dead(&self.concept, self.action.as_ref()),
            headers,
            self.body.into(),
        )
        .await
        .map(|_| ())
    }
}
