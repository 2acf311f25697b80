//! A worker of one concept: the real state machine of a delivery, and a model of the shell of
//! `crates/worker`. The process may crash or pause between any two steps.

mod effects;
mod handler;
mod letters;

use concert_wire::id::ActionId;
use concert_worker::order::{self, Effect, Effects, Event, Found, Handled, Limits, Published};

use crate::coverage::Mark;
use crate::faults::Sabotage;
use crate::packet::{Delivery, Op, Packet, Process, Reply};
use crate::world::{ACK_WAIT, CONCEPTS, Life, OF_EACH, World, record};

/// Maximum difference between the server's and the worker's start of the ack wait.
const MARGIN: u64 = 30;
/// Maximum number of concurrent messages of a worker.
const ROOM: usize = 3;

/// The next step of a job.
#[derive(Debug, Clone)]
enum Todo {
    /// Pass an event to the state machine.
    Hear(Event),
    /// Waiting for an isolated attempt since this time.
    Turn { alone: bool, since: u64 },
    /// Start the handler.
    Read,
    /// Ask for permission to write.
    MayWrite,
    /// The log was read before the first write.
    Looked(Found),
    /// Waiting for a response.
    Wait(u32, Asks),
}

/// The request that a response belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    Look,
    LookBeforeWrite,
    Find,
    TakeNote,
    LeaveNote,
    ForgetNote,
    Publish,
    StoreLetter,
}

/// The isolation of a job.
#[derive(Debug, Clone, Copy)]
struct Turn {
    alone: bool,
    /// `true` if it blocks others; false after the maximum wait.
    is_exclusive: bool,
}

#[derive(Debug)]
pub(crate) struct Job {
    delivery: Delivery,
    order: order::Delivery,
    received_at: u64,
    todo: Todo,
    /// The handler runs until this time.
    busy_until: u64,
    /// The time of the next in-progress ack.
    tick_at: u64,
    /// The pending in-progress ack, and when it was sent.
    extending: Option<(u32, u64)>,
    turn: Option<Turn>,
    /// The decision of the handler before its write.
    seen: String,
    /// `true` if every later delivery has the same outcome, because of a stamp or because the
    /// action has no state.
    is_lasting: bool,
    /// `true` if its marker may be in the bucket.
    has_note: bool,
    /// `true` if its handler failed.
    has_failed: bool,
    /// `true` if its handler changed the state, but the log had the completion of another delivery.
    has_written: bool,
    is_uncompared: bool,
    /// `true` if a waiting caller got a result.
    has_replied: bool,
}

impl Job {
    fn id(&self) -> ActionId {
        self.delivery.asked.id
    }

    /// Returns whether to send an in-progress ack now.
    fn extends(&self, now: u64) -> bool {
        now >= self.tick_at && self.order.extends(now)
    }

    fn crash_mark(&self) -> Mark {
        match &self.todo {
            Todo::Hear(Event::Handled(_)) => Mark::WorkerCrashedBeforeItsPublish,
            Todo::Hear(Event::Published(_)) => Mark::WorkerCrashedBeforeItsAck,
            Todo::Turn { .. } => Mark::WorkerCrashedWaitingForItsTurn,
            Todo::Hear(_) | Todo::Read => Mark::WorkerCrashedBeforeItsRead,
            Todo::MayWrite => Mark::WorkerCrashedBeforeItsLookup,
            Todo::Looked(_) => Mark::WorkerCrashedBeforeItsWrite,
            Todo::Wait(_, Asks::Look | Asks::LookBeforeWrite) => Mark::WorkerCrashedDuringItsLookup,
            Todo::Wait(_, Asks::Publish | Asks::Find) => Mark::WorkerCrashedWhilePublishing,
            Todo::Wait(_, Asks::TakeNote | Asks::LeaveNote | Asks::ForgetNote) => {
                Mark::WorkerCrashedWithItsNote
            }
            Todo::Wait(_, Asks::StoreLetter) => Mark::WorkerCrashedWithItsDeadLetter,
        }
    }
}

/// INVARIANT: the workers of the concept at index n of `CONCEPTS` have the numbers from n times
/// [`OF_EACH`] on.
#[derive(Default)]
pub(crate) struct Worker {
    pub(crate) life: Life,
    pub(crate) jobs: Vec<Job>,
    /// The time until which its key file lacks a key that others seal with.
    pub(crate) keyless_until: u64,
}

impl Worker {
    /// The indexes of the jobs that can continue.
    fn ready(&self, now: u64) -> Vec<usize> {
        let is_ready = |at: usize, job: &Job| match job.todo {
            Todo::Wait(..) => false,
            Todo::Turn { alone, since } => self.has_turn_for(at, alone) || now >= since + ACK_WAIT,
            _ => job.busy_until <= now,
        };
        let jobs = self.jobs.iter().enumerate();
        jobs.filter(|(at, job)| is_ready(*at, job) || job.extends(now)).map(|(at, _)| at).collect()
    }

    /// Returns whether no other job prevents an isolated attempt.
    fn has_turn_for(&self, at: usize, alone: bool) -> bool {
        let others = self.jobs.iter().enumerate().filter(|(other, _)| *other != at);
        let mut turns = others.filter_map(|(_, job)| job.turn);
        !turns.any(|turn| turn.is_exclusive && (alone || turn.alone))
    }
}

impl World<'_> {
    /// Loses the state of a crashed worker.
    pub(crate) fn worker_ends(&mut self, number: usize) {
        let jobs = self.workers.get_mut(number).map(|it| std::mem::take(&mut it.jobs));
        for job in jobs.unwrap_or_default() {
            self.coverage.mark(job.crash_mark());
            if job.has_note {
                self.letters.suspect(job.id());
            }
        }
    }

    /// A queue delivers a message to one of its workers.
    pub(crate) fn deliver_queue(&mut self) -> bool {
        let now = self.now;
        let number = self.chance.below(CONCEPTS.len());
        let Some(queue) =
            (0..CONCEPTS.len()).map(|next| (number + next) % CONCEPTS.len()).find(|queue| {
                let queue = self.queues.get(*queue);
                queue.is_some_and(|queue| {
                    queue.waiting.values().any(|waiting| waiting.due_at <= now)
                })
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
        let delivery =
            Delivery { queue, seq: **seq, number: waiting.delivered, asked: waiting.asked.clone() };
        let incarnation = self.life(Process::Worker(worker)).map_or(0, |life| life.incarnation);
        self.network.push(Packet::QueueMessage { worker, incarnation, sent_at: now, delivery });
        true
    }

    pub(crate) fn worker_receives(&mut self, number: usize, sent_at: u64, delivery: Delivery) {
        // A message that was in transit for longer than the margin is left for redelivery.
        if self.now > sent_at + MARGIN {
            return;
        }
        record!(
            self,
            "worker {number} receives {} {}, delivery {}",
            delivery.asked.action,
            delivery.asked.id,
            delivery.number
        );
        let limits = Limits { attempts: self.attempts, ack_wait_ms: ACK_WAIT, margin_ms: MARGIN };
        let (order, effects) = order::Delivery::new(i64::from(delivery.number), limits, self.now);
        let job = Job {
            delivery,
            order,
            received_at: self.now,
            todo: Todo::Read,
            busy_until: 0,
            tick_at: u64::MAX,
            extending: None,
            turn: None,
            seen: String::new(),
            is_lasting: false,
            has_note: false,
            has_failed: false,
            has_written: false,
            is_uncompared: false,
            has_replied: false,
        };
        self.judge_lease(job.id());
        self.carry_out_all(number, job, effects);
    }

    /// Runs one step of one job.
    pub(crate) fn work(&mut self) -> bool {
        let now = self.now;
        let first = self.chance.below(self.workers.len());
        for next in 0..self.workers.len() {
            let number = (first + next) % self.workers.len();
            let Some(worker) = self.workers.get_mut(number).filter(|worker| worker.life.runs(now))
            else {
                continue;
            };
            let ready = worker.ready(now);
            let Some(at) = self.chance.pick(&ready) else { continue };
            let is_free = worker.jobs.get(at).is_some_and(|job| match job.todo {
                Todo::Turn { alone, .. } => worker.has_turn_for(at, alone),
                _ => false,
            });
            let job = worker.jobs.swap_remove(at);
            if job.extends(now) {
                self.extend(number, job);
            } else {
                self.go_on(number, job, is_free);
            }
            return true;
        }
        false
    }

    fn extend(&mut self, number: usize, mut job: Job) {
        let op = Op::Extend(job.delivery.clone());
        job.tick_at = self.now + ACK_WAIT / 3;
        if self.has(Sabotage::LeaseExtendedUnconfirmed) {
            self.send_from(Process::Worker(number), op);
            job.order.extended(self.now, self.now);
        } else {
            let call = self.call(Process::Worker(number), op);
            job.extending = Some((call, self.now));
        }
        self.keep(number, job);
    }

    fn keep(&mut self, number: usize, job: Job) {
        if let Some(worker) = self.workers.get_mut(number) {
            worker.jobs.push(job);
        }
    }

    fn go_on(&mut self, number: usize, mut job: Job, is_free: bool) {
        // The moments at which a pause does most harm.
        let mark = match job.todo {
            Todo::Looked(Found::Nothing) => Some(Mark::PausedBeforeItsWrite),
            Todo::Hear(Event::Handled(Handled::Completed(_))) => Some(Mark::PausedBeforeItsPublish),
            _ => None,
        };
        if let Some(mark) = mark
            && self.fault(|faults| faults.pauses * 20, mark)
        {
            self.pause(Process::Worker(number));
            return self.keep(number, job);
        }
        match job.todo.clone() {
            Todo::Hear(event) => self.hear(number, job, event),
            Todo::Turn { alone, .. } => {
                let mark = if is_free { Mark::TurnCame } else { Mark::TurnTimedOut };
                self.coverage.mark(mark);
                job.turn = Some(Turn { alone, is_exclusive: is_free });
                self.hear(number, job, Event::Turn);
            }
            Todo::Read => self.read(number, job),
            Todo::MayWrite => {
                let permit = job.order.may_write(self.time_of_write(&job));
                self.permitted(number, job, permit);
            }
            Todo::Looked(found) => {
                let permit = job.order.looked(found, self.time_of_write(&job));
                self.permitted(number, job, permit);
            }
            Todo::Wait(..) => self.keep(number, job),
        }
    }

    /// The clock of the state machine before a write.
    fn time_of_write(&self, job: &Job) -> u64 {
        if self.has(Sabotage::LeaseIgnored) { job.received_at } else { self.now }
    }

    /// Passes an event to the state machine. A stopped clock disables a guard.
    fn hear(&mut self, number: usize, mut job: Job, event: Event) {
        let is_stopped = match &event {
            Event::Handled(Handled::Completed(_)) => self.has(Sabotage::CompletionAfterLease),
            Event::Handled(Handled::Failed(_) | Handled::NoPermit(_))
            | Event::Found(Found::Unread(_))
            | Event::Published(Published::Failed(_)) => self.has(Sabotage::NakAfterLease),
            _ => false,
        };
        let now = if is_stopped { job.received_at } else { self.now };
        let effects = job.order.on(event, now);
        self.carry_out_all(number, job, effects);
    }

    fn carry_out_all(&mut self, number: usize, mut job: Job, effects: Effects) {
        for effect in effects {
            if let Effect::End(end) = effect {
                return self.end_delivery(number, &job, end);
            }
            self.carry_out(number, &mut job, effect);
        }
        self.keep(number, job);
    }

    pub(crate) fn worker_hears(&mut self, number: usize, call: u32, reply: Reply) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(number) else {
            return;
        };
        let is_extension = |job: &&mut Job| job.extending.is_some_and(|(waits, _)| waits == call);
        if let Some(job) = worker.jobs.iter_mut().find(is_extension) {
            if let (Reply::Stored, Some((_, asked_at))) = (reply, job.extending.take()) {
                let before = job.order.ours_until_ms();
                job.order.extended(asked_at, now);
                if job.order.ours_until_ms() > before {
                    self.coverage.mark(Mark::LeaseExtended);
                }
            }
            return;
        }
        let is_asked = |job: &Job| matches!(job.todo, Todo::Wait(waits, _) if waits == call);
        let Some(at) = worker.jobs.iter().position(is_asked) else {
            return;
        };
        let job = worker.jobs.swap_remove(at);
        self.answered(number, job, reply);
    }
}
