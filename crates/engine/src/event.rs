//! Input and output of the engine.

use std::num::NonZeroUsize;
use std::sync::Arc;

use concert_wire::client::ClientTag;
use concert_wire::envelope::{Completion, Fault, Object};
use concert_wire::id::{ActionId, FlowId};
use concert_wire::position::Position;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::frames::QueryBatch;
use crate::versions::Version;
use concert_lang::program::Program;

/// Limits of a flow and of the engine's memory. The JSON form has only the limits of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Maximum number of actions per flow, done or called; at the limit, the flow stops. At most
    /// 1,024, because one read of the log returns that many messages.
    pub actions_per_flow: usize,
    /// Maximum length of a chain of actions that cause one another.
    pub depth: u32,
    /// Maximum number of frames per firing, at any step of `where`.
    pub frames_per_firing: usize,
    /// Maximum size of an invocation's body or of a firing record, in bytes.
    pub body_bytes: usize,
    /// Maximum number of flows in memory.
    #[serde(skip)]
    pub cached_flows: NonZeroUsize,
    /// Maximum number of completions in memory, over all flows.
    #[serde(skip)]
    pub cached_actions: usize,
    /// Maximum size of the completions' bodies in memory, in bytes, as encoded in the log.
    #[serde(skip)]
    pub cached_bytes: usize,
}

impl Limits {
    /// Maximum number of join steps per flow, and per decision about rules with queries.
    pub(crate) const fn join_steps(&self) -> usize {
        const PER_ACTION: usize = 1000;
        self.actions_per_flow.saturating_mul(PER_ACTION)
    }
}

impl Default for Limits {
    fn default() -> Self {
        const FLOWS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);
        Self {
            actions_per_flow: 1000,
            depth: 64,
            frames_per_firing: 5000,
            body_bytes: 512 * 1024,
            cached_flows: FLOWS,
            cached_actions: 16_384,
            cached_bytes: 64 * 1024 * 1024,
        }
    }
}

/// A completion of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Logged {
    /// The sequence in the log.
    pub seq: u64,
    /// The flow.
    pub flow: FlowId,
    /// The concept of the action.
    pub concept: Arc<str>,
    /// The action.
    pub action: Arc<str>,
    /// The action's id.
    pub id: ActionId,
    /// The input and output.
    pub body: Completion,
    /// The size of the body in the log, in bytes.
    pub bytes: usize,
    /// Metadata of the flow, taken from the root's headers.
    pub context: Context,
}

/// Metadata that every invocation of a flow inherits from the root. It does not affect which rules
/// fire.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// Deadline of the request, in milliseconds since 1970.
    pub deadline_ms: Option<u64>,
    /// W3C trace context.
    pub traceparent: Option<Arc<str>>,
    /// The origin of the request.
    pub client: Option<ClientTag>,
    /// The device of the client.
    pub device: Option<Arc<str>>,
}

/// Input of the engine.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The log delivered a completion, for the first time or again.
    Delivered(Logged),
    /// The log delivered a message that is not a completion. The engine needs its sequence to know
    /// which messages this router received.
    Undecodable {
        /// The message's sequence in the log.
        seq: u64,
        /// The reason.
        reason: String,
    },
    /// The result of [`Effect::ReadFlow`]: the flow's completions, in any order.
    FlowRead {
        /// The requested flow.
        flow: FlowId,
        /// The sequence up to which the log was read.
        through: u64,
        /// The completions.
        log: Vec<Logged>,
    },
    /// The log cannot be read now.
    FlowUnreadable {
        /// The requested flow.
        flow: FlowId,
    },
    /// The flow has more messages than one read returns. Rules cannot create that many; a flow
    /// without a root can have them.
    FlowTooLong {
        /// The requested flow.
        flow: FlowId,
    },
    /// The result of [`Effect::ReadRules`].
    RulesRead {
        /// The sequence of the log up to which the history is complete.
        through: u64,
        /// The first sequence of each active version, in any order.
        history: Vec<(u64, Version)>,
    },
    /// The history of active versions cannot be read now.
    RulesUnreadable,
    /// The result of [`Effect::FetchRules`].
    RulesFetched(Arc<Program>),
    /// A version of the rules cannot be fetched now.
    RulesUnavailable,
    /// The rows that [`Effect::Ask`] returned.
    Answered {
        /// The completion whose rules query.
        seq: u64,
        /// The query with its inputs.
        batch: QueryBatch,
        /// The rows of each input, in the order of the inputs.
        rows: Vec<Vec<Object>>,
    },
    /// A query failed for now.
    Unanswered {
        /// The completion whose rules query.
        seq: u64,
    },
    /// A query fails permanently: its input does not match the query's spec, or contains a large
    /// value that has expired.
    Refused {
        /// The completion whose rules query.
        seq: u64,
        /// The kind of the failure, which determines the status of the response.
        fault: Fault,
        /// The query and the reason.
        why: String,
    },
    /// No worker ran a query while its caller waited; no further attempt follows.
    Abandoned {
        /// The completion whose rules query.
        seq: u64,
        /// Query and reason.
        why: String,
    },
    /// The publish of [`Effect::Invoke`], [`Effect::Complete`] or [`Effect::Record`] is stored, by
    /// this attempt or by an earlier one.
    Stored {
        /// The completion that caused the publish.
        seq: u64,
    },
    /// A publish could not be stored now.
    NotStored {
        /// The completion that caused the publish.
        seq: u64,
    },
}

/// Output of the engine: work to do, in any order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Read a flow from the log to its end, and at least up to this sequence. Reply with
    /// [`Event::FlowRead`], [`Event::FlowUnreadable`] or [`Event::FlowTooLong`].
    ReadFlow {
        /// The flow.
        flow: FlowId,
        /// The minimum sequence; the engine repeats a read that does not reach it.
        at_least: u64,
    },
    /// Read the history of active versions, at least up to this sequence of the log. Reply with
    /// [`Event::RulesRead`] or [`Event::RulesUnreadable`].
    ReadRules {
        /// The sequence.
        at_least: u64,
    },
    /// Fetch the rules of a version. Reply with [`Event::RulesFetched`] or
    /// [`Event::RulesUnavailable`].
    FetchRules {
        /// The version.
        version: Version,
    },
    /// A version became active: persist that for routers that start when the message has left the
    /// log. Then reply with [`Event::Stored`] or [`Event::NotStored`].
    Adopt {
        /// The message.
        seq: u64,
        /// The version.
        version: Version,
    },
    /// Publish an invocation. Reply with [`Event::Stored`] or [`Event::NotStored`].
    Invoke {
        /// The completion that caused it.
        seq: u64,
        /// The message to publish.
        invocation: Invocation,
    },
    /// Publish the completion of an action of Requesting, which has no worker. Reply with
    /// [`Event::Stored`] or [`Event::NotStored`].
    Complete {
        /// The completion that caused it.
        seq: u64,
        /// The action.
        invocation: Invocation,
        /// The completion, encoded.
        body: Vec<u8>,
    },
    /// Run a query, once for each input. Reply with [`Event::Answered`], or, if one of the inputs
    /// has no result, with [`Event::Unanswered`], [`Event::Refused`] or [`Event::Abandoned`]. Rows
    /// that violate the spec must not be passed on.
    Ask {
        /// The completion whose rules query.
        seq: u64,
        /// The flow; secrets in the input are sealed for it.
        flow: FlowId,
        /// Time until which the caller of the flow waits, in milliseconds since 1970. `None` if the
        /// flow has no caller.
        deadline_ms: Option<u64>,
        /// The query with its inputs.
        batch: QueryBatch,
    },
    /// Publish a firing record to the log. Reply with [`Event::Stored`] or [`Event::NotStored`].
    /// Its calls are made when the log delivers it.
    Record {
        /// The completion that the record belongs to.
        seq: u64,
        /// The message to publish.
        record: Record,
    },
    /// Acknowledge this completion: all its effects are stored.
    Ack {
        /// The completion.
        seq: u64,
    },
    /// Redeliver this completion after a delay.
    Retry {
        /// The completion.
        seq: u64,
    },
    /// Dead-letter this message: it can never fire a rule.
    DeadLetter {
        /// The message.
        seq: u64,
        /// The reason.
        reason: String,
    },
}

/// An action to execute.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    /// The flow.
    pub flow: FlowId,
    /// The concept.
    pub concept: Arc<str>,
    /// The action.
    pub action: Arc<str>,
    /// The action id. Every router computes the same one.
    pub id: ActionId,
    /// The input, encoded.
    pub body: Vec<u8>,
    /// The calling rule, or `Concert.fault` or `Concert.limit` for a response of the router itself.
    pub sync: Arc<str>,
    /// The version of the rules.
    pub rules: Arc<str>,
    /// The actions that the firing matched, in the order of the rule's patterns.
    pub causes: SmallVec<[ActionId; 2]>,
    /// The log positions that it follows from; `None` if it is injected.
    pub position: Option<Position>,
    /// The metadata that the flow inherits from the root.
    pub context: Context,
}

/// The firing record of a completion: the results of all rules with queries.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The flow.
    pub flow: FlowId,
    /// The id, derived from that of the completion.
    pub id: ActionId,
    /// The body, encoded as a completion of `Concert.fired`.
    pub body: Vec<u8>,
    /// The metadata that the flow inherits from the root.
    pub context: Context,
}
