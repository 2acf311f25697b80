//! A worker of one concept, as `crates/worker` has it: read, look in the log, write, publish the completion, wait for the confirmation, acknowledge. It may end between any two of these.

mod steps;

use concert_wire::envelope::Object;

use crate::coverage::Mark;
use crate::faults::Sabotage;
use crate::packet::{Delivery, Op, Packet, Process, Reply};
use crate::world::{ACK_WAIT, CONCEPTS, Life, OF_EACH, World, tell};

/// The server counts from when it sent, the worker from when it received; the difference is at most this.
const MARGIN: u64 = 30;
/// Messages that a worker has at once.
const ROOM: usize = 3;

/// What a job does next.
#[derive(Debug, Clone)]
enum Stage {
    Begin,
    Read,
    /// A write is next; first it is asked whether the action is completed already.
    Look {
        seen: String,
    },
    /// The answer is waited for; `None` where a message was delivered again, before anything else is done.
    Looking {
        seen: Option<String>,
    },
    Write {
        seen: String,
    },
    Publish(Finished),
    Publishing(Written),
    /// Its completion was refused; what stands is asked for.
    Comparing(Written),
    Ack,
}

/// What a delivery wrote; `None` when it was no write.
type Written = Option<Object>;

/// What came of the handler.
#[derive(Debug, Clone)]
struct Finished {
    output: Object,
    /// Whether every later delivery has the same outcome, since a stamp says so, or since the action knows no state.
    is_lasting: bool,
    /// Whether it may have written.
    writes: bool,
}

impl Finished {
    fn unwritten(output: Object, is_lasting: bool) -> Stage {
        Stage::Publish(Self {
            output,
            is_lasting,
            writes: false,
        })
    }

    fn written(output: Object, is_lasting: bool) -> Stage {
        Stage::Publish(Self {
            output,
            is_lasting,
            writes: true,
        })
    }
}

#[derive(Debug)]
pub(crate) struct Job {
    delivery: Delivery,
    /// Since when the message is this worker's, as far as it knows.
    held_since: u64,
    stage: Stage,
    /// The handler is at work until then.
    busy_until: u64,
    /// What is waited for.
    call: Option<u32>,
    /// An extension of its time that is waited for, and when it was asked for.
    extending: Option<(u32, u64)>,
}

impl Job {
    fn is_ready(&self, now: u64) -> bool {
        self.call.is_none() && self.busy_until <= now
    }

    /// Whether its time is to be extended now.
    fn extends(&self, now: u64) -> bool {
        self.extending.is_none()
            && matches!(
                self.stage,
                Stage::Read | Stage::Look { .. } | Stage::Looking { seen: Some(_) } | Stage::Write { .. }
            )
            && now > self.held_since + ACK_WAIT / 3
            && now < self.held_until()
    }

    /// Until when the message is certainly with no other worker.
    fn held_until(&self) -> u64 {
        (self.held_since + ACK_WAIT).saturating_sub(MARGIN)
    }
}

/// INVARIANT: the workers of the concept at place n of `CONCEPTS` have the numbers from n times [`OF_EACH`] on.
#[derive(Default)]
pub(crate) struct Worker {
    pub(crate) life: Life,
    pub(crate) jobs: Vec<Job>,
}

impl Worker {
    /// What it was doing when it ended.
    pub(crate) fn end(&mut self) -> Vec<Mark> {
        let jobs = std::mem::take(&mut self.jobs).into_iter();
        let mark = |job: Job| match job.stage {
            Stage::Begin | Stage::Read => Mark::WorkerCrashedBeforeItsRead,
            Stage::Look { .. } => Mark::WorkerCrashedBeforeItsLook,
            Stage::Looking { .. } => Mark::WorkerCrashedWhileLooking,
            Stage::Write { .. } => Mark::WorkerCrashedBeforeItsWrite,
            Stage::Publish(_) => Mark::WorkerCrashedBeforeItsPublish,
            Stage::Publishing(_) | Stage::Comparing(_) => Mark::WorkerCrashedWhilePublishing,
            Stage::Ack => Mark::WorkerCrashedBeforeItsAck,
        };
        jobs.map(mark).collect()
    }
}

/// What became of a job's step.
enum Next {
    Stage(Stage),
    /// An answer to this is waited for in this stage.
    Wait(Stage, Op),
    /// Again after a while.
    Later,
    /// The message goes, in one way or the other.
    End(Op),
}

impl World<'_> {
    /// A queue delivers a message to one of its workers.
    pub(crate) fn deliver_queue(&mut self) -> bool {
        let now = self.now;
        let number = self.chance.below(CONCEPTS.len());
        let Some(queue) = (0..CONCEPTS.len())
            .map(|next| (number + next) % CONCEPTS.len())
            .find(|queue| {
                let queue = self.queues.get(*queue);
                queue.is_some_and(|queue| queue.waiting.values().any(|waiting| waiting.due_at <= now))
            })
        else {
            return false;
        };
        let worker = queue * OF_EACH + self.chance.below(OF_EACH);
        let process = Process::Worker(worker);
        if !self.runs(process)
            || self.is_cut_off(process)
            || self.workers.get(worker).is_none_or(|it| it.jobs.len() >= ROOM)
        {
            return false;
        }
        let Some(stream) = self.queues.get_mut(queue) else {
            return false;
        };
        let due = stream.waiting.iter_mut().filter(|(_, waiting)| waiting.due_at <= now);
        let mut due: Vec<_> = due.collect();
        let which = self.chance.below(due.len());
        let Some((seq, waiting)) = due.get_mut(which) else {
            return false;
        };
        waiting.due_at = now + ACK_WAIT;
        waiting.delivered += 1;
        if waiting.delivered > 1 {
            self.coverage.mark(Mark::QueueRedelivered);
        }
        let delivery = Delivery {
            queue,
            seq: **seq,
            number: waiting.delivered,
            asked: waiting.asked.clone(),
        };
        let incarnation = self.life(Process::Worker(worker)).map_or(0, |life| life.incarnation);
        self.network.push(Packet::QueueMessage {
            worker,
            incarnation,
            sent_at: now,
            delivery,
        });
        true
    }

    pub(crate) fn worker_receives(&mut self, number: usize, sent_at: u64, delivery: Delivery) {
        // A message that was longer under way than the margin allows for is left to come again.
        if self.now > sent_at + MARGIN {
            return;
        }
        tell!(
            self,
            "worker {number} receives {} {}, delivery {}",
            delivery.asked.action,
            delivery.asked.id,
            delivery.number
        );
        let job = Job {
            delivery,
            held_since: self.now,
            stage: Stage::Begin,
            busy_until: 0,
            call: None,
            extending: None,
        };
        if let Some(worker) = self.workers.get_mut(number) {
            worker.jobs.push(job);
        }
    }

    /// One step of one job.
    pub(crate) fn work(&mut self) -> bool {
        let now = self.now;
        let first = self.chance.below(self.workers.len());
        for next in 0..self.workers.len() {
            let number = (first + next) % self.workers.len();
            let Some(worker) = self.workers.get_mut(number).filter(|worker| worker.life.runs(now)) else {
                continue;
            };
            let ready = worker
                .jobs
                .iter()
                .enumerate()
                .filter(|(_, job)| job.is_ready(now) || job.extends(now));
            let ready: Vec<usize> = ready.map(|(at, _)| at).collect();
            let Some(at) = self.chance.pick(&ready) else { continue };
            let job = worker.jobs.swap_remove(at);
            if job.extends(now) {
                self.extend(number, job);
            } else {
                self.go_on(number, job);
            }
            return true;
        }
        false
    }

    fn extend(&mut self, number: usize, mut job: Job) {
        if self.has(Sabotage::LeaseExtendedUnheard) {
            self.send_from(Process::Worker(number), Op::Extend(job.delivery.clone()));
            job.held_since = self.now;
        } else {
            let call = self.call(Process::Worker(number), Op::Extend(job.delivery.clone()));
            job.extending = Some((call, self.now));
        }
        self.keep(number, job);
    }

    fn keep(&mut self, number: usize, job: Job) {
        if let Some(worker) = self.workers.get_mut(number) {
            worker.jobs.push(job);
        }
    }

    fn go_on(&mut self, number: usize, job: Job) {
        // The moments at which standing still does most harm.
        let mark = match job.stage {
            Stage::Write { .. } => Some(Mark::PausedBeforeItsWrite),
            Stage::Publish(_) => Some(Mark::PausedBeforeItsPublish),
            _ => None,
        };
        if let Some(mark) = mark
            && self.fault(|faults| faults.pauses * 8, mark)
        {
            self.pause(Process::Worker(number));
            return self.keep(number, job);
        }
        let next = self.next(&job);
        self.follow(number, job, next);
    }

    fn follow(&mut self, number: usize, mut job: Job, next: Next) {
        match next {
            Next::Stage(stage) => {
                if matches!(stage, Stage::Look { .. }) && self.fault(|faults| faults.slow_handlers, Mark::SlowHandler) {
                    job.busy_until = self.now + self.chance.ticks(ACK_WAIT * 2);
                }
                job.stage = stage;
                self.keep(number, job);
            }
            Next::Wait(stage, op) => {
                job.stage = stage;
                job.call = Some(self.call(Process::Worker(number), op));
                self.keep(number, job);
            }
            Next::Later => {
                let delay = 10 + self.chance.ticks(80);
                tell!(self, "worker {number} puts off {}", job.delivery.asked.id);
                // After its time the message is another's, and such a word would take it from that one.
                let not_after = (!self.has(Sabotage::NakAfterLease)).then_some(job.held_until());
                let delivery = job.delivery;
                self.send_from(
                    Process::Worker(number),
                    Op::NakQueue {
                        delivery,
                        delay,
                        not_after,
                    },
                );
            }
            Next::End(op) => self.send_from(Process::Worker(number), op),
        }
    }

    pub(crate) fn worker_hears(&mut self, number: usize, call: u32, reply: Reply) {
        let Some(worker) = self.workers.get_mut(number) else {
            return;
        };
        let extended = worker
            .jobs
            .iter_mut()
            .find(|job| job.extending.is_some_and(|(waits, _)| waits == call));
        if let Some(job) = extended {
            // The time counts from before the server was asked; and it may have been asked too late, since it confirms any delivery's word.
            let is_held = self.now < job.held_until();
            if let (Reply::Stored, Some((_, asked_at)), true) = (reply, job.extending.take(), is_held) {
                job.held_since = asked_at;
                self.coverage.mark(Mark::LeaseExtended);
            }
            return;
        }
        let Some(at) = worker.jobs.iter().position(|job| job.call == Some(call)) else {
            return;
        };
        let mut job = worker.jobs.swap_remove(at);
        job.call = None;
        let next = match (job.stage.clone(), reply) {
            (Stage::Looking { seen }, Reply::Found(Some(_))) => {
                self.coverage.mark(match seen {
                    None => Mark::LookFoundCompletion,
                    Some(_) => Mark::LookBeforeWriteFoundCompletion,
                });
                Next::Stage(Stage::Ack)
            }
            (Stage::Looking { seen: None }, Reply::Found(None)) => Next::Stage(Stage::Read),
            (Stage::Looking { seen: Some(seen) }, Reply::Found(None)) => Next::Stage(Stage::Write { seen }),
            (Stage::Publishing(_), Reply::Stored) => Next::Stage(Stage::Ack),
            (Stage::Publishing(written), Reply::AlreadyThere) => {
                Next::Wait(Stage::Comparing(written), Op::Find(job.delivery.asked.id))
            }
            (Stage::Comparing(written), Reply::Found(Some(standing))) => self.compare(&job, written, &standing),
            _ => Next::Later,
        };
        self.follow(number, job, next);
    }
}
