//! Dead letters: messages that no retry will fix. They are stored with the reason, for an operator
//! to inspect.

use std::sync::LazyLock;

use async_nats::HeaderMap;
use concert_wire::envelope::Completion;
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
use crate::repetitions::Repetitions;

/// Logged dead letters by subject in the dead-letter stream and reason: a failure of many messages
/// is two lines, not thousands.
static LOGGED: LazyLock<Repetitions<(String, String)>> = LazyLock::new(Repetitions::default);

/// The known parts of a dead-lettered message.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// Concept of the message, if the subject names it.
    pub concept: ConceptName,
    /// Action of the message, if the subject names it.
    pub action: Option<ActionName>,
    /// Original subject.
    pub subject: String,
    /// Reason why no retry will help.
    pub reason: String,
    /// Further headers: the flow and the id, if they are known.
    pub headers: HeaderMap,
    /// Body with encrypted (sealed) secrets; empty if the secrets cannot be encrypted.
    pub body: Vec<u8>,
}

impl DeadLetter {
    /// Builds the dead letter of a log message that cannot be processed. The body is kept only if
    /// subject and body are those of a completion, whose secrets are sealed: any other message was
    /// typed by hand, and may contain a secret in clear.
    ///
    /// # Errors
    /// The reserved concept name is invalid, which does not happen.
    pub fn of_completion(subject: &str, body: &[u8], reason: String) -> Result<Self, BadName> {
        let completion = CompletionSubject::parse(subject).ok();
        let is_completion = completion.is_some() && Completion::decode(body).is_ok();
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
            body: if is_completion { body.to_vec() } else { Vec::new() },
        })
    }

    /// Publishes it to the dead-letter stream.
    ///
    /// # Errors
    /// It could not be stored; the caller must keep the message.
    pub async fn publish(self, bus: &Bus) -> Result<(), PublishError> {
        let mut headers = self.headers;
        headers.insert(header::REASON, one_line(&self.reason));
        headers.insert(header::SUBJECT, one_line(&self.subject));
        let subject = subject::dead(&self.concept, self.action.as_ref());
        let kind = (subject.clone(), self.reason.clone());
        let is_first = LOGGED.is_first(kind, {
            let (subject, reason) = (subject.clone(), self.reason.clone());
            move |count| tracing::error!(%subject, %reason, count, "more dead letters")
        });
        if is_first {
            tracing::error!(subject = %self.subject, reason = %self.reason, "dead letter");
        }
        log::publish(bus, subject, headers, self.body.into()).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn body_is_kept_only_if_the_message_is_a_completion() {
        const ID: &str = "0199f0a0-0000-7000-8000-000000000001";
        let (subject, malformed) = (
            format!("done.{ID}.Profile.authenticate.{ID}"),
            format!("done.{ID}.Profile.authenticate"),
        );
        let (body, typed) = (r#"{"input":{},"output":{}}"#, r#"{"password":"typed"}"#);
        for (subject, body, is_kept) in [
            (&subject, body, true),
            (&malformed, body, false),
            (&subject, typed, false),
            (&malformed, typed, false),
        ] {
            let letter =
                DeadLetter::of_completion(subject, body.as_bytes(), String::new()).unwrap();
            assert_eq!(!letter.body.is_empty(), is_kept, "{subject} {body}");
        }
    }
}
