//! An edge: an HTTP request becomes the root of a flow, and the first respond in the log its
//! answer. The worker of Requesting is part of it.

use std::rc::Rc;

use concert_engine::{Context, Logged};
use concert_wire::envelope::{Completion, Object};
use concert_wire::id::FlowId;
use concert_wire::{REQUEST, REQUESTING};
use serde_json::Value;

use crate::coverage::Mark;
use crate::faults::Sabotage;
use crate::packet::{Answer, Draft, Op, Packet, Process, Reply};
use crate::world::{Life, World, tell};

/// How long an answer may take, and how often it is looked for meanwhile.
const DEADLINE: u64 = 1500;
const LOOK_EVERY: u64 = 300;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its root is being published.
    Publishing,
    Waiting,
    /// The log is being read; when that shows nothing the request goes on waiting, or it is too
    /// late.
    Looking {
        is_last: bool,
    },
}

/// A request that is not answered yet.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) client: usize,
    /// The client's number for it.
    pub(crate) number: u32,
    flow: FlowId,
    root: Rc<Draft>,
    stage: Stage,
    heard: Option<Rc<Logged>>,
    /// It may have missed an answer, so that what it hears may not be the first: only the log says.
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
    /// A request comes in. Its place among the waiting is taken before the root is published.
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
                heard: None,
                must_look: false,
                call: Some(call),
                look_at: now + LOOK_EVERY,
                deadline: now + DEADLINE,
            });
        }
    }

    pub(crate) fn edge_hears(&mut self, number: usize, heard: &Rc<Logged>) {
        let Some(edge) = self.edges.get_mut(number) else { return };
        let mut told = Vec::new();
        for (at, open) in
            edge.open.iter_mut().enumerate().filter(|(_, open)| open.flow == heard.flow)
        {
            open.heard.get_or_insert_with(|| heard.clone());
            if open.stage != Stage::Publishing {
                told.push(at);
            }
        }
        for at in told.into_iter().rev() {
            self.answer_heard(number, at);
        }
    }

    /// Answers with what was heard, if anything was.
    fn answer_heard(&mut self, edge: usize, at: usize) {
        let open = self.edges.get(edge).and_then(|edge| edge.open.get(at));
        if open.is_some_and(|open| open.must_look && open.heard.is_some() && open.call.is_none()) {
            return self.look(edge, at);
        }
        let open = open.filter(|open| !open.must_look);
        if let Some(heard) = open.and_then(|open| open.heard.clone()) {
            self.coverage.mark(Mark::AnswerHeard);
            self.answer(edge, at, Answer::Responded(heard.flow, heard.body.input.clone()));
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
                let what = format!(
                    "{flow} is answered with {input:?}, and the first respond in the log is {first:?}"
                );
                self.breaks(what);
            }
        }
        tell!(self, "client {} is answered: {answer:?}", open.client);
        self.network.push(Packet::Answer { client: open.client, number: open.number, answer });
    }

    /// An edge did not hear something.
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
            // It may be stored or not, and is published again.
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
            // When no confirmation came it may be stored all the same.
            (Stage::Publishing, reply) => {
                open.stage = Stage::Waiting;
                open.must_look |= matches!(reply, Reply::Silence) && !trusts;
                self.answer_heard(number, at);
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

    /// An edge looks whether it missed an answer.
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
