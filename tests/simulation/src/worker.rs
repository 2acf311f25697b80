//! A worker of one concept: the real state machine of a delivery, and a shell that carries out what
//! it decides as `crates/worker` does. The process may end or stand still between any two steps.

mod effects;
mod handler;
mod letters;

use concert_wire::id::ActionId;
use concert_worker::order::{self, Effect, Effects, Event, Found, Handled, Limits, Published};

use crate::coverage::Mark;
use crate::faults::Sabotage;
use crate::packet::{Delivery, Op, Packet, Process, Reply};
use crate::world::{ACK_WAIT, CONCEPTS, Life, OF_EACH, World, tell};

/// The server counts from when it sent, the worker from when it received; the difference is at most
/// this.
const MARGIN: u64 = 30;
/// Messages that a worker has at once.
const ROOM: usize = 3;

/// What a job does next.
#[derive(Debug, Clone)]
enum Todo {
    /// The state machine is told.
    Hear(Event),
    /// A turn is waited for since this time.
    Turn { alone: bool, since: u64 },
    /// The handler begins.
    Read,
    /// The handler is about to write, and asks whether it may.
    MayWrite,
    /// The log was read before its first write.
    Looked(Found),
    /// An answer is waited for.
    Wait(u32, Asks),
}

/// What an answer is to.
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

/// A turn that a job has.
#[derive(Debug, Clone, Copy)]
struct Turn {
    alone: bool,
    /// Whether it keeps others waiting; false if it was waited for in vain for long enough.
    is_exclusive: bool,
}

#[derive(Debug)]
pub(crate) struct Job {
    delivery: Delivery,
    order: order::Delivery,
    received_at: u64,
    todo: Todo,
    /// The handler is at work until then.
    busy_until: u64,
    /// When the server is next asked for more time.
    tick_at: u64,
    /// An extension that is waited for, and when it was asked for.
    extending: Option<(u32, u64)>,
    turn: Option<Turn>,
    /// What the handler read before its write.
    seen: String,
    /// Whether every later delivery has the same outcome, since a stamp says so, or since the
    /// action knows no state.
    is_lasting: bool,
    /// Whether its note may be in the bucket.
    has_note: bool,
    /// Whether its handler failed.
    has_failed: bool,
    /// Whether its handler changed the state, and the log had another delivery's completion.
    has_written: bool,
    is_uncompared: bool,
    /// Whether a waiting caller was answered.
    has_replied: bool,
}

impl Job {
    fn id(&self) -> ActionId {
        self.delivery.asked.id
    }

    /// Whether the server is to be asked for more time now.
    fn extends(&self, now: u64) -> bool {
        now >= self.tick_at && self.order.extends(now)
    }

    fn crash_mark(&self) -> Mark {
        match &self.todo {
            Todo::Hear(Event::Handled(_)) => Mark::WorkerCrashedBeforeItsPublish,
            Todo::Hear(Event::Published(_)) => Mark::WorkerCrashedBeforeItsAck,
            Todo::Turn { .. } => Mark::WorkerCrashedWaitingForItsTurn,
            Todo::Hear(_) | Todo::Read => Mark::WorkerCrashedBeforeItsRead,
            Todo::MayWrite => Mark::WorkerCrashedBeforeItsLook,
            Todo::Looked(_) => Mark::WorkerCrashedBeforeItsWrite,
            Todo::Wait(_, Asks::Look | Asks::LookBeforeWrite) => Mark::WorkerCrashedWhileLooking,
            Todo::Wait(_, Asks::Publish | Asks::Find) => Mark::WorkerCrashedWhilePublishing,
            Todo::Wait(_, Asks::TakeNote | Asks::LeaveNote | Asks::ForgetNote) => {
                Mark::WorkerCrashedWithItsNote
            }
            Todo::Wait(_, Asks::StoreLetter) => Mark::WorkerCrashedWithItsLetter,
        }
    }
}

/// INVARIANT: the workers of the concept at place n of
/// `CONCEPTS` have the numbers from n times [`OF_EACH`] on.
#[derive(Default)]
pub(crate) struct Worker {
    pub(crate) life: Life,
    pub(crate) jobs: Vec<Job>,
    /// A key that others seal with is not in its file until then.
    pub(crate) keyless_until: u64,
}

impl Worker {
    /// The places of the jobs that can go on.
    fn ready(&self, now: u64) -> Vec<usize> {
        let is_ready = |at: usize, job: &Job| match job.todo {
            Todo::Wait(..) => false,
            Todo::Turn { alone, since } => self.has_turn_for(at, alone) || now >= since + ACK_WAIT,
            _ => job.busy_until <= now,
        };
        let jobs = self.jobs.iter().enumerate();
        jobs.filter(|(at, job)| is_ready(*at, job) || job.extends(now)).map(|(at, _)| at).collect()
    }

    /// Whether no other job stands in the way of a turn.
    fn has_turn_for(&self, at: usize, alone: bool) -> bool {
        let others = self.jobs.iter().enumerate().filter(|(other, _)| *other != at);
        let mut turns = others.filter_map(|(_, job)| job.turn);
        !turns.any(|turn| turn.is_exclusive && (alone || turn.alone))
    }
}

impl World<'_> {
    /// What a worker was doing when it ended.
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
        self.carry_out_all(number, job, effects);
    }

    /// One step of one job.
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
            let is_free = matches!(worker.jobs.get(at), Some(Job { todo: Todo::Turn { alone, .. }, .. }) if worker.has_turn_for(at, *alone));
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
        if self.has(Sabotage::LeaseExtendedUnheard) {
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
        // The moments at which standing still does most harm.
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
                let mark = if is_free { Mark::TurnCame } else { Mark::TurnWaitedForInVain };
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

    /// The time as it is told to the state machine before a write.
    fn time_of_write(&self, job: &Job) -> u64 {
        if self.has(Sabotage::LeaseIgnored) { job.received_at } else { self.now }
    }

    /// The state machine is told of an event. A guard is taken away by a clock that stands still.
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
