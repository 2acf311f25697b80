//! State machine for one delivery of one message: lookup, turn, handler, publish, acknowledgement
//! or dead letter. No I/O, no clock.
//!
//! [`Delivery::on`] takes an event and returns effects. A shell executes them in order: the worker
//! host with NATS, the simulation with a model of NATS.
//!
//! INVARIANT: each list of effects ends with [`Effect::End`], or with an effect that exactly one
//! event answers (see [`Effect`]). The effects before the last have no answer.

mod effects;

use std::sync::Arc;

use concert_wire::envelope::Completion;

pub use self::effects::{
    Effect, Effects, End, Event, Found, Handled, NoPermit, Permit, Published, Wait,
};
use crate::outcome::Comparison;

/// Limits for all deliveries of a worker. Times are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Number of attempts that may run concurrently with others; each later attempt is isolated.
    pub attempts: i64,
    /// Ack deadline: for this long the server does not redeliver a message.
    pub ack_wait_ms: u64,
    /// Safety margin: the server counts the ack deadline from sending, the worker from receiving.
    pub margin_ms: u64,
}

/// The event that a delivery is waiting for.
#[derive(Debug, Clone)]
enum State {
    /// The lookup of a completion by an earlier delivery.
    Looking,
    WaitingForTurn,
    /// A second lookup of that completion, after the wait: another delivery may have had its turn
    /// before.
    LookingInTurn,
    TakingNote,
    LeavingNote,
    Running(Running),
    Publishing {
        own: Arc<Completion>,
        has_written: bool,
    },
    /// The lookup of the completion of an earlier delivery. It is compared with `written`, if this
    /// delivery has an output.
    LookingAgain {
        written: Option<Arc<Completion>>,
    },
    Comparing,
    ForgettingNote(Then),
    StoringLetter,
    Ended,
}

/// Permission state of a running handler.
#[derive(Debug, Clone, Copy, Default)]
struct Running {
    look: FirstLook,
    has_written: bool,
}

/// The lookup in the log before the first write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum FirstLook {
    /// Not made, or failed.
    #[default]
    Missing,
    NotCompleted,
    Completed,
}

/// The decision that takes effect when the note of this attempt is deleted.
#[derive(Debug, Clone)]
enum Then {
    Ack,
    Retry(String),
    Letter(String),
}

/// One delivery of one invocation.
#[derive(Debug)]
pub struct Delivery {
    limits: Limits,
    attempt: i64,
    /// Latest known start of the server's ack deadline.
    held_since_ms: u64,
    state: State,
    has_turn: bool,
    /// The bucket may have a note of this action that must be deleted.
    has_note: bool,
}

impl Delivery {
    /// A message was received for the `attempt`th time; the first is 1. All calls take times of one
    /// monotonic clock.
    pub fn new(attempt: i64, limits: Limits, now_ms: u64) -> (Self, Effects) {
        // A redelivered action may be completed, so it is looked up before the handler runs. Every
        // delivery looks up once more before its first write.
        let (state, effect) = if attempt > 1 {
            (State::Looking, Effect::Look)
        } else {
            (State::Running(Running::default()), Effect::Run)
        };
        (Self::begin(attempt, limits, now_ms, state), one(effect))
    }

    /// A message that can only become a dead letter. The shell stores the dead letter first.
    pub fn dead(attempt: i64, limits: Limits, now_ms: u64) -> Self {
        Self::begin(attempt, limits, now_ms, State::StoringLetter)
    }

    fn begin(attempt: i64, limits: Limits, now_ms: u64, state: State) -> Self {
        Self { limits, attempt, held_since_ms: now_ms, state, has_turn: false, has_note: false }
    }

    /// Returns whether no other worker can have the message.
    pub const fn is_ours(&self, now_ms: u64) -> bool {
        now_ms < self.ours_until_ms()
    }

    /// Time until which no other worker can have the message.
    pub const fn ours_until_ms(&self) -> u64 {
        (self.held_since_ms + self.limits.ack_wait_ms).saturating_sub(self.limits.margin_ms)
    }

    /// Returns whether to extend the ack deadline now. To be called every quarter of `ack_wait_ms`
    /// while a handler runs or waits for its turn.
    pub const fn extends(&self, now_ms: u64) -> bool {
        self.is_ours(now_ms) && matches!(self.state, State::Running(_) | State::WaitingForTurn)
    }

    /// The server confirmed an extension, counted from the time of its request. The server confirms
    /// even the requests of an outdated delivery, so a confirmation after the deadline is ignored.
    pub const fn extended(&mut self, asked_at_ms: u64, now_ms: u64) {
        if self.is_ours(now_ms) && self.held_since_ms < asked_at_ms {
            self.held_since_ms = asked_at_ms;
        }
    }

    /// The handler is about to write. Only one request at a time.
    pub fn may_write(&mut self, now_ms: u64) -> Permit {
        match &self.state {
            State::Running(running) => match running.look {
                FirstLook::Missing => Permit::Look,
                FirstLook::NotCompleted => self.grant(now_ms),
                FirstLook::Completed => Permit::Refused(NoPermit::Completed),
            },
            // The handler has returned, but a task that it started still wants to write.
            _ => Permit::Refused(NoPermit::Late),
        }
    }

    /// The answer to [`Permit::Look`]. After a failed lookup, the next write looks up again.
    pub fn looked(&mut self, found: Found, now_ms: u64) -> Permit {
        let State::Running(running) = &mut self.state else {
            return Permit::Refused(NoPermit::Late);
        };
        match found {
            Found::Nothing => {
                running.look = FirstLook::NotCompleted;
                self.grant(now_ms)
            }
            Found::Completion(_) => {
                running.look = FirstLook::Completed;
                Permit::Refused(NoPermit::Completed)
            }
            Found::Unread(why) | Found::Malformed(why) => Permit::Refused(NoPermit::Unknown(why)),
        }
    }

    /// The last check before a write, because the lookup took time.
    fn grant(&mut self, now_ms: u64) -> Permit {
        let is_ours = self.is_ours(now_ms);
        match &mut self.state {
            State::Running(running) if is_ours => {
                running.has_written = true;
                Permit::Granted
            }
            _ => Permit::Refused(NoPermit::Late),
        }
    }

    /// Handles an event and returns the resulting effects.
    pub fn on(&mut self, event: Event, now_ms: u64) -> Effects {
        match (std::mem::replace(&mut self.state, State::Ended), event) {
            (State::Looking | State::LookingInTurn, Event::Found(Found::Completion(existing))) => {
                // An isolated attempt may have completed the action and crashed before it deleted
                // its note.
                self.has_note = self.is_last();
                self.reply(existing, Then::Ack, now_ms)
            }
            (State::Looking, Event::Found(Found::Nothing)) => {
                // Checked before the handler starts, because the handler may crash the process.
                let isolated = self.is_last();
                self.go_to(State::WaitingForTurn, Effect::AwaitTurn { isolated })
            }
            (State::WaitingForTurn, Event::Turn) => {
                self.has_turn = true;
                if !self.is_ours(now_ms) {
                    self.late(now_ms)
                } else if self.is_last() {
                    self.go_to(State::LookingInTurn, Effect::Look)
                } else {
                    self.run()
                }
            }
            // The ack deadline has passed. A note may be that of another worker's attempt.
            (State::LookingInTurn, Event::Found(Found::Nothing)) if !self.is_ours(now_ms) => {
                self.late(now_ms)
            }
            (State::LookingInTurn, Event::Found(Found::Nothing)) => {
                self.go_to(State::TakingNote, Effect::TakeNote)
            }
            (State::TakingNote, Event::NoteTaken(_)) if !self.is_ours(now_ms) => self.late(now_ms),
            (State::TakingNote, Event::NoteTaken(true)) => {
                self.finish(Then::Letter(ENDED_ITS_PROCESS.to_owned()), now_ms)
            }
            (State::TakingNote, Event::NoteTaken(false)) => {
                self.go_to(State::LeavingNote, Effect::LeaveNote)
            }
            (State::LeavingNote, Event::NoteLeft) => {
                self.has_note = true;
                if self.is_ours(now_ms) { self.run() } else { self.late(now_ms) }
            }
            (State::TakingNote, Event::NoteFailed(why)) => self.finish(Then::Retry(why), now_ms),
            (State::LeavingNote, Event::NoteFailed(why)) => {
                // The note may be stored, and would dead-letter an action that never ran.
                self.has_note = true;
                self.finish(Then::Retry(why), now_ms)
            }
            (State::Running(running), Event::Handled(handled)) => {
                self.handled(running, handled, now_ms)
            }
            (State::Publishing { own, has_written }, Event::Published(published)) => {
                self.published(own, has_written, published, now_ms)
            }
            (State::LookingAgain { written: None }, Event::Found(Found::Completion(existing))) => {
                self.reply(existing, Then::Ack, now_ms)
            }
            (
                State::LookingAgain { written: Some(own) },
                Event::Found(Found::Completion(existing)),
            ) => {
                self.state = State::Comparing;
                Effects::from_iter([
                    Effect::Reply(existing.clone()),
                    Effect::Compare { existing, own },
                ])
            }
            (State::LookingAgain { .. }, Event::Found(Found::Nothing)) => self.finish(
                Then::Retry("the log rejected the completion, but has no other one".to_owned()),
                now_ms,
            ),
            (State::Comparing, Event::Compared(Comparison::Same)) => self.finish(Then::Ack, now_ms),
            (State::Comparing, Event::Compared(Comparison::Different)) => {
                self.finish(Then::Letter(DIVERGED.to_owned()), now_ms)
            }
            (State::Comparing, Event::Compared(Comparison::Locked(why))) => {
                self.failed(why, now_ms)
            }
            (
                State::Looking | State::LookingInTurn | State::LookingAgain { .. },
                Event::Found(Found::Unread(why)),
            ) => self.finish(Then::Retry(why), now_ms),
            (
                State::Looking | State::LookingInTurn | State::LookingAgain { .. },
                Event::Found(Found::Malformed(why)),
            ) => self.finish(Then::Letter(why), now_ms),
            (State::ForgettingNote(then), Event::NoteForgotten) => {
                self.has_note = false;
                self.finish(then, now_ms)
            }
            (State::StoringLetter, Event::LetterStored) => one(self.unless_late(End::Term, now_ms)),
            (State::StoringLetter, Event::LetterNotStored(why)) => {
                let wait = Wait::Longest;
                one(self.unless_late(End::Nak { wait, why }, now_ms))
            }
            // Unexpected event. The server redelivers the message.
            _ => one(Effect::End(End::Leave(OUT_OF_ORDER.to_owned()))),
        }
    }

    fn handled(&mut self, running: Running, handled: Handled, now_ms: u64) -> Effects {
        match handled {
            // Another worker may have started, and may get another outcome if this attempt wrote
            // nothing.
            Handled::Completed(_) if !self.is_ours(now_ms) => self.late(now_ms),
            Handled::Completed(own) => {
                let has_written = running.has_written;
                self.state = State::Publishing { own: own.clone(), has_written };
                one(Effect::Publish(own))
            }
            Handled::Before => self.go_to(State::LookingAgain { written: None }, Effect::Find),
            Handled::Failed(why) => self.failed(why, now_ms),
            Handled::NoPermit(why) => self.finish(Then::Retry(why), now_ms),
        }
    }

    fn published(
        &mut self,
        own: Arc<Completion>,
        has_written: bool,
        published: Published,
        now_ms: u64,
    ) -> Effects {
        match published {
            Published::Stored => {
                let mut effects = one(Effect::Audit(own.clone()));
                effects.extend(self.reply(own, Then::Ack, now_ms));
                effects
            }
            // The first completion counts. The outcome of this delivery matters only if it wrote
            // something.
            Published::AlreadyThere => {
                let written = has_written.then_some(own);
                self.go_to(State::LookingAgain { written }, Effect::Find)
            }
            Published::TooLarge => {
                let why = "the completion exceeds the server's maximum message size";
                self.finish(Then::Letter(why.to_owned()), now_ms)
            }
            Published::Failed(why) => self.finish(Then::Retry(why), now_ms),
        }
    }

    const fn is_last(&self) -> bool {
        self.attempt > self.limits.attempts
    }

    fn run(&mut self) -> Effects {
        self.go_to(State::Running(Running::default()), Effect::Run)
    }

    fn go_to(&mut self, state: State, effect: Effect) -> Effects {
        self.state = state;
        one(effect)
    }

    fn reply(&mut self, existing: Arc<Completion>, then: Then, now_ms: u64) -> Effects {
        let mut effects = one(Effect::Reply(existing));
        effects.extend(self.finish(then, now_ms));
        effects
    }

    fn late(&mut self, now_ms: u64) -> Effects {
        self.finish(Then::Retry(NoPermit::Late.to_string()), now_ms)
    }

    /// The attempt failed, and the bus is not the cause. If it was the last one, the action becomes
    /// a dead letter.
    fn failed(&mut self, why: String, now_ms: u64) -> Effects {
        if self.is_last() {
            let why = format!("failed after {} attempts: {why}", self.attempt);
            self.finish(Then::Letter(why), now_ms)
        } else {
            self.finish(Then::Retry(why), now_ms)
        }
    }

    fn finish(&mut self, then: Then, now_ms: u64) -> Effects {
        if self.has_note {
            return self.go_to(State::ForgettingNote(then), Effect::ForgetNote);
        }
        let mut effects = Effects::new();
        if std::mem::take(&mut self.has_turn) {
            effects.push(Effect::ReleaseTurn);
        }
        effects.push(match then {
            Then::Ack => Effect::End(End::Ack),
            Then::Retry(why) => {
                let wait = Wait::Backoff;
                self.unless_late(End::Nak { wait, why }, now_ms)
            }
            Then::Letter(why) => {
                self.state = State::StoringLetter;
                Effect::StoreLetter(why)
            }
        });
        effects
    }

    /// The server also accepts acknowledgements of an earlier delivery, and would end the delivery
    /// of the worker that has the message now.
    fn unless_late(&self, end: End, now_ms: u64) -> Effect {
        Effect::End(match end {
            end if self.is_ours(now_ms) => end,
            End::Nak { why, .. } => End::Leave(why),
            _ => End::Leave(NoPermit::Late.to_string()),
        })
    }
}

/// Reason of a dead letter whose note was found.
const ENDED_ITS_PROCESS: &str =
    "the worker process exited while it ran this action isolated from other redelivered actions";
/// Reason for ending a delivery after an unexpected event.
pub const OUT_OF_ORDER: &str = "unexpected event";
/// Reason of a dead letter if two deliveries had different outcomes, such as a write and a refusal.
const DIVERGED: &str = "diverged: two deliveries of this action had different outcomes";

fn one(effect: Effect) -> Effects {
    Effects::from_iter([effect])
}

#[cfg(test)]
mod tests;
