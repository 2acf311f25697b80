//! The steps of a worker's deliveries, found in the messages between the worker and the server.

use std::collections::HashMap;

use concert_wire::id::ActionId;

use super::frame::Message;

/// Prefix of the inboxes that invocations of the kit name.
pub(super) const INBOX: &str = "_INBOX.conform.";

/// A step of the delivery of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The server delivers the invocation.
    Delivery,
    /// The worker looks up the completion.
    Lookup,
    /// The server responds to a lookup.
    LookupResult,
    /// The worker publishes the completion.
    Completion,
    /// The server confirms or rejects the completion.
    CompletionResult,
    /// The worker sends the output to the caller.
    Reply,
    /// The worker extends the ack deadline.
    Extension,
    /// The worker acknowledges the invocation.
    Ack,
    /// The worker asks for a retry after a delay.
    Retry,
    /// The worker ends the deliveries of a dead-lettered invocation.
    Termination,
}

/// A step that happened.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) step: Step,
    pub(super) action: ActionId,
    /// The headers of the message, as text.
    pub(super) headers: String,
    /// The body of the message.
    pub(super) body: Vec<u8>,
}

/// Recognizes steps. Subjects of responses and acknowledgements are learned from the messages
/// before them.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// Subject of the acknowledgements of each delivery.
    acks: HashMap<String, ActionId>,
    /// Inboxes of lookups and publishes.
    responses: HashMap<String, (Step, ActionId)>,
}

impl Journal {
    /// The step that a message is; `None` if it belongs to no action.
    pub(super) fn step(&mut self, message: &Message) -> Option<Event> {
        let (step, action) = match message.is_sent {
            true => self.sent(message)?,
            false => self.received(message)?,
        };
        let (headers, body) = (message.headers.clone(), message.body.clone());
        Some(Event { step, action, headers, body })
    }

    fn received(&mut self, message: &Message) -> Option<(Step, ActionId)> {
        if let Some(known) = self.responses.get(&message.subject) {
            return Some(*known);
        }
        let mut tokens = message.subject.strip_prefix("action.")?.split('.');
        let action = tokens.nth(2)?.parse().ok()?;
        self.acks.insert(message.reply.clone()?, action);
        Some((Step::Delivery, action))
    }

    fn sent(&mut self, message: &Message) -> Option<(Step, ActionId)> {
        let subject = message.subject.as_str();
        if let Some(action) = self.acks.get(subject) {
            return Some((acknowledgement(&message.body)?, *action));
        }
        let action: ActionId = subject.rsplit('.').next()?.parse().ok()?;
        let (step, response) = if subject.contains(".DIRECT.GET.COMPLETIONS.") {
            (Step::Lookup, Some(Step::LookupResult))
        } else if subject.starts_with("done.") {
            (Step::Completion, Some(Step::CompletionResult))
        } else if subject.starts_with(INBOX) {
            (Step::Reply, None)
        } else {
            return None;
        };
        if let (Some(response), Some(reply)) = (response, &message.reply) {
            self.responses.insert(reply.clone(), (response, action));
        }
        Some((step, action))
    }
}

fn acknowledgement(body: &[u8]) -> Option<Step> {
    match body {
        [] | [b'+', b'A', b'C', b'K', ..] => Some(Step::Ack),
        [b'+', b'W', b'P', b'I', ..] => Some(Step::Extension),
        [b'-', b'N', b'A', b'K', ..] => Some(Step::Retry),
        [b'+', b'T', b'E', b'R', b'M', ..] => Some(Step::Termination),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_a_delivery_are_recognized() {
        let id = "01890a5d-ac96-774b-bcce-b302099a8057";
        let done = format!("done.01890a5d-ac96-774b-bcce-b302099a8057.Conformance.add.{id}");
        let mut journal = Journal::default();
        let mut step = |is_sent, subject: &str, reply: &str, body: &str| {
            let message = Message {
                is_sent,
                subject: subject.to_owned(),
                reply: Some(reply.to_owned()).filter(|reply| !reply.is_empty()),
                headers: String::new(),
                body: body.into(),
            };
            let event = journal.step(&message)?;
            assert_eq!(event.action.to_string(), id);
            Some(event.step)
        };
        // Before the delivery, nothing is known of the subject.
        assert_eq!(step(true, "$JS.ACK.1", "", "+ACK"), None);
        let invocation = format!("action.Conformance.add.{id}");
        assert_eq!(step(false, &invocation, "$JS.ACK.1", "{}"), Some(Step::Delivery));
        let lookup = format!("bus.API.DIRECT.GET.COMPLETIONS.{done}");
        assert_eq!(step(true, &lookup, "_INBOX.a.1", ""), Some(Step::Lookup));
        assert_eq!(step(false, "_INBOX.a.1", "", ""), Some(Step::LookupResult));
        assert_eq!(step(true, &done, "_INBOX.a.2", "{}"), Some(Step::Completion));
        assert_eq!(step(false, "_INBOX.a.2", "", "{}"), Some(Step::CompletionResult));
        assert_eq!(step(true, &format!("{INBOX}{id}"), "", "{}"), Some(Step::Reply));
        for (body, expected) in [
            ("+WPI", Step::Extension),
            ("-NAK {\"delay\":1}", Step::Retry),
            ("+TERM", Step::Termination),
            ("+ACK", Step::Ack),
        ] {
            assert_eq!(step(true, "$JS.ACK.1", "", body), Some(expected), "{body}");
        }
        assert_eq!(step(true, "bus.API.CONSUMER.MSG.NEXT.A.workers", "_INBOX.a", "{}"), None);
    }
}
