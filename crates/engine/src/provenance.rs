//! What happened in a flow, and why: from its log alone, the graph of its actions and firings, and
//! which rules nearly fired.
//!
//! Nothing of this is kept while the flow runs. The engine folds the log as the routers do, and
//! what it finds is told ([`flow()`]); `docs/provenance.md` describes the JSON.

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

/// The rules that flows are told under, made ready once for many flows.
pub struct Rules {
    program: Arc<Program>,
    ready: Ready,
    limits: Limits,
}

impl Rules {
    /// These rules, with the limits that the routers have.
    pub fn new(program: Arc<Program>, limits: Limits) -> Self {
        Self { ready: Ready::new(&program), program, limits }
    }

    /// What they were made of.
    pub const fn program(&self) -> &Arc<Program> {
        &self.program
    }
}

/// A message of a flow as the log has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Its sequence in the log.
    pub seq: u64,
    /// When it was stored, in microseconds since 1970.
    pub time_us: u64,
    /// Its subject.
    pub subject: String,
    /// Its body.
    pub body: Vec<u8>,
    /// W3C trace context, if it had one.
    pub traceparent: Option<String>,
    /// How long its worker took, if it said so: a [`Work`](concert_wire::work::Work).
    pub work: Option<String>,
}

/// A dead letter of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The action that was given up.
    pub action: ActionId,
    /// Why no retry helps.
    pub reason: String,
    /// How often it was tried.
    pub attempts: Option<u64>,
    /// When it was given up, in microseconds since 1970.
    pub at_us: u64,
}

impl Stored {
    /// What the engine takes of it; `None` if it is no completion of this flow.
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
