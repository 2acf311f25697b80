//! A handler's outcome, checked against the spec, and compared with a completion in the log. No
//! I/O.

use concert_lang::spec::{self, ActionSpec};
use concert_wire::envelope::{Completion, ERROR, Fault, Object};
use concert_wire::seal::{SealError, Sealer};
use concert_wire::{large, value};
use serde_json::Value;

use crate::intake::Invocation;
use crate::sealing;

/// Result of a handler.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The action happened, with this output; secrets are in clear.
    Done(Object),
    /// The action did not happen, for this reason.
    Refused(String),
    /// The action was not attempted, because too many similar attempts failed recently.
    Throttled {
        /// The reason.
        error: String,
        /// Seconds until another attempt is possible, if it is known.
        wait_s: Option<u64>,
    },
    /// The handler's type does not accept an input that fits the spec.
    Mismatch(String),
}

/// Error of an output or a row that contains a text in the form of a reference to a large value.
/// Such a text would be read as the value of another flow.
pub(crate) const FORGED_REFERENCE: &str =
    "the output contains a text in the form of a reference to a large value";

/// Builds the completion of an action, with secrets sealed. An outcome that does not fit the spec
/// becomes a fault.
pub fn completion(
    spec: &ActionSpec,
    sealer: &Sealer,
    invocation: &Invocation,
    input: Object,
    outcome: Outcome,
) -> Completion {
    let output = match outcome {
        Outcome::Done(output) if large::is_in(&output) => {
            Fault::Invalid.output(FORGED_REFERENCE.to_owned())
        }
        Outcome::Done(output) => sealed(spec, sealer, invocation, output)
            .unwrap_or_else(|why| Fault::Invalid.output(why)),
        Outcome::Throttled { error, wait_s } => Fault::throttled(error, wait_s),
        Outcome::Refused(error) if !spec.can_fail || error.is_empty() => Fault::Invalid.output(
            format!("{} was refused, but its spec declares no error: {error}", invocation.action),
        ),
        Outcome::Refused(error) => Object::from_iter([(ERROR.to_owned(), Value::String(error))]),
        Outcome::Mismatch(why) => Fault::Invalid.output(why),
    };
    Completion { input, output }
}

/// Seals an output that fits the spec.
fn sealed(
    spec: &ActionSpec,
    sealer: &Sealer,
    invocation: &Invocation,
    mut output: Object,
) -> Result<Object, String> {
    let params = spec.success.as_ref().ok_or("the spec declares no success")?;
    spec::check_input(params, &output)
        .map_err(|mistakes| format!("the output does not fit the spec: {mistakes}"))?;
    sealing::seal(sealer, invocation.flow, params, &mut output);
    Ok(output)
}

/// Result of comparing the outputs of two deliveries of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    /// The outputs are equal.
    Same,
    /// The outputs differ.
    Different,
    /// Not comparable yet, because the process lacks a key that opens one of the outputs. Contains
    /// the error text.
    Locked(String),
}

/// Compares two outputs of an action; a secret may be sealed under two keys while they are rotated.
pub fn compare(
    spec: Option<&ActionSpec>,
    sealer: &Sealer,
    invocation: &Invocation,
    standing: &Object,
    own: &Object,
) -> Comparison {
    let params = spec.and_then(|spec| spec.success.as_ref());
    let opened = |output: &Object| {
        let opened = params.map(|params| sealing::open(sealer, invocation.flow, params, output));
        match opened {
            Some(Ok(opened)) => Some(Value::Object(opened)),
            Some(Err(SealError::UnknownKey)) => None,
            Some(Err(_)) | None => Some(Value::Object(output.clone())),
        }
    };
    match (opened(standing), opened(own)) {
        (Some(standing), Some(own)) if value::equal(&standing, &own) => Comparison::Same,
        (Some(_), Some(_)) => Comparison::Different,
        _ => Comparison::Locked(invocation.locked()),
    }
}

#[cfg(test)]
mod tests;
