//! The actions and firings of a flow with their causes, and its near misses, all derived from its
//! log.
//!
//! None of this is stored while the flow runs. [`flow()`] folds the log as the routers do.
//! `docs/provenance.md` describes the JSON.

mod assemble;
mod near;
mod types;

use concert_wire::envelope::Completion;
use concert_wire::id::{ActionId, FlowId};
use concert_wire::subject::CompletionSubject;

pub use self::assemble::{flow, outline};
pub use self::near::{UnknownSync, why_not};
pub use self::types::{
    Action, By, Dead, Failed, Firing, Flow, Frame, Halt, Matched, NearMiss, Outcome, RootKind,
    Source, State, Summary, Undecided, WhyNot,
};
use std::sync::Arc;

use crate::event::{Context, Limits, Logged};
use crate::flow::Ready;
use concert_lang::program::Program;

/// Rules and limits, prepared once for many flows.
pub struct Rules {
    program: Arc<Program>,
    ready: Ready,
    limits: Limits,
}

impl Rules {
    /// Prepares these rules, with the limits of the routers.
    pub fn new(program: Arc<Program>, limits: Limits) -> Self {
        Self { ready: Ready::new(&program), program, limits }
    }

    /// The rules.
    pub const fn program(&self) -> &Arc<Program> {
        &self.program
    }
}

/// A message of a flow in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// The sequence in the log.
    pub seq: u64,
    /// When it was stored, in microseconds since 1970.
    pub time_us: u64,
    /// The subject.
    pub subject: String,
    /// The body.
    pub body: Vec<u8>,
    /// W3C trace context, if any.
    pub traceparent: Option<String>,
    /// The worker's timing, if it reported one: a [`Work`](concert_wire::work::Work).
    pub work: Option<String>,
}

/// A dead letter of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The dead-lettered action.
    pub action: ActionId,
    /// The reason.
    pub reason: String,
    /// The number of attempts.
    pub attempts: Option<u64>,
    /// When it was dead-lettered, in microseconds since 1970.
    pub at_us: u64,
}

impl Stored {
    /// The completion for the engine; `None` if it is not a completion of this flow.
    fn logged(&self, flow: FlowId) -> Option<Logged> {
        let subject = CompletionSubject::parse(&self.subject).ok()?;
        if subject.flow != flow {
            return None;
        }
        Some(Logged {
            seq: self.seq,
            flow,
            concept: subject.concept.as_str().into(),
            action: subject.action.as_str().into(),
            id: subject.id,
            body: Completion::decode(&self.body).ok()?,
            bytes: self.body.len(),
            context: Context::default(),
        })
    }
}
