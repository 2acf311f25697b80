//! What goes over the network. Packets arrive in any order, late, twice or not at all.

use std::rc::Rc;
use std::sync::Arc;

use concert_engine::{Context, Invocation, Logged, Question, Version};
use concert_lang::program::Program;
use concert_wire::envelope::{Completion, Object};
use concert_wire::id::{ActionId, FlowId};

/// A process of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Process {
    Router(usize),
    /// Those of the concept Requesting are part of an edge.
    Worker(usize),
    Edge(usize),
}

/// Who asked the server for something. A process that was started anew does not hear the answers of
/// the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) process: Process,
    pub(crate) incarnation: u32,
    pub(crate) call: u32,
}

/// A completion that is to be stored.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) flow: FlowId,
    pub(crate) concept: Arc<str>,
    pub(crate) action: Arc<str>,
    pub(crate) id: ActionId,
    pub(crate) body: Completion,
    pub(crate) context: Context,
    /// It arrives by then, and once, or never.
    pub(crate) not_after: Option<u64>,
}

/// What the servers are asked to do.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// Store a completion.
    Append(Rc<Draft>),
    /// Store an invocation.
    Enqueue(Rc<Invocation>),
    /// Read a flow from the log.
    ReadFlow(FlowId),
    /// Find one completion.
    Find(ActionId),
    ReadRules,
    FetchRules(Version),
    Adopt(u64, Version),
    /// Ask a query.
    Ask(Question),
    AckLog(u64),
    /// Deliver again after so long.
    NakLog(u64, u64),
    DeadLog(u64, String),
    AckQueue(usize, u64),
    /// Deliver again after so long.
    NakQueue {
        delivery: Delivery,
        delay: u64,
        /// It arrives by then or never.
        not_after: Option<u64>,
    },
    /// The message is still worked at.
    Extend(Delivery),
    /// Delete an action's note, and tell whether there was one.
    TakeNote(ActionId),
    LeaveNote(ActionId),
    ForgetNote(ActionId),
    /// Store a dead letter with this reason.
    StoreLetter(Rc<Invocation>, String),
    /// Deliver no more, after a dead letter.
    TermQueue(usize, u64),
}

/// What comes back.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Stored,
    AlreadyThere,
    /// No answer came. It may be done all the same.
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
    Rows(Vec<Object>),
}

/// A message of a queue, as it is delivered.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) queue: usize,
    pub(crate) seq: u64,
    /// Counts the deliveries of this message.
    pub(crate) number: u32,
    pub(crate) asked: Rc<Invocation>,
}

/// What the answer to a client says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    /// The input of the respond.
    Responded(FlowId, Object),
    /// 504.
    Timeout,
    /// The edge is no more.
    Gone,
}

#[derive(Debug, Clone)]
pub(crate) enum Packet {
    Request(Option<Caller>, Op),
    /// A request that its sender has given up, and that arrives from this time on.
    Late(u64, Op),
    Reply(Caller, Reply),
    /// A message of the log, or `None` for one that is no completion.
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
        heard: Rc<Logged>,
    },
    Answer {
        client: usize,
        number: u32,
        answer: Answer,
    },
}
