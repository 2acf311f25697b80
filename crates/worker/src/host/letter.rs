//! Dead letters: the message without values that may be secrets in clear.

use concert_runtime::dead::DeadLetter;
use concert_runtime::nats::{HeaderMap, Message};
use concert_runtime::unreadable::Unreadable;
use concert_wire::envelope::encode;
use concert_wire::id::{ActionId, FlowId};
use concert_wire::name::ActionName;
use concert_wire::subject::InvocationSubject;
use concert_wire::{header, value};

use crate::intake::Invocation;
use crate::order::Event;
use crate::sealing;
use crate::worker::Worker;

/// Reads the invocation; the error is the reason of a dead letter.
pub(super) fn invocation(message: &Message) -> Result<Invocation, String> {
    let header = |name: &str| Some(message.headers.as_ref()?.get(name)?.as_str());
    let injected = || {
        let info = message
            .info()
            .map_err(|error| format!("the message has no stream position: {error}"))?;
        let timestamp_ns = u64::try_from(info.published.unix_timestamp_nanos()).unwrap_or(0);
        Ok(ActionId::injected(info.stream, info.stream_sequence, timestamp_ns))
    };
    Invocation::read(&message.subject, header, injected)
}

impl Worker {
    /// Stores the dead letter of a message.
    pub(super) async fn store_letter(
        &self,
        message: &Message,
        attempt: i64,
        reason: String,
    ) -> Event {
        match self.dead_letter(message, attempt, reason).publish(&self.bus).await {
            Ok(()) => Event::LetterStored,
            Err(error) => Event::LetterNotStored(format!("cannot store the dead letter: {error}")),
        }
    }

    fn dead_letter(&self, message: &Message, attempt: i64, reason: String) -> DeadLetter {
        let mut headers = HeaderMap::new();
        headers.insert(header::ATTEMPTS, attempt.to_string());
        for name in header::OF_CALL.into_iter().chain([header::DEADLINE]) {
            if let Some(value) = message.headers.as_ref().and_then(|headers| headers.get(name)) {
                headers.insert(name, value.clone());
            }
        }
        let known = invocation(message)
            .ok()
            .map(|invocation| (invocation.action, invocation.id, invocation.flow));
        if let Some((.., flow)) = &known {
            headers.insert(header::FLOW, flow.to_string());
        }
        self.letter(&message.subject, &message.payload, known, headers, reason)
    }

    /// The dead letter of a message with unreadable headers. Its flow is unknown, so its secrets
    /// are sealed for the flow that its own id would begin; without an id its body is not kept.
    pub(crate) fn unreadable(&self, message: &Unreadable) -> DeadLetter {
        let subject = InvocationSubject::parse(&message.subject).ok();
        let known =
            subject.and_then(|subject| subject.id.map(|id| (subject.action, id, id.as_root())));
        self.letter(&message.subject, &message.body, known, HeaderMap::new(), message.reason())
    }

    fn letter(
        &self,
        subject: &str,
        payload: &[u8],
        known: Option<(ActionName, ActionId, FlowId)>,
        mut headers: HeaderMap,
        reason: String,
    ) -> DeadLetter {
        if let Some((_, id, _)) = &known {
            headers.insert(header::ACTION, id.to_string());
        }
        let body = known.as_ref().and_then(|(action, id, flow)| {
            let (spec, _) = self.concept.action(action.as_str())?;
            let input = value::object(payload).ok()?;
            let is_root = *flow == id.as_root();
            Some(encode(&sealing::record(&self.sealer, *flow, is_root, &spec.input, &input)))
        });
        DeadLetter {
            concept: self.concept.name.clone(),
            action: known.map(|(action, ..)| action),
            subject: subject.to_owned(),
            reason,
            headers,
            body: body.unwrap_or_default(),
        }
    }
}
