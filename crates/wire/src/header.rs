//! The names of the message headers. No header is needed to read a completion; an invocation without [`FLOW`] is the root of a flow of its own.

/// The flow that an invocation belongs to.
pub const FLOW: &str = "Concert-Flow";
/// The inbox at which a synchronous caller waits for the output; only subjects below `_INBOX.` are honoured.
pub const REPLY: &str = "Concert-Reply";
/// The time by which the outcome is wanted, in milliseconds since 1970 (UTC).
pub const DEADLINE: &str = "Concert-Deadline";
/// For people: the ids of the actions that the firing matched, separated by commas.
pub const CAUSE: &str = "Concert-Cause";
/// For people: the rule that asked for the action.
pub const SYNC: &str = "Concert-Sync";
/// On a dead letter: why no retry will help.
pub const REASON: &str = "Concert-Reason";
/// On a dead letter: the action id of the message, where it had a valid one.
pub const ACTION: &str = "Concert-Action";
/// On a dead letter: the subject that the message came on.
pub const SUBJECT: &str = "Concert-Subject";
/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";

/// The prefix that a [`REPLY`] subject must have, so that no header makes a worker publish into a stream.
pub const INBOX_PREFIX: &str = "_INBOX.";
