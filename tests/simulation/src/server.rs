//! The servers: NATS with its streams, and the queries of the database. Each request is atomic, or
//! lost.

use std::rc::Rc;

use concert_engine::{Invocation, Version};
use concert_wire::id::FlowId;
use concert_wire::{FIRED, IN_FORCE, REQUEST, REQUESTING, RESERVED_CONCEPT};

use crate::coverage::Mark;
use crate::faults::Sabotage;
use crate::log::{Due, is_answer};
use crate::packet::{Caller, Delivery, Draft, Op, Packet, Process, Reply};
use crate::reference::describe;
use crate::world::{ACK_WAIT, CONCEPTS, OF_EACH, World, record};

impl World<'_> {
    /// Executes the request of a packet, unless it is lost.
    pub(crate) fn serve(&mut self, caller: Option<Caller>, op: Op) {
        let answered = |world: &mut Self, reply| {
            world.network.extend(caller.map(|caller| Packet::Reply(caller, reply)));
        };
        let not_after = match &op {
            Op::Append(draft) => draft.not_after,
            Op::NakQueue { not_after, .. } => *not_after,
            _ => None,
        };
        let is_too_late = not_after.is_some_and(|not_after| not_after < self.now);
        if is_too_late || self.fault(|faults| faults.lost_requests, Mark::RequestLost) {
            return answered(self, Reply::Silence);
        }
        // A marker that arrives after its action was postponed marks an attempt that never began.
        let is_note = matches!(op, Op::LeaveNote(_));
        if !is_note && self.fault(|faults| faults.late_requests, Mark::RequestLate) {
            if not_after.is_none() {
                let at = self.now + self.chance.ticks(ACK_WAIT);
                self.network.push(Packet::Late(at, op));
            }
            return answered(self, Reply::Silence);
        }
        if not_after.is_none()
            && !is_note
            && self.fault(|faults| faults.doubled, Mark::RequestDoubled)
        {
            self.send(op.clone());
        }
        let reply = self.perform(caller, op);
        if self.fault(|faults| faults.lost_replies, Mark::ReplyLost) {
            return answered(self, Reply::Silence);
        }
        answered(self, reply);
    }

    fn perform(&mut self, caller: Option<Caller>, op: Op) -> Reply {
        match op {
            Op::Append(draft) => self.append(&draft),
            Op::Enqueue(asked) => self.enqueue(&asked),
            Op::ReadFlow(flow) => self.read_flow(caller, flow),
            Op::Find(id) => Reply::Found(self.log.find(id).cloned()),
            Op::ReadRules => self.read_rules(),
            Op::FetchRules(version) => match self.programs.of(&version) {
                Some(program) => Reply::Program(program),
                None => Reply::Silence,
            },
            Op::Adopt(seq, version) => {
                add(&mut self.history, seq, version);
                Reply::Stored
            }
            Op::Ask(batch) => {
                if self.fault(|faults| faults.silent_queries, Mark::QuerySilent) {
                    return Reply::Silence;
                }
                let answer = |input| self.state.query(&batch.query, input);
                let rows = batch.inputs.iter().map(answer).collect();
                record!(self, "query {} {:?}: {rows:?}", batch.query, batch.inputs);
                Reply::Rows(rows)
            }
            Op::AckLog(seq) => self.acknowledge_log(seq),
            Op::NakLog(seq, delay) => {
                let at = self.now + delay;
                if let Some(due) = self.log.due.get_mut(&seq) {
                    *due = Due { at };
                }
                Reply::Stored
            }
            Op::DeadLog(seq, reason) => {
                if self.log.at(seq).is_some() {
                    self.breaks(format!("message {seq} of the log was dead-lettered: {reason}"));
                }
                self.log.due.remove(&seq);
                self.log.dead.insert(seq);
                Reply::Stored
            }
            Op::AckQueue(queue, seq) => self.acknowledge_queue(queue, seq),
            Op::NakQueue { delivery, delay, .. } => self.put_off(&delivery, delay),
            Op::Extend(delivery) => self.put_off(&delivery, ACK_WAIT),
            Op::TakeNote(id) => self.take_note(id),
            Op::LeaveNote(id) => self.leave_note(id),
            Op::ForgetNote(id) => self.forget_note(id),
            Op::StoreLetter(asked, reason) => {
                record!(self, "dead letter: {} {reason}", describe(&asked));
                self.store_letter(&asked)
            }
            Op::TermQueue(queue, seq) => self.terminate(queue, seq),
        }
    }

    fn append(&mut self, draft: &Draft) -> Reply {
        let is_record = &*draft.concept == RESERVED_CONCEPT && &*draft.action == FIRED;
        let is_rules = &*draft.concept == RESERVED_CONCEPT && &*draft.action == IN_FORCE;
        let Some(logged) = self.log.append(draft, self.has(Sabotage::LogTakesTwice)) else {
            self.coverage.mark(Mark::LogRefusedSecond);
            if is_record {
                self.coverage.mark(Mark::RecordRefused);
                if self.log.find(draft.id).is_some_and(|standing| standing.body != draft.body) {
                    self.coverage.mark(Mark::RecordDiffered);
                }
            } else if is_rules {
                self.coverage.mark(Mark::RulesRefusedSecond);
            }
            return Reply::AlreadyThere;
        };
        let seq = logged.seq;
        record!(
            self,
            "log {seq}: {}.{} {} {:?}",
            draft.concept,
            draft.action,
            draft.id,
            draft.body
        );
        if self.log.find(draft.id).is_some_and(|first| first.seq != seq) {
            self.breaks(format!("two messages of the log have one subject: {}", draft.id));
        }
        if &*draft.concept == REQUESTING {
            self.stored.insert(draft.id);
        }
        let is_root = draft.id == draft.flow.root() && &*draft.action == REQUEST;
        if is_record {
            self.coverage.mark(Mark::RecordStored);
            if !self.reference.allows_record(draft.id) {
                self.breaks(format!("a firing record without a cause: {draft:?}"));
            }
        } else if is_rules {
            self.coverage.mark(Mark::RulesActivated);
        } else if !is_root && self.reference.get(draft.id).is_none() {
            self.breaks(format!("a completion without an invocation: {draft:?}"));
        }
        let fed = self.reference.feed(seq, Some(&logged));
        self.must(fed);
        if is_answer(&logged) {
            for edge in 0..OF_EACH {
                let Some(life) = self.life(Process::Edge(edge)).filter(|life| !life.is_down) else {
                    continue;
                };
                let incarnation = life.incarnation;
                if self.chance.permille(self.faults.deaf_edges) {
                    self.edge_misses(edge);
                } else {
                    self.network.push(Packet::Response {
                        edge,
                        incarnation,
                        received: logged.clone(),
                    });
                }
            }
        }
        Reply::Stored
    }

    fn enqueue(&mut self, asked: &Rc<Invocation>) -> Reply {
        let allowed = self.reference.allows(asked);
        self.must(allowed);
        let number = CONCEPTS.iter().position(|concept| **concept == *asked.concept);
        let Some(queue) = number.and_then(|number| self.queues.get_mut(number)) else {
            self.breaks(format!("no stream accepts {}", describe(asked)));
            return Reply::Silence;
        };
        if !queue.enqueue(asked) {
            self.coverage.mark(Mark::QueueRefusedSecond);
            return Reply::AlreadyThere;
        }
        record!(self, "queue: {}", describe(asked));
        self.stored.insert(asked.id);
        if self.log.find(asked.id).is_some() {
            self.coverage.mark(Mark::InvokedAgainAfterItsAck);
        }
        Reply::Stored
    }

    fn read_flow(&mut self, caller: Option<Caller>, flow: FlowId) -> Reply {
        let mut through = self.log.last();
        let by_router = caller.is_some_and(|caller| matches!(caller.process, Process::Router(_)));
        if by_router {
            self.coverage.mark(Mark::FlowReadFromLog);
            if self.fault(|faults| faults.stale_reads, Mark::FlowReadStale) {
                through -= self.chance.ticks(through.min(8));
            }
        }
        let log = self.log.flow(flow).iter().filter(|logged| logged.seq <= through);
        Reply::Flow { flow, through, log: log.cloned().collect() }
    }

    fn read_rules(&mut self) -> Reply {
        let mut history = self.history.clone();
        for logged in self.log.flow(FlowId::of_rules()) {
            if let Some(version) =
                logged.body.input.get("rules").and_then(|version| version.as_str())
            {
                add(&mut history, logged.seq, version.into());
            }
        }
        Reply::Rules { through: self.log.last(), history }
    }

    fn acknowledge_log(&mut self, seq: u64) -> Reply {
        let missing =
            self.reference.brought_about(seq).iter().find(|id| !self.stored.contains(*id));
        if let Some(id) = missing {
            let what = self.reference.get(*id).map(|asked| describe(asked));
            self.breaks(format!(
                "message {seq} of the log is acknowledged before its effects are stored: {what:?}"
            ));
        }
        record!(self, "log {seq} is acknowledged");
        self.log.due.remove(&seq);
        self.log.acknowledged.insert(seq);
        Reply::Stored
    }

    fn acknowledge_queue(&mut self, queue: usize, seq: u64) -> Reply {
        let waiting = self.queues.get(queue).and_then(|queue| queue.waiting.get(&seq));
        let asked = waiting.map(|waiting| waiting.asked.clone());
        if let Some(asked) = asked {
            record!(self, "acknowledged: {}", describe(&asked));
            if self.log.find(asked.id).is_none() {
                self.breaks(format!("acknowledged but not completed: {}", describe(&asked)));
            }
        }
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.remove(seq);
        }
        Reply::Stored
    }

    /// Redelivers a message after a delay. Like the real server, it does not check which delivery
    /// the nak belongs to.
    fn put_off(&mut self, delivery: &Delivery, delay: u64) -> Reply {
        let due_at = self.now + delay;
        let queue = self.queues.get_mut(delivery.queue);
        match queue.and_then(|queue| queue.waiting.get_mut(&delivery.seq)) {
            Some(waiting) => {
                waiting.due_at = due_at;
                Reply::Stored
            }
            None => Reply::Silence,
        }
    }
}

/// Adds a version to a history in the order of the log.
fn add(history: &mut Vec<(u64, Version)>, seq: u64, version: Version) {
    let at = history.partition_point(|(other, _)| *other < seq);
    if history.get(at).is_none_or(|(other, _)| *other != seq) {
        history.insert(at, (seq, version));
    }
}
