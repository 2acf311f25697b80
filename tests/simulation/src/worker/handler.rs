//! The steps of a handler: read, ask for permission to write, write.

use std::sync::Arc;

use concert_engine::Invocation;
use concert_wire::envelope::{Completion, Fault, Object};
use concert_wire::value;
use concert_worker::order::{Event, Handled, NoPermit, Permit};

use super::{Job, Todo};
use crate::coverage::Mark;
use crate::packet::Process;
use crate::state::{Call, Outcome, Plan, Written};
use crate::world::{ACK_WAIT, World, record};

const CLOCK_SKEW: u64 = 20;

impl Job {
    fn completes(&mut self, output: Object, is_lasting: bool) {
        self.is_lasting = is_lasting;
        let input = input(self);
        let completion = Arc::new(Completion { input, output });
        self.todo = Todo::Hear(Event::Handled(Handled::Completed(completion)));
    }

    fn fails(&mut self, why: &str) {
        self.has_failed = true;
        self.todo = Todo::Hear(Event::Handled(Handled::Failed(why.to_owned())));
    }
}

impl World<'_> {
    /// Runs the handler up to its write.
    pub(super) fn read(&mut self, number: usize, mut job: Job) {
        self.judge_turn(&job);
        if self.is_poison(&job) {
            record!(self, "the handler of {} crashes its process", job.id());
            self.coverage.mark(if job.has_note {
                Mark::LastAttemptCrashedItsProcess
            } else {
                Mark::HandlerCrashedItsProcess
            });
            self.keep(number, job);
            return self.crash(Process::Worker(number));
        }
        self.plan(number, &mut job);
        self.keep(number, job);
    }

    fn plan(&mut self, number: usize, job: &mut Job) {
        let asked = job.delivery.asked.clone();
        if self.is_locked(number, job) {
            self.coverage.mark(Mark::KeyMissing);
            return job.fails("a sealing key is missing");
        }
        let has_effects = !matches!(&*asked.action, "authenticate" | "price" | "count" | "spin");
        let deadline = asked.context.deadline_ms.filter(|_| !has_effects);
        if deadline.is_some_and(|deadline| deadline + CLOCK_SKEW < self.now) {
            self.coverage.mark(Mark::DeadlinePassed);
            let output = Fault::Deadline.output("the deadline passed before the action started");
            return job.completes(output, false);
        }
        if self.fault(|faults| faults.silent_database, Mark::DatabaseSilent) {
            return job.fails("the database did not respond");
        }
        let input = input(job);
        let call = call(&asked, &input);
        match self.state.read(&asked.concept, call) {
            Plan::Answer(outcome) => job.completes(outcome.output(), false),
            Plan::Write { seen } => {
                job.seen = seen;
                job.todo = Todo::MayWrite;
                if self.fault(|faults| faults.slow_handlers, Mark::SlowHandler) {
                    job.busy_until = self.now + self.chance.ticks(ACK_WAIT * 2);
                }
            }
        }
    }

    /// Returns whether a secret of the action is sealed with a key that this worker does not have
    /// yet.
    pub(super) fn is_locked(&self, number: usize, job: &Job) -> bool {
        let asked = &job.delivery.asked;
        let is_sealed = asked.flow.root() != asked.id
            && matches!(&*asked.action, "createAccount" | "authenticate" | "delete");
        let worker = self.workers.get(number);
        is_sealed
            && self.faults.late_keys > 0
            && worker.is_some_and(|worker| worker.keyless_until > self.now)
    }

    /// Returns whether the handler of this action crashes its process every time, until faults end.
    fn is_poison(&mut self, job: &Job) -> bool {
        if job.delivery.number == 1 && self.chance.permille(self.faults.poison) {
            self.poison.insert(job.id());
        }
        self.faults.poison > 0 && self.poison.contains(&job.id())
    }

    /// Handles the permission to write; if granted, writes immediately.
    pub(super) fn permitted(&mut self, number: usize, mut job: Job, permit: Permit) {
        match permit {
            Permit::Granted => self.write(&mut job),
            Permit::Look => self.look_before_write(number, &mut job),
            Permit::Refused(NoPermit::Completed) => {
                job.todo = Todo::Hear(Event::Handled(Handled::Before))
            }
            Permit::Refused(why) => {
                if why == NoPermit::Late {
                    self.coverage.mark(Mark::WriteRefusedLate);
                }
                job.todo = Todo::Hear(Event::Handled(Handled::NoPermit(why.to_string())));
            }
        }
        self.keep(number, job);
    }

    fn write(&mut self, job: &mut Job) {
        let asked = job.delivery.asked.clone();
        let input = input(job);
        let call = call(&asked, &input);
        let written = self.state.write(&asked.concept, call, &job.seen);
        job.has_written = true;
        record!(self, "write of {} {}: {written:?}", asked.action, asked.id);
        if self.fault(|faults| faults.silent_database, Mark::DatabaseSilent) {
            return job.fails("the database did not respond");
        }
        let outcome = match written {
            Written::Now(outcome) => {
                let mark = match (&*asked.action, &outcome) {
                    (_, Outcome::Refused(_)) => Some(Mark::WriteLostTheRace),
                    ("deleteAccount", _) => Some(Mark::AccountDeleted),
                    ("changePassword", _) => Some(Mark::PasswordChanged),
                    ("restock", _) => Some(Mark::Restocked),
                    ("delete", _) if asked.flow.root() == asked.id => {
                        Some(Mark::SessionEndedByHand)
                    }
                    _ => None,
                };
                if let Some(mark) = mark {
                    self.coverage.mark(mark);
                }
                outcome
            }
            Written::Before(outcome) => {
                self.coverage.mark(Mark::WriteFoundItsStamp);
                outcome
            }
            Written::Again => {
                self.coverage.mark(Mark::WriteLostTheRace);
                return job.fails("another write came first");
            }
        };
        let is_lasting = matches!(outcome, Outcome::Done(_));
        job.completes(outcome.output(), is_lasting);
    }
}

fn call<'a>(asked: &'a Invocation, input: &'a Object) -> Call<'a> {
    let Invocation { id, flow, position, action, .. } = asked;
    Call { id: *id, flow: *flow, position: *position, action, input }
}

fn input(job: &Job) -> Object {
    value::object(&job.delivery.asked.body).unwrap_or_default()
}
