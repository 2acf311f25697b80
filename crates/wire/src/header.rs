//! The names of the message headers. No header is needed to read a completion; an invocation
//! without [`FLOW`] is the root of a flow of its own.

/// The flow that an invocation belongs to.
pub const FLOW: &str = "Concert-Flow";
/// The inbox at which a synchronous caller waits for the output; only subjects below `_INBOX.` are
/// honoured.
pub const REPLY: &str = "Concert-Reply";
/// The time by which the outcome is wanted, in milliseconds since 1970 (UTC).
pub const DEADLINE: &str = "Concert-Deadline";
/// Where the request that a flow began with came from: a `ClientTag`. An action that was injected
/// has none.
pub const CLIENT: &str = "Concert-Client";
/// For people, on a completion: how long its worker took, a `Work`.
pub const WORK: &str = "Concert-Work";
/// For people: the ids of the actions that the firing matched, separated by commas.
pub const CAUSE: &str = "Concert-Cause";
/// For people: the rule that asked for the action.
pub const SYNC: &str = "Concert-Sync";
/// For people: the version of the rules that asked for the action.
pub const RULES: &str = "Concert-Rules";
/// On a dead letter: why no retry will help.
pub const REASON: &str = "Concert-Reason";
/// On a dead letter: the action id of the message, where it had a valid one.
pub const ACTION: &str = "Concert-Action";
/// On a dead letter: how often it was tried.
pub const ATTEMPTS: &str = "Concert-Attempts";
/// On a dead letter: the subject that the message came on.
pub const SUBJECT: &str = "Concert-Subject";
/// On the answer of a NATS micro service: why there is none.
pub const SERVICE_ERROR: &str = "Nats-Service-Error";
/// On the answer of a NATS micro service: the kind of error, as HTTP has it.
pub const SERVICE_ERROR_CODE: &str = "Nats-Service-Error-Code";
/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";

/// The prefix that a [`REPLY`] subject must have, so that no header makes a worker publish into a
/// stream.
pub const INBOX_PREFIX: &str = "_INBOX.";
