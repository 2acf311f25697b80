//! An edge: an HTTP request becomes the root of a flow, and the first successful respond in the log
//! becomes its response.

use std::rc::Rc;

use concert_engine::{Context, Logged};
use concert_wire::envelope::{Completion, Object};
use concert_wire::id::FlowId;
use concert_wire::{REQUEST, REQUESTING};
use serde_json::Value;

use crate::coverage::Mark;
use crate::faults::Sabotage;
use crate::packet::{Answer, Draft, Op, Packet, Process, Reply};
use crate::world::{Life, World, record};

/// Response timeout, and the interval between lookups in the log.
const DEADLINE: u64 = 1500;
const LOOK_EVERY: u64 = 300;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The root is being published.
    Publishing,
    Waiting,
    /// The log is being read. If it has no response, the request waits on or times out.
    Looking {
        is_last: bool,
    },
}

/// A request without a response.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) client: usize,
    /// The client's number for it.
    pub(crate) number: u32,
    flow: FlowId,
    root: Rc<Draft>,
    stage: Stage,
    received: Option<Rc<Logged>>,
    /// The edge may have missed a response, so only the log shows the first one.
    must_look: bool,
    call: Option<u32>,
    look_at: u64,
    deadline: u64,
}

impl Open {
    pub(crate) fn crash_mark(&self) -> Mark {
        match self.stage {
            Stage::Publishing => Mark::EdgeCrashedWhilePublishing,
            Stage::Waiting | Stage::Looking { .. } => Mark::EdgeCrashedWhileWaiting,
        }
    }
}

#[derive(Default)]
pub(crate) struct Edge {
    pub(crate) life: Life,
    pub(crate) open: Vec<Open>,
}

impl World<'_> {
    /// A request arrives. It is registered as pending before the root is published.
    pub(crate) fn edge_takes(
        &mut self,
        edge: usize,
        client: usize,
        number: u32,
        flow: FlowId,
        mut body: Object,
    ) {
        let (path, now) = (body.remove("path"), self.now);
        body.insert("path".to_owned(), path.unwrap_or_default());
        let draft = Draft {
            flow,
            concept: REQUESTING.into(),
            action: REQUEST.into(),
            id: flow.root(),
            body: Completion {
                input: body,
                output: Object::from_iter([("request".to_owned(), Value::from(flow.to_string()))]),
            },
            context: Context { deadline_ms: Some(now + DEADLINE), ..Context::default() },
            not_after: None,
        };
        let root = Rc::new(draft);
        let call = self.call(Process::Edge(edge), Op::Append(root.clone()));
        if let Some(edge) = self.edges.get_mut(edge) {
            edge.open.push(Open {
                client,
                number,
                flow,
                root,
                stage: Stage::Publishing,
                received: None,
                must_look: false,
                call: Some(call),
                look_at: now + LOOK_EVERY,
                deadline: now + DEADLINE,
            });
        }
    }

    pub(crate) fn on_response(&mut self, number: usize, received: &Rc<Logged>) {
        let Some(edge) = self.edges.get_mut(number) else { return };
        let mut due = Vec::new();
        for (at, open) in
            edge.open.iter_mut().enumerate().filter(|(_, open)| open.flow == received.flow)
        {
            open.received.get_or_insert_with(|| received.clone());
            if open.stage != Stage::Publishing {
                due.push(at);
            }
        }
        for at in due.into_iter().rev() {
            self.answer_received(number, at);
        }
    }

    /// Returns the received response, if there is one.
    fn answer_received(&mut self, edge: usize, at: usize) {
        let open = self.edges.get(edge).and_then(|edge| edge.open.get(at));
        if open.is_some_and(|open| open.must_look && open.received.is_some() && open.call.is_none())
        {
            return self.look(edge, at);
        }
        let open = open.filter(|open| !open.must_look);
        if let Some(received) = open.and_then(|open| open.received.clone()) {
            self.coverage.mark(Mark::AnswerReceived);
            self.answer(edge, at, Answer::Responded(received.flow, received.body.input.clone()));
        }
    }

    fn answer(&mut self, edge: usize, at: usize, answer: Answer) {
        let Some(edge) = self.edges.get_mut(edge).filter(|edge| at < edge.open.len()) else {
            return;
        };
        let open = edge.open.remove(at);
        if let Answer::Responded(flow, input) = &answer {
            let first = self.log.answer(*flow).map(|first| &first.body.input);
            if first != Some(input) {
                let what =
                    format!("{flow} gets {input:?}, but the first respond in the log is {first:?}");
                self.breaks(what);
            }
        }
        record!(self, "client {} gets {answer:?}", open.client);
        self.network.push(Packet::Answer { client: open.client, number: open.number, answer });
    }

    /// An edge misses a notification.
    pub(crate) fn edge_misses(&mut self, number: usize) {
        self.coverage.mark(Mark::AnswerMissed);
        let trusts = self.has(Sabotage::EdgeTrustsItsEar);
        if let Some(edge) = self.edges.get_mut(number).filter(|_| !trusts) {
            edge.open.iter_mut().for_each(|open| open.must_look = true);
        }
    }

    pub(crate) fn edge_is_answered(&mut self, number: usize, call: u32, reply: Reply) {
        let trusts = self.has(Sabotage::EdgeTrustsItsEar);
        let now = self.now;
        let Some(edge) = self.edges.get_mut(number) else { return };
        let Some(at) = edge.open.iter().position(|open| open.call == Some(call)) else {
            return;
        };
        let Some(open) = edge.open.get_mut(at) else { return };
        open.call = None;
        match (open.stage, reply) {
            (Stage::Publishing, Reply::AlreadyThere) => {
                open.stage = Stage::Waiting;
                open.must_look |= !trusts;
                self.look(number, at);
            }
            // It may or may not be stored, and is published again.
            (Stage::Publishing, Reply::Silence) if now < open.deadline => {
                open.must_look |= !trusts;
                let root = open.root.clone();
                self.coverage.mark(Mark::RequestPublishedAgain);
                let call = self.call(Process::Edge(number), Op::Append(root));
                if let Some(open) =
                    self.edges.get_mut(number).and_then(|edge| edge.open.get_mut(at))
                {
                    open.call = Some(call);
                }
            }
            // Without a publish acknowledgement it may still be stored.
            (Stage::Publishing, reply) => {
                open.stage = Stage::Waiting;
                open.must_look |= matches!(reply, Reply::Silence) && !trusts;
                self.answer_received(number, at);
            }
            (Stage::Looking { is_last }, reply) => {
                open.stage = Stage::Waiting;
                let found = match reply {
                    Reply::Flow { log, .. } => {
                        log.into_iter().find(|logged| crate::log::is_answer(logged))
                    }
                    _ => None,
                };
                match found {
                    Some(found) => {
                        self.coverage.mark(Mark::AnswerLookedUp);
                        self.answer(
                            number,
                            at,
                            Answer::Responded(found.flow, found.body.input.clone()),
                        );
                    }
                    None if is_last => {
                        self.coverage.mark(Mark::Timeout);
                        self.answer(number, at, Answer::Timeout);
                    }
                    None => {}
                }
            }
            (Stage::Waiting, _) => {}
        }
    }

    fn look(&mut self, edge: usize, at: usize) {
        let now = self.now;
        let Some(open) = self.edges.get(edge).and_then(|edge| edge.open.get(at)) else {
            return;
        };
        let (flow, deadline) = (open.flow, open.deadline);
        let call = self.call(Process::Edge(edge), Op::ReadFlow(flow));
        if let Some(open) = self.edges.get_mut(edge).and_then(|edge| edge.open.get_mut(at)) {
            open.call = Some(call);
            open.stage = Stage::Looking { is_last: now >= deadline };
            open.look_at = (now + LOOK_EVERY).min(deadline.max(now + 1));
        }
    }

    /// An edge checks the log for a missed response.
    pub(crate) fn let_an_edge_look(&mut self) -> bool {
        for number in 0..self.edges.len() {
            if !self.runs(Process::Edge(number)) {
                continue;
            }
            let now = self.now;
            let due = |open: &Open| {
                open.stage == Stage::Waiting && open.call.is_none() && open.look_at <= now
            };
            let at = self.edges.get(number).and_then(|edge| edge.open.iter().position(due));
            if let Some(at) = at {
                self.look(number, at);
                return true;
            }
        }
        false
    }
}
