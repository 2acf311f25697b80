//! Reads an invocation, and decides whether its handler runs. No I/O.

use concert_lang::spec::{self, ActionSpec};
use concert_wire::client::ClientTag;
use concert_wire::envelope::{Completion, Fault, Object};
use concert_wire::id::{ActionId, FlowId};
use concert_wire::large::Reference;
use concert_wire::name::{ActionName, ConceptName};
use concert_wire::position::Position;
use concert_wire::seal::{SealError, Sealer};
use concert_wire::subject::InvocationSubject;
use concert_wire::value;
use concert_wire::{header, large};

use crate::sealing;

/// An invocation, as its subject and headers describe it.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The action.
    pub action: ActionName,
    /// Its id.
    pub id: ActionId,
    /// Its flow; an injected action without one begins its own.
    pub flow: FlowId,
    /// The inbox of a synchronous caller.
    pub reply: Option<String>,
    /// Time at which the caller stops waiting, in milliseconds since 1970.
    pub deadline_ms: Option<u64>,
    /// Client of the flow's request.
    pub client: Option<ClientTag>,
    /// Device of that client.
    pub device: Option<String>,
    /// The log positions that it follows from; `None` if it is injected.
    pub position: Option<Position>,
    /// `true` if it was a dead letter.
    pub is_retry: bool,
}

impl Invocation {
    /// Reads the subject and the headers. `injected` returns the id of a message whose subject has
    /// none.
    ///
    /// # Errors
    /// The reason for a dead letter.
    pub fn read<'a>(
        subject: &str,
        header: impl Fn(&str) -> Option<&'a str>,
        injected: impl FnOnce() -> Result<ActionId, String>,
    ) -> Result<Self, String> {
        let subject = InvocationSubject::parse(subject).map_err(|error| error.to_string())?;
        let id = subject.id.map_or_else(injected, Ok)?;
        let flow = match header(header::FLOW) {
            Some(text) => {
                text.parse().map_err(|_| format!("the header {} is not a UUID", header::FLOW))?
            }
            None => id.as_root(),
        };
        Ok(Self {
            action: subject.action,
            id,
            flow,
            reply: header(header::REPLY).filter(|inbox| is_inbox(inbox)).map(str::to_owned),
            deadline_ms: header(header::DEADLINE).and_then(|text| text.parse().ok()),
            client: header(header::CLIENT).and_then(|text| text.parse().ok()),
            device: header(header::DEVICE).map(str::to_owned),
            position: header(header::POSITION).and_then(|text| text.parse().ok()),
            is_retry: header(header::ATTEMPTS).is_some(),
        })
    }

    /// Returns whether the action begins its flow.
    pub fn is_root(&self) -> bool {
        self.flow == self.id.as_root()
    }

    /// Reason for a retry: the key of one of its secrets may arrive later.
    pub(crate) fn locked(&self) -> String {
        format!("a secret of {} is {}", self.action, SealError::UnknownKey)
    }
}

/// Replies go to inboxes only: a header must not make a worker publish into a stream.
fn is_inbox(subject: &str) -> bool {
    subject.starts_with(header::INBOX_PREFIX)
        && !subject.contains(['*', '>', ' ', '\t', '\r', '\n'])
        && !subject.split('.').any(str::is_empty)
}

/// Decision about an invocation before its handler runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Intake {
    /// Run the handler.
    Run(Input),
    /// Complete the action with a fault, because the handler cannot run.
    Fault(Completion),
    /// Retry the action for this reason.
    Locked(String),
}

/// An input that fits the spec.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// Input for the handler, with secrets in clear.
    pub opened: Object,
    /// Input for the completion, with secrets sealed.
    pub recorded: Object,
}

/// Checks an invocation against the spec of its action. `spec` is `None` if the concept has no such
/// action or does not let it be invoked. `now_ms` is in milliseconds since 1970, minus the maximum
/// clock difference.
pub fn intake(
    concept: &ConceptName,
    spec: Option<&ActionSpec>,
    sealer: &Sealer,
    invocation: &Invocation,
    payload: &[u8],
    now_ms: u64,
) -> Intake {
    let fault = |fault: Fault, input: Object, why: String| {
        Intake::Fault(Completion { input, output: fault.output(why) })
    };
    let Some(spec) = spec else {
        let why = format!("{concept} has no action `{}` that can be invoked", invocation.action);
        return fault(Fault::Invalid, Object::new(), why);
    };
    let input = match value::object(payload) {
        Ok(input) => input,
        Err(error) => return fault(Fault::Invalid, Object::new(), error.to_string()),
    };
    let is_root = invocation.is_root();
    let is_own = |reference: &Reference| sealer.is_of_root(invocation.flow, reference);
    if is_root && large::is_other_in(&input, &is_own) {
        return fault(Fault::Invalid, Object::new(), large::NOT_ACCEPTED.to_owned());
    }
    let opened = sealing::open(sealer, invocation.flow, &spec.input, &input);
    // The key may arrive later. At a flow's root, nothing can be sealed yet.
    if let (Err(SealError::UnknownKey), false) = (&opened, is_root) {
        return Intake::Locked(invocation.locked());
    }
    let recorded = sealing::record(sealer, invocation.flow, is_root, &spec.input, &input);
    let opened = match opened {
        Ok(opened) => opened,
        Err(error) => return fault(Fault::Invalid, recorded, error.to_string()),
    };
    if let Err(mistakes) = spec::check_input(&spec.input, &opened) {
        return fault(Fault::Invalid, recorded, mistakes.to_string());
    }
    // An action with effects runs regardless of the deadline: an earlier delivery may have written.
    if !spec.has_effects && invocation.deadline_ms.is_some_and(|deadline_ms| deadline_ms < now_ms) {
        let why = "the deadline passed before the action started".to_owned();
        return fault(Fault::Deadline, recorded, why);
    }
    Intake::Run(Input { opened, recorded })
}

#[cfg(test)]
mod tests;
