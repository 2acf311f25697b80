//! What a worker does with one message, step by step.

use std::rc::Rc;

use concert_engine::Logged;
use concert_wire::envelope::{Completion, Fault, Object};
use concert_wire::id::FlowId;
use concert_wire::value;
use serde_json::Value;

use super::{Finished, Job, Next, Stage};
use crate::coverage::Mark;
use crate::faults::Sabotage;
use crate::packet::{Draft, Op};
use crate::state::{Call, Outcome, Plan, Written};
use crate::world::{REQUESTING_QUEUE, World, tell};

const CLOCK_SKEW: u64 = 20;

impl World<'_> {
    /// The step of a job that waits for nothing.
    pub(super) fn next(&mut self, job: &Job) -> Next {
        let asked = &job.delivery.asked;
        match &job.stage {
            // Delivered again, it is likely to be done.
            Stage::Begin if job.delivery.number > 1 && !self.has(Sabotage::WorkerDoesNotLook) => {
                Next::Wait(Stage::Looking { seen: None }, Op::Find(asked.id))
            }
            Stage::Begin => Next::Stage(Stage::Read),
            Stage::Read if job.delivery.queue == REQUESTING_QUEUE => {
                Next::Stage(Finished::unwritten(respond(job), true))
            }
            Stage::Read => self.read(job),
            Stage::Look { seen } if self.has(Sabotage::WorkerDoesNotLook) => {
                Next::Stage(Stage::Write { seen: seen.clone() })
            }
            Stage::Look { seen } => Next::Wait(
                Stage::Looking {
                    seen: Some(seen.clone()),
                },
                Op::Find(asked.id),
            ),
            Stage::Write { seen } => self.write(job, seen),
            Stage::Publish(finished) => self.publish(job, finished),
            Stage::Ack => Next::End(Op::AckQueue(job.delivery.queue, job.delivery.seq)),
            Stage::Looking { .. } | Stage::Publishing(_) | Stage::Comparing(_) => Next::Later,
        }
    }

    fn read(&mut self, job: &Job) -> Next {
        let asked = &job.delivery.asked;
        let has_effects = !matches!(&*asked.action, "authenticate" | "price" | "count" | "spin");
        let deadline = asked.context.deadline_ms.filter(|_| !has_effects);
        if deadline.is_some_and(|deadline| deadline + CLOCK_SKEW < self.now) {
            self.coverage.mark(Mark::DeadlinePassed);
            let output = Fault::Deadline.output("the deadline passed before the action was begun");
            return Next::Stage(Finished::unwritten(output, false));
        }
        if self.fault(|faults| faults.silent_database, Mark::DatabaseSilent) {
            return Next::Later;
        }
        let input = input(job);
        let call = Call {
            id: asked.id,
            action: &asked.action,
            input: &input,
        };
        Next::Stage(match self.state.read(&asked.concept, call) {
            Plan::Answer(outcome) => Finished::unwritten(outcome.output(), false),
            Plan::Write { seen } => Stage::Look { seen },
        })
    }

    /// Whether the message may be with another worker by now.
    fn overran(&mut self, job: &Job) -> bool {
        let overran = self.now >= job.held_until();
        if overran {
            self.coverage.mark(Mark::LeaseRunOut);
        }
        overran
    }

    fn publish(&mut self, job: &Job, finished: &Finished) -> Next {
        if self.has(Sabotage::WorkerAcksFirst) {
            self.send(Op::AckQueue(job.delivery.queue, job.delivery.seq));
        }
        // An outcome that left no stamp may be another one with the worker that has the message now.
        if self.overran(job) && !self.has(Sabotage::CompletionAfterLease) {
            return Next::Later;
        }
        let mut draft = completion(job, &finished.output);
        let may_be_late = finished.is_lasting || self.has(Sabotage::LateCompletion);
        draft.not_after = (!may_be_late && !self.has(Sabotage::CompletionAfterLease)).then_some(job.held_until());
        let written = finished.writes.then(|| finished.output.clone());
        Next::Wait(Stage::Publishing(written), Op::Append(Rc::new(draft)))
    }

    fn write(&mut self, job: &Job, seen: &str) -> Next {
        if self.overran(job) && !self.has(Sabotage::LeaseIgnored) {
            return Next::Later;
        }
        let asked = &job.delivery.asked;
        let input = input(job);
        let call = Call {
            id: asked.id,
            action: &asked.action,
            input: &input,
        };
        let written = self.state.write(&asked.concept, call, seen);
        tell!(self, "write of {} {}: {written:?}", asked.action, asked.id);
        if self.fault(|faults| faults.silent_database, Mark::DatabaseSilent) {
            return Next::Later;
        }
        match written {
            Written::Now(outcome) => {
                let mark = match (&*asked.action, &outcome) {
                    (_, Outcome::Refused(_)) => Some(Mark::WriteLostTheRace),
                    ("deleteAccount", _) => Some(Mark::AccountDeleted),
                    ("changePassword", _) => Some(Mark::PasswordChanged),
                    ("restock", _) => Some(Mark::Restocked),
                    ("delete", _) if asked.flow.root() == asked.id => Some(Mark::SessionEndedByHand),
                    _ => None,
                };
                if let Some(mark) = mark {
                    self.coverage.mark(mark);
                }
                let is_lasting = matches!(outcome, Outcome::Done(_));
                Next::Stage(Finished::written(outcome.output(), is_lasting))
            }
            Written::Before(outcome) => {
                self.coverage.mark(Mark::WriteFoundItsStamp);
                let is_lasting = matches!(outcome, Outcome::Done(_));
                Next::Stage(Finished::written(outcome.output(), is_lasting))
            }
            Written::Again => {
                self.coverage.mark(Mark::WriteLostTheRace);
                Next::Later
            }
        }
    }

    pub(super) fn compare(&mut self, job: &Job, written: super::Written, standing: &Logged) -> Next {
        let Some(written) = written else {
            self.coverage.mark(Mark::SecondCompletionUnwritten);
            return Next::Stage(Stage::Ack);
        };
        let standing = &standing.body.output;
        if value::equal(&Value::Object(standing.clone()), &Value::Object(written.clone())) {
            self.coverage.mark(Mark::SecondCompletionAgreed);
            Next::Stage(Stage::Ack)
        } else {
            let why = format!("diverged: {written:?} here, {standing:?} in the log");
            Next::End(Op::DeadQueue(job.delivery.clone(), why))
        }
    }
}

fn input(job: &Job) -> Object {
    value::object(&job.delivery.asked.body).unwrap_or_default()
}

/// The one action of Requesting: a rule answers its own flow's request only.
fn respond(job: &Job) -> Object {
    let request = input(job)
        .get("request")
        .and_then(|request| request.as_str()?.parse::<FlowId>().ok());
    if request == Some(job.delivery.asked.flow) {
        Object::new()
    } else {
        Outcome::refused("the request is not the one that this flow began with").output()
    }
}

fn completion(job: &Job, output: &Object) -> Draft {
    let asked = &job.delivery.asked;
    Draft {
        flow: asked.flow,
        concept: asked.concept.clone(),
        action: asked.action.clone(),
        id: asked.id,
        body: Completion {
            input: input(job),
            output: output.clone(),
        },
        context: Default::default(),
        not_after: None,
    }
}
