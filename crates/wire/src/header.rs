//! Names of message headers. A completion can be read without headers; an invocation without
//! [`FLOW`] is the root of a new flow.

/// Flow of an invocation.
pub const FLOW: &str = "Concert-Flow";
/// Inbox on which a synchronous caller waits for the output. Only subjects below `_INBOX.` are
/// accepted.
pub const REPLY: &str = "Concert-Reply";
/// Deadline of the outcome, in milliseconds since 1970 (UTC).
pub const DEADLINE: &str = "Concert-Deadline";
/// Client of the flow's HTTP request: a `ClientTag`. Missing for injected actions.
pub const CLIENT: &str = "Concert-Client";
/// The device of that client, as the edge names it.
pub const DEVICE: &str = "Concert-Device";
/// On an invocation: the log positions of the flow's root and of the message that made the action
/// due, a `Position`. An injected action has none.
pub const POSITION: &str = "Concert-Position";
/// Informational, on a completion: processing time of the worker, a `Work`.
pub const WORK: &str = "Concert-Work";
/// Informational: ids of the actions that the firing matched, separated by commas.
pub const CAUSE: &str = "Concert-Cause";
/// The rule that called the action. On a completion only if the router itself responds, see
/// [`crate::is_of_router`]; without it, the response of a completion is that of a rule.
pub const SYNC: &str = "Concert-Sync";
/// Informational: the version of the rules that called the action.
pub const RULES: &str = "Concert-Rules";
/// On a dead letter: the reason.
pub const REASON: &str = "Concert-Reason";
/// On a dead letter: action id of the message, if it is valid.
pub const ACTION: &str = "Concert-Action";
/// On a dead letter, and on its retry: number of attempts.
pub const ATTEMPTS: &str = "Concert-Attempts";
/// On a dead letter: original subject of the message.
pub const SUBJECT: &str = "Concert-Subject";
/// On a message of a consumer with one active process: the id of that process.
pub const PIN_ID: &str = "Nats-Pin-Id";
/// Makes the server reject a second message on a subject: every subject of Concert is used once.
pub const EXPECTED_LAST_SUBJECT_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
/// On the response of a NATS micro service: the error message.
pub const SERVICE_ERROR: &str = "Nats-Service-Error";
/// On the response of a NATS micro service: the error code, as in HTTP.
pub const SERVICE_ERROR_CODE: &str = "Nats-Service-Error-Code";
/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";

/// The headers of an invocation that a dead letter keeps, and that a retry sends again. A dead
/// letter keeps the [`DEADLINE`] as well; a retry has none, because its first caller no longer
/// waits.
pub const OF_CALL: [&str; 8] = [FLOW, CAUSE, SYNC, RULES, CLIENT, DEVICE, POSITION, TRACEPARENT];

/// Required prefix of a [`REPLY`] subject, so that no header can make a worker publish to a stream.
pub const INBOX_PREFIX: &str = "_INBOX.";
