//! Network packets. They arrive in any order, late, twice or not at all.

use std::rc::Rc;
use std::sync::Arc;

use concert_engine::{Context, Invocation, Logged, QueryBatch, Version};
use concert_lang::program::Program;
use concert_wire::envelope::{Completion, Object};
use concert_wire::id::{ActionId, FlowId};

/// A process of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Process {
    Router(usize),
    Worker(usize),
    Edge(usize),
}

/// The sender of a request. A restarted process does not receive the responses of its predecessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) process: Process,
    pub(crate) incarnation: u32,
    pub(crate) call: u32,
}

/// A completion to store.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) flow: FlowId,
    pub(crate) concept: Arc<str>,
    pub(crate) action: Arc<str>,
    pub(crate) id: ActionId,
    pub(crate) body: Completion,
    pub(crate) context: Context,
    /// It arrives at most once, and not after this time.
    pub(crate) not_after: Option<u64>,
}

/// Requests to the servers.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// Store a completion.
    Append(Rc<Draft>),
    /// Store an invocation.
    Enqueue(Rc<Invocation>),
    /// Read a flow from the log.
    ReadFlow(FlowId),
    /// Look up one completion.
    Find(ActionId),
    ReadRules,
    FetchRules(Version),
    Adopt(u64, Version),
    /// Run a query.
    Ask(QueryBatch),
    AckLog(u64),
    /// Redeliver after this delay.
    NakLog(u64, u64),
    DeadLog(u64, String),
    AckQueue(usize, u64),
    /// Redeliver after this delay.
    NakQueue {
        delivery: Delivery,
        delay: u64,
        /// It does not arrive after this time.
        not_after: Option<u64>,
    },
    /// In-progress ack.
    Extend(Delivery),
    /// Delete an action's marker, and return whether there was one.
    TakeNote(ActionId),
    LeaveNote(ActionId),
    ForgetNote(ActionId),
    /// Store a dead letter with this reason.
    StoreLetter(Rc<Invocation>, String),
    /// Terminate the message after a dead letter.
    TermQueue(usize, u64),
}

/// Responses of the servers.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Stored,
    AlreadyThere,
    /// No response came. The request may have taken effect.
    Silence,
    Flow {
        flow: FlowId,
        through: u64,
        log: Vec<Rc<Logged>>,
    },
    Found(Option<Rc<Logged>>),
    Note(bool),
    Rules {
        through: u64,
        history: Vec<(u64, Version)>,
    },
    Program(Arc<Program>),
    Rows(Vec<Vec<Object>>),
}

/// A delivered message of a queue.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) queue: usize,
    pub(crate) seq: u64,
    /// The delivery count.
    pub(crate) number: u32,
    pub(crate) asked: Rc<Invocation>,
}

/// The response to a client.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    /// The input of the respond.
    Responded(FlowId, Object),
    /// Status 504.
    Timeout,
    /// The edge has crashed.
    Gone,
}

#[derive(Debug, Clone)]
pub(crate) enum Packet {
    Request(Option<Caller>, Op),
    /// A request that its sender has given up, and that arrives from this time on.
    Late(u64, Op),
    Reply(Caller, Reply),
    /// A message of the log, or `None` if it is not a completion.
    LogMessage {
        router: usize,
        incarnation: u32,
        seq: u64,
        message: Option<Rc<Logged>>,
    },
    QueueMessage {
        worker: usize,
        incarnation: u32,
        sent_at: u64,
        delivery: Delivery,
    },
    /// A respond that was stored.
    Response {
        edge: usize,
        incarnation: u32,
        received: Rc<Logged>,
    },
    Answer {
        client: usize,
        number: u32,
        answer: Answer,
    },
}
