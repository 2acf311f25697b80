//! Executes the decisions of the state machine on the servers, and passes their responses back as
//! events.

use std::rc::Rc;
use std::sync::Arc;

use concert_wire::envelope::Completion;
use concert_wire::value;
use concert_worker::order::{Effect, End, Event, Found, OUT_OF_ORDER, Published, Wait};
use concert_worker::outcome::Comparison;
use serde_json::Value;

use super::{Asks, Job, Todo};
use crate::coverage::Mark;
use crate::faults::Sabotage;
use crate::packet::{Draft, Op, Process, Reply};
use crate::world::{ACK_WAIT, World, record};

impl World<'_> {
    pub(super) fn carry_out(&mut self, number: usize, job: &mut Job, effect: Effect) {
        let id = job.id();
        // The turn and the handler extend the deadline themselves.
        job.tick_at = u64::MAX;
        match effect {
            Effect::Look if self.has(Sabotage::WorkerDoesNotLook) => {
                job.todo = Todo::Hear(Event::Found(Found::Nothing));
            }
            Effect::Look => self.ask_for(number, job, Asks::Look, Op::Find(id)),
            Effect::Find => self.ask_for(number, job, Asks::Find, Op::Find(id)),
            Effect::AwaitTurn { isolated: alone } => {
                job.tick_at = self.now + ACK_WAIT / 3;
                job.todo = Todo::Turn { alone, since: self.now };
            }
            Effect::ReleaseTurn => job.turn = None,
            Effect::TakeNote => self.ask_for(number, job, Asks::TakeNote, Op::TakeNote(id)),
            Effect::LeaveNote => {
                job.has_note = true;
                self.ask_for(number, job, Asks::LeaveNote, Op::LeaveNote(id));
            }
            Effect::ForgetNote => self.ask_for(number, job, Asks::ForgetNote, Op::ForgetNote(id)),
            Effect::Run => {
                job.tick_at = self.now + ACK_WAIT / 3;
                job.todo = Todo::Read;
            }
            Effect::Publish(completion) => {
                if self.has(Sabotage::WorkerAcksFirst) {
                    self.send(Op::AckQueue(job.delivery.queue, job.delivery.seq));
                }
                let draft = Rc::new(self.draft(job, &completion));
                self.ask_for(number, job, Asks::Publish, Op::Append(draft));
            }
            Effect::Compare { existing: standing, own } => {
                job.is_uncompared = false;
                let comparison = self.compare(job, &standing, &own);
                job.todo = Todo::Hear(Event::Compared(comparison));
            }
            Effect::Reply(_) => job.has_replied = true,
            Effect::Audit(_) | Effect::End(_) => {}
            Effect::StoreLetter(reason) => {
                self.judge_letter(job, &reason);
                let op = Op::StoreLetter(job.delivery.asked.clone(), reason);
                self.ask_for(number, job, Asks::StoreLetter, op);
            }
        }
    }

    fn ask_for(&mut self, number: usize, job: &mut Job, asks: Asks, op: Op) {
        job.todo = Todo::Wait(self.call(Process::Worker(number), op), asks);
    }

    /// The handler reads the log before its first write.
    pub(super) fn look_before_write(&mut self, number: usize, job: &mut Job) {
        if self.has(Sabotage::WorkerDoesNotLook) {
            job.todo = Todo::Looked(Found::Nothing);
        } else {
            self.ask_for(number, job, Asks::LookBeforeWrite, Op::Find(job.id()));
        }
    }

    fn draft(&self, job: &Job, completion: &Completion) -> Draft {
        let asked = &job.delivery.asked;
        let may_be_late = job.is_lasting
            || self.has(Sabotage::LateCompletion)
            || self.has(Sabotage::CompletionAfterLease);
        Draft {
            flow: asked.flow,
            concept: asked.concept.clone(),
            action: asked.action.clone(),
            id: asked.id,
            body: completion.clone(),
            context: Default::default(),
            not_after: (!may_be_late).then_some(job.order.ours_until_ms()),
        }
    }

    fn compare(&mut self, job: &mut Job, standing: &Completion, own: &Completion) -> Comparison {
        let output = |completion: &Completion| Value::Object(completion.output.clone());
        if self.fault(|faults| faults.late_keys * 40, Mark::ComparedLater) {
            job.has_failed = true;
            Comparison::Locked("a sealing key is missing".to_owned())
        } else if value::equal(&output(standing), &output(own)) {
            self.coverage.mark(Mark::SecondCompletionAgreed);
            Comparison::Same
        } else {
            record!(self, "diverged: {:?} here, {:?} in the log", own.output, standing.output);
            Comparison::Different
        }
    }

    /// Handles the response that a job waited for. Its effects may still be interrupted.
    pub(super) fn answered(&mut self, number: usize, mut job: Job, reply: Reply) {
        let Todo::Wait(_, asks) = job.todo else {
            return self.keep(number, job);
        };
        let silence = || "no response".to_owned();
        job.todo = match asks {
            Asks::Look | Asks::LookBeforeWrite | Asks::Find => {
                let found = match reply {
                    Reply::Found(Some(logged)) => {
                        match asks {
                            Asks::Look => self.coverage.mark(Mark::LookFoundCompletion),
                            Asks::LookBeforeWrite => {
                                self.coverage.mark(Mark::LookBeforeWriteFoundCompletion)
                            }
                            _ => self.coverage.mark(Mark::SecondCompletionFound),
                        }
                        Found::Completion(Arc::new(logged.body.clone()))
                    }
                    Reply::Found(None) => Found::Nothing,
                    _ => Found::Unread(silence()),
                };
                if asks == Asks::LookBeforeWrite {
                    Todo::Looked(found)
                } else {
                    Todo::Hear(Event::Found(found))
                }
            }
            Asks::TakeNote => Todo::Hear(match reply {
                Reply::Note(was_there) => {
                    if was_there {
                        self.coverage.mark(Mark::NoteFound);
                    }
                    Event::NoteTaken(was_there)
                }
                _ => Event::NoteFailed(silence()),
            }),
            Asks::LeaveNote => Todo::Hear(match reply {
                Reply::Stored => Event::NoteLeft,
                _ => Event::NoteFailed(silence()),
            }),
            Asks::ForgetNote => {
                job.has_note = false;
                // The marker may still exist.
                if !matches!(reply, Reply::Stored) {
                    self.letters.suspect(job.id());
                }
                Todo::Hear(Event::NoteForgotten)
            }
            Asks::Publish => Todo::Hear(Event::Published(match reply {
                Reply::Stored => {
                    if job.turn.is_some_and(|turn| turn.alone) {
                        self.coverage.mark(Mark::LastAttemptCompleted);
                    }
                    Published::Stored
                }
                Reply::AlreadyThere => {
                    job.is_uncompared = job.has_written;
                    Published::AlreadyThere
                }
                _ => Published::Failed(silence()),
            })),
            Asks::StoreLetter => Todo::Hear(match reply {
                Reply::Stored => Event::LetterStored,
                _ => Event::LetterNotStored(silence()),
            }),
        };
        self.keep(number, job);
    }

    /// The last ack or nak of a delivery.
    pub(super) fn end_delivery(&mut self, number: usize, job: &Job, end: End) {
        let process = Process::Worker(number);
        let delivery = job.delivery.clone();
        record!(self, "worker {number} settles {}: {end:?}", job.id());
        match end {
            End::Ack => {
                if job.is_uncompared {
                    self.breaks(format!(
                        "{} is acknowledged before its write is compared with the log",
                        job.id()
                    ));
                }
                if !job.has_replied {
                    self.breaks(format!(
                        "{} is acknowledged before its caller has a result",
                        job.id()
                    ));
                }
                self.send_from(process, Op::AckQueue(delivery.queue, delivery.seq));
            }
            End::Nak { wait, .. } => {
                let delay = match wait {
                    Wait::Backoff => 10 + self.chance.ticks(80),
                    Wait::Longest => 100 + self.chance.ticks(100),
                };
                // After the deadline another worker may have the message, and a nak would take it
                // away.
                let not_after =
                    (!self.has(Sabotage::NakAfterLease)).then_some(job.order.ours_until_ms());
                let op = Op::NakQueue { delivery, delay, not_after };
                self.send_from(process, op);
            }
            End::Term => self.send_from(process, Op::TermQueue(delivery.queue, delivery.seq)),
            End::Leave(why) if why == OUT_OF_ORDER => {
                self.breaks("the worker's state machine got an unexpected response")
            }
            End::Leave(_) => self.coverage.mark(Mark::LeaseRunOut),
        }
    }
}
