//! What goes into the engine and what comes out of it.

use std::num::NonZeroUsize;
use std::sync::Arc;

use concert_wire::client::ClientTag;
use concert_wire::envelope::{Completion, Object};
use concert_wire::id::{ActionId, FlowId};
use concert_wire::position::Position;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::frames::Question;
use crate::versions::Version;
use concert_lang::program::Program;

/// What bounds a flow and the engine's memory. As JSON: what bounds a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Completions in one flow; from this one on nothing fires. At most 1,024, which is what one
    /// read of the log answers with.
    pub actions_per_flow: usize,
    /// How many actions may follow from one another.
    pub depth: u32,
    /// Frames of one firing, at any step of `where`.
    pub frames_per_firing: usize,
    /// The size of an invocation's body or a firing record, in bytes.
    pub body_bytes: usize,
    /// Flows kept in memory.
    #[serde(skip)]
    pub cached_flows: NonZeroUsize,
    /// Completions kept in memory, over all flows.
    #[serde(skip)]
    pub cached_actions: usize,
    /// The size of their bodies, as they stand in the log.
    #[serde(skip)]
    pub cached_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        const FLOWS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);
        Self {
            actions_per_flow: 1000,
            depth: 64,
            frames_per_firing: 500,
            body_bytes: 512 * 1024,
            cached_flows: FLOWS,
            cached_actions: 16_384,
            cached_bytes: 64 * 1024 * 1024,
        }
    }
}

/// A completion as it stands in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Logged {
    /// Its sequence in the log.
    pub seq: u64,
    /// The flow.
    pub flow: FlowId,
    /// Whose action it was.
    pub concept: Arc<str>,
    /// The action.
    pub action: Arc<str>,
    /// The action's id.
    pub id: ActionId,
    /// Input and output.
    pub body: Completion,
    /// The size of the body as it stands in the log.
    pub bytes: usize,
    /// What travels with the flow for people and callers, taken from the root's headers.
    pub context: Context,
}

/// What a root hands down to every invocation of its flow. Nothing here decides what fires.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// The time by which the caller wants the answer, in milliseconds since 1970.
    pub deadline_ms: Option<u64>,
    /// W3C trace context.
    pub traceparent: Option<Arc<str>>,
    /// Where the request came from.
    pub client: Option<ClientTag>,
    /// The device of the client.
    pub device: Option<Arc<str>>,
}

/// What happens to the engine.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The log delivered a completion, for the first time or again.
    Delivered(Logged),
    /// The log delivered a message that is no completion. The engine must know that it was
    /// received.
    Undecodable {
        /// The message's sequence in the log.
        seq: u64,
        /// Why.
        reason: String,
    },
    /// The answer to [`Effect::ReadFlow`]: the flow's completions, in any order.
    FlowRead {
        /// The flow that was asked for.
        flow: FlowId,
        /// The log was read up to this sequence.
        through: u64,
        /// The completions.
        log: Vec<Logged>,
    },
    /// The log could not be read now.
    FlowUnreadable {
        /// The flow that was asked for.
        flow: FlowId,
    },
    /// The flow has more messages than can be read, which is more than rules can make, or many and
    /// no root.
    FlowTooLong {
        /// The flow that was asked for.
        flow: FlowId,
    },
    /// The answer to [`Effect::ReadRules`], complete through a sequence.
    RulesRead {
        /// What was read is complete up to this sequence of the log.
        through: u64,
        /// From which sequence on which version is in force, in any order.
        history: Vec<(u64, Version)>,
    },
    /// What was in force when cannot be read now.
    RulesUnreadable,
    /// The answer to [`Effect::FetchRules`].
    RulesFetched(Arc<Program>),
    /// A version of the rules cannot be had now.
    RulesUnavailable,
    /// The rows that answer an [`Effect::Ask`].
    Answered {
        /// The completion whose rules asked.
        seq: u64,
        /// What was asked.
        question: Question,
        /// The rows.
        rows: Vec<Object>,
    },
    /// A question could not be answered now.
    Unanswered {
        /// The completion whose rules asked.
        seq: u64,
    },
    /// A question will never be answered: its input is not what the query takes.
    Refused {
        /// The completion whose rules asked.
        seq: u64,
        /// Which one, and why.
        why: String,
    },
    /// No worker ran a query while its caller waited; no further attempt follows.
    Abandoned {
        /// The completion whose rules asked.
        seq: u64,
        /// Query and reason.
        why: String,
    },
    /// What [`Effect::Invoke`] or [`Effect::Record`] publishes is stored, by this publish or by an
    /// earlier one.
    Stored {
        /// The completion that brought it about.
        seq: u64,
    },
    /// What was to be published could not be stored now.
    NotStored {
        /// The completion that brought it about.
        seq: u64,
    },
}

/// What is to be done, in any order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Read a flow from the log to its end, and at least through this sequence; answer with
    /// [`Event::FlowRead`], [`Event::FlowUnreadable`] or [`Event::FlowTooLong`].
    ReadFlow {
        /// The flow.
        flow: FlowId,
        /// A read that does not reach this sequence is repeated.
        at_least: u64,
    },
    /// Read which rules were in force when, at least up to this sequence of the log; answer with
    /// [`Event::RulesRead`] or [`Event::RulesUnreadable`].
    ReadRules {
        /// The sequence.
        at_least: u64,
    },
    /// Fetch the rules of a version; answer with
    /// [`Event::RulesFetched`] or [`Event::RulesUnavailable`].
    FetchRules {
        /// The version.
        version: Version,
    },
    /// Rules were put in force: keep that in mind for routers that come when the message is gone
    /// from the log, then answer with [`Event::Stored`] or [`Event::NotStored`].
    Adopt {
        /// The message.
        seq: u64,
        /// The version.
        version: Version,
    },
    /// Publish an invocation; answer with [`Event::Stored`] or [`Event::NotStored`].
    Invoke {
        /// The completion that brought it about.
        seq: u64,
        /// What to publish.
        invocation: Invocation,
    },
    /// Ask a query; answer with [`Event::Answered`], [`Event::Unanswered`], [`Event::Refused`] or
    /// [`Event::Abandoned`].
    /// Rows that the spec does not allow are no answer.
    Ask {
        /// The completion whose rules ask.
        seq: u64,
        /// Whose flow it is: secrets in the input are sealed for it.
        flow: FlowId,
        /// Time until which the caller of the flow waits, in milliseconds since 1970, if it has one.
        deadline_ms: Option<u64>,
        /// What is asked.
        question: Question,
    },
    /// Publish a firing record to the log; answer with [`Event::Stored`] or [`Event::NotStored`].
    /// What it brings about follows when the log delivers it.
    Record {
        /// The completion that it is of.
        seq: u64,
        /// What to publish.
        record: Record,
    },
    /// Everything that this completion brings about is stored.
    Ack {
        /// The completion.
        seq: u64,
    },
    /// Deliver this completion again after a while.
    Retry {
        /// The completion.
        seq: u64,
    },
    /// This message fires nothing, now or later.
    DeadLetter {
        /// The message.
        seq: u64,
        /// Why.
        reason: String,
    },
}

/// An action that is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    /// The flow.
    pub flow: FlowId,
    /// Who is asked.
    pub concept: Arc<str>,
    /// What is asked for.
    pub action: Arc<str>,
    /// The id, the same whoever computes it.
    pub id: ActionId,
    /// The input, encoded.
    pub body: Vec<u8>,
    /// The rule, or what the router did on its own.
    pub sync: Arc<str>,
    /// The version of the rules.
    pub rules: Arc<str>,
    /// The actions that the firing matched, in the order of the rule's patterns.
    pub causes: SmallVec<[ActionId; 2]>,
    /// The log positions that it follows from; `None` if it is injected.
    pub position: Option<Position>,
    /// What the root hands down.
    pub context: Context,
}

/// What the rules that asked queries made of a completion.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The flow.
    pub flow: FlowId,
    /// The id, which follows from that of the completion.
    pub id: ActionId,
    /// The body, encoded as that of a completion of `Concert.fired`.
    pub body: Vec<u8>,
    /// What the root hands down.
    pub context: Context,
}
