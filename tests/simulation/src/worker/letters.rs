//! Which dead letters and notes there may be, and the operator who retries what was given up.

use std::rc::Rc;

use concert_engine::Invocation;
use concert_wire::id::ActionId;

use super::Job;
use crate::coverage::Mark;
use crate::packet::Reply;
use crate::reference::describe;
use crate::world::{CONCEPTS, World, tell};

impl World<'_> {
    /// What was delivered before runs in its turn only, and a last attempt alone and with a note.
    pub(super) fn judge_turn(&mut self, job: &Job) {
        let is_last = i64::from(job.delivery.number) > self.attempts;
        let is_right = match job.turn {
            None => job.delivery.number == 1,
            Some(turn) => turn.alone == is_last && job.has_note == is_last,
        };
        if !is_right {
            let what = describe(&job.delivery.asked);
            self.breaks(format!("delivery {} runs out of turn: {what}", job.delivery.number));
        }
    }

    /// An action becomes a dead letter when its own attempts are used up, or when its own last
    /// attempt ended its process, and for nothing else.
    pub(super) fn judge_letter(&mut self, job: &Job, reason: &str) {
        let id = job.id();
        tell!(self, "{id} is given up: {reason}");
        let is_last = i64::from(job.delivery.number) > self.attempts;
        let is_right = if reason.starts_with("failed after") {
            self.coverage.mark(Mark::AttemptsUsedUp);
            is_last && job.has_failed
        } else if reason.starts_with("the worker process exited") {
            self.coverage.mark(Mark::GivenUpForItsProcess);
            is_last && self.letters.suspects.contains(&id)
        } else {
            false
        };
        if !is_right {
            let what = describe(&job.delivery.asked);
            self.breaks(format!(
                "{what} is given up, at delivery {}: {reason}",
                job.delivery.number
            ));
        }
    }

    pub(crate) fn take_note(&mut self, id: ActionId) -> Reply {
        let now = self.now;
        // A process that stood still for too long is not told apart from one that ended.
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

    /// A message's delivery is ended for good.
    pub(crate) fn terminate(&mut self, queue: usize, seq: u64) -> Reply {
        let waiting = self.queues.get(queue).and_then(|queue| queue.waiting.get(&seq));
        if let Some(asked) = waiting.map(|waiting| waiting.asked.clone())
            && !self.letters.stored.contains_key(&asked.id)
            && self.log.find(asked.id).is_none()
        {
            self.breaks(format!("ended without a dead letter: {}", describe(&asked)));
        }
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.remove(seq);
        }
        Reply::Stored
    }

    /// When faults have ceased an operator retries what was given up, until it is completed.
    pub(crate) fn retry_letters(&mut self) {
        let ids: Vec<ActionId> = self.letters.stored.keys().copied().collect();
        for id in ids {
            if self.log.find(id).is_some() {
                self.letters.stored.remove(&id);
                self.coverage.mark(Mark::LetterCompleted);
                continue;
            }
            let Some(asked) = self.letters.stored.get(&id).cloned() else {
                continue;
            };
            let number = CONCEPTS.iter().position(|concept| **concept == *asked.concept);
            if let Some(queue) = number.and_then(|number| self.queues.get_mut(number))
                && queue.enqueue(&asked)
            {
                tell!(self, "{id} is retried by hand");
            }
        }
    }
}
