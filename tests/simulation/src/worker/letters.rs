//! Checks dead letters and markers, and models the operator who retries dead letters.

use std::rc::Rc;

use concert_engine::Invocation;
use concert_wire::id::ActionId;

use super::Job;
use crate::coverage::Mark;
use crate::packet::Reply;
use crate::reference::describe;
use crate::world::{CONCEPTS, World, record};

impl World<'_> {
    /// A redelivered action runs only in its turn; a final attempt runs isolated and with a marker.
    pub(super) fn judge_turn(&mut self, job: &Job) {
        let is_last = i64::from(job.delivery.number) > self.attempts;
        let is_right = match job.turn {
            None => job.delivery.number == 1,
            Some(turn) => turn.alone == is_last && job.has_note == is_last,
        };
        if !is_right {
            let what = describe(&job.delivery.asked);
            self.breaks(format!("delivery {} runs without its turn: {what}", job.delivery.number));
        }
    }

    /// A delivery of an action without a completion begins only when no other one has its lease.
    pub(super) fn judge_lease(&mut self, id: ActionId) {
        let now = self.now;
        let has_lease = |job: &Job| job.id() == id && job.order.is_ours(now);
        let mut jobs = self.workers.iter().flat_map(|worker| &worker.jobs);
        if self.log.find(id).is_none() && jobs.any(has_lease) {
            self.breaks(format!("two deliveries of {id} have its lease"));
        }
    }

    /// An action is dead-lettered only if its own attempts are used up, or if its own isolated
    /// attempt crashed.
    pub(super) fn judge_letter(&mut self, job: &Job, reason: &str) {
        let id = job.id();
        record!(self, "{id} is dead-lettered: {reason}");
        let is_last = i64::from(job.delivery.number) > self.attempts;
        let is_right = if reason.starts_with("failed after") {
            self.coverage.mark(Mark::AttemptsUsedUp);
            is_last && job.has_failed
        } else if reason.starts_with("the worker process exited") {
            self.coverage.mark(Mark::DeadLetteredForItsCrash);
            is_last && self.letters.suspects.contains(&id)
        } else {
            false
        };
        if !is_right {
            let what = describe(&job.delivery.asked);
            self.breaks(format!(
                "{what} is dead-lettered at delivery {}: {reason}",
                job.delivery.number
            ));
        }
    }

    pub(crate) fn take_note(&mut self, id: ActionId) -> Reply {
        let now = self.now;
        // A process that paused for too long is indistinguishable from one that crashed.
        let overran = |job: &Job| job.id() == id && job.has_note && !job.order.is_ours(now);
        if self.workers.iter().flat_map(|worker| &worker.jobs).any(overran) {
            self.letters.suspect(id);
        }
        Reply::Note(self.letters.notes.remove(&id))
    }

    pub(crate) fn leave_note(&mut self, id: ActionId) -> Reply {
        self.letters.notes.insert(id);
        Reply::Stored
    }

    pub(crate) fn forget_note(&mut self, id: ActionId) -> Reply {
        self.letters.notes.remove(&id);
        Reply::Stored
    }

    pub(crate) fn store_letter(&mut self, asked: &Rc<Invocation>) -> Reply {
        self.letters.stored.insert(asked.id, asked.clone());
        Reply::Stored
    }

    /// Terminates the delivery of a message.
    pub(crate) fn terminate(&mut self, queue: usize, seq: u64) -> Reply {
        let waiting = self.queues.get(queue).and_then(|queue| queue.waiting.get(&seq));
        if let Some(asked) = waiting.map(|waiting| waiting.asked.clone())
            && !self.letters.stored.contains_key(&asked.id)
            && self.log.find(asked.id).is_none()
        {
            self.breaks(format!("terminated without a dead letter: {}", describe(&asked)));
        }
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.remove(seq);
        }
        Reply::Stored
    }

    /// After all faults, an operator retries each dead letter until it is completed.
    pub(crate) fn retry_letters(&mut self) {
        let ids: Vec<ActionId> = self.letters.stored.keys().copied().collect();
        for id in ids {
            if self.log.find(id).is_some() {
                self.letters.stored.remove(&id);
                self.coverage.mark(Mark::DeadLetterCompleted);
                continue;
            }
            let Some(asked) = self.letters.stored.get(&id).cloned() else {
                continue;
            };
            let number = CONCEPTS.iter().position(|concept| **concept == *asked.concept);
            if let Some(queue) = number.and_then(|number| self.queues.get_mut(number))
                && queue.enqueue(&asked)
            {
                record!(self, "{id} is retried by the operator");
            }
        }
    }
}
