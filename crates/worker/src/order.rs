//! The order in which a worker looks, counts, runs, publishes, acknowledges and gives up: a state
//! machine for one delivery of one message. No I/O, no clock.
//!
//! [`Delivery::on`] takes an event and returns effects. The shell carries them out in order: the
//! worker host against NATS, the simulation against a model of it.
//!
//! INVARIANT: the last effect of a list has one answer, the event that [`Effect`] names, or is
//! [`Effect::End`]. No other effect has an answer.

mod effects;

use std::sync::Arc;

use concert_wire::envelope::Completion;

pub use self::effects::{
    Effect, Effects, End, Event, Found, Handled, NoPermit, Permit, Published, Wait,
};
use crate::outcome::Comparison;

/// What all deliveries of a worker share. Times are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Attempts at an action beside others; each one after that runs in isolation.
    pub attempts: i64,
    /// For how long the server gives a delivered message to nobody else.
    pub ack_wait_ms: u64,
    /// The server counts from when it sent, the worker from when it received: the most that lies
    /// between.
    pub margin_ms: u64,
}

/// What is waited for, or happens.
#[derive(Debug, Clone)]
enum State {
    /// Whether an earlier delivery completed the action.
    Looking,
    WaitingForTurn,
    /// The same look again, since another delivery may have had its turn before.
    LookingInTurn,
    TakingNote,
    LeavingNote,
    Running(Running),
    Publishing {
        own: Arc<Completion>,
        has_written: bool,
    },
    /// The log refused a second completion. What this delivery wrote is compared with the first.
    LookingAgain {
        written: Option<Arc<Completion>>,
    },
    Comparing,
    ForgettingNote(Then),
    StoringLetter,
    Ended,
}

/// What the handler may do.
#[derive(Debug, Clone, Copy, Default)]
struct Running {
    look: FirstLook,
    has_written: bool,
}

/// The look in the log before the first write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum FirstLook {
    /// Not made, or without an answer.
    #[default]
    Missing,
    NotCompleted,
    Completed,
}

/// What was decided, while the note of this attempt is taken back.
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
    /// From when the server counts, as far as the worker knows.
    held_since_ms: u64,
    state: State,
    has_turn: bool,
    /// Whether the bucket may have a note of this action that is to be taken back.
    has_note: bool,
}

impl Delivery {
    /// A message was received for the `attempt`th time; the first is 1. The times of all calls are
    /// of one clock, which never goes back.
    pub fn new(attempt: i64, limits: Limits, now_ms: u64) -> (Self, Effects) {
        // Delivered again, it is likely to be done; a first delivery looks when it is about to
        // write.
        let (state, effect) = if attempt > 1 {
            (State::Looking, Effect::Look)
        } else {
            (State::Running(Running::default()), Effect::Run)
        };
        (Self::begin(attempt, limits, now_ms, state), one(effect))
    }

    /// A message was received that can only become a dead letter. Its shell stores the letter
    /// first.
    pub fn dead(attempt: i64, limits: Limits, now_ms: u64) -> Self {
        Self::begin(attempt, limits, now_ms, State::StoringLetter)
    }

    fn begin(attempt: i64, limits: Limits, now_ms: u64, state: State) -> Self {
        Self { limits, attempt, held_since_ms: now_ms, state, has_turn: false, has_note: false }
    }

    /// Whether the message is certainly with no other worker.
    pub const fn is_ours(&self, now_ms: u64) -> bool {
        now_ms < self.ours_until_ms()
    }

    /// Until when the message is certainly with no other worker.
    pub const fn ours_until_ms(&self) -> u64 {
        (self.held_since_ms + self.limits.ack_wait_ms).saturating_sub(self.limits.margin_ms)
    }

    /// Whether the server is to be asked for more time now. To be called every third of
    /// `ack_wait_ms` while a handler runs or a turn is waited for.
    pub const fn extends(&self, now_ms: u64) -> bool {
        self.is_ours(now_ms) && matches!(self.state, State::Running(_) | State::WaitingForTurn)
    }

    /// The server confirmed that the message has more time, counted from when it was asked. It
    /// confirms any delivery's word, so that a confirmation after the time counts for nothing.
    pub const fn extended(&mut self, asked_at_ms: u64, now_ms: u64) {
        if self.is_ours(now_ms) && self.held_since_ms < asked_at_ms {
            self.held_since_ms = asked_at_ms;
        }
    }

    /// The handler is about to write. One write is asked for at a time.
    pub fn may_write(&mut self, now_ms: u64) -> Permit {
        match &self.state {
            State::Running(running) => match running.look {
                FirstLook::Missing => Permit::Look,
                FirstLook::NotCompleted => self.grant(now_ms),
                FirstLook::Completed => Permit::Refused(NoPermit::Completed),
            },
            // A task that outlived its handler.
            _ => Permit::Refused(NoPermit::Late),
        }
    }

    /// The answer to [`Permit::Look`]. What could not be read is looked for again by the next
    /// write.
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

    /// The last check before a write, since the look took time.
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

    /// What follows from an event.
    pub fn on(&mut self, event: Event, now_ms: u64) -> Effects {
        match (std::mem::replace(&mut self.state, State::Ended), event) {
            (State::Looking | State::LookingInTurn, Event::Found(Found::Completion(standing))) => {
                // Its last attempt was over when something else ended the process.
                self.has_note = self.is_last();
                self.reply(standing, Then::Ack, now_ms)
            }
            (State::Looking, Event::Found(Found::Nothing)) => {
                // Counted before the handler starts, since the handler may end the process.
                let alone = self.is_last();
                self.go_to(State::WaitingForTurn, Effect::AwaitTurn { alone })
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
            // Another worker may have left a note by now, and be alive.
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
                // It may be there, and would give up an action that was not tried.
                self.has_note = true;
                self.finish(Then::Retry(why), now_ms)
            }
            (State::Running(running), Event::Handled(handled)) => {
                self.handled(running, handled, now_ms)
            }
            (State::Publishing { own, has_written }, Event::Published(published)) => {
                self.published(own, has_written, published, now_ms)
            }
            (State::LookingAgain { written: None }, Event::Found(Found::Completion(standing))) => {
                self.reply(standing, Then::Ack, now_ms)
            }
            (
                State::LookingAgain { written: Some(own) },
                Event::Found(Found::Completion(standing)),
            ) => {
                self.state = State::Comparing;
                Effects::from_iter([
                    Effect::Reply(standing.clone()),
                    Effect::Compare { standing, own },
                ])
            }
            (State::LookingAgain { .. }, Event::Found(Found::Nothing)) => {
                self.finish(Then::Retry("a completion is refused and not found".to_owned()), now_ms)
            }
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
            // No shell answers what was not asked. The server delivers the message again.
            _ => one(Effect::End(End::Leave(OUT_OF_ORDER.to_owned()))),
        }
    }

    fn handled(&mut self, running: Running, handled: Handled, now_ms: u64) -> Effects {
        match handled {
            // Another worker may have begun, and the outcome of an attempt that wrote nothing may
            // differ there.
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
            // The first completion is what happened. Where this delivery wrote nothing, its own
            // outcome does not matter.
            Published::AlreadyThere => {
                let written = has_written.then_some(own);
                self.go_to(State::LookingAgain { written }, Effect::Find)
            }
            Published::TooLarge => {
                let why = "the completion is larger than the server takes";
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

    fn reply(&mut self, standing: Arc<Completion>, then: Then, now_ms: u64) -> Effects {
        let mut effects = one(Effect::Reply(standing));
        effects.extend(self.finish(then, now_ms));
        effects
    }

    fn late(&mut self, now_ms: u64) -> Effects {
        self.finish(Then::Retry(NoPermit::Late.to_string()), now_ms)
    }

    /// The action was attempted in vain. The bus is not at fault, so attempts are used up.
    fn failed(&mut self, why: String, now_ms: u64) -> Effects {
        if self.is_last() {
            let why = format!("given up after {} attempts: {why}", self.attempt);
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

    /// The server takes the word of an earlier delivery, too, and would take the message away from
    /// the worker that has it by then.
    fn unless_late(&self, end: End, now_ms: u64) -> Effect {
        Effect::End(match end {
            end if self.is_ours(now_ms) => end,
            End::Nak { why, .. } => End::Leave(why),
            _ => End::Leave(NoPermit::Late.to_string()),
        })
    }
}

/// The reason of a dead letter whose note was found.
const ENDED_ITS_PROCESS: &str = "given up: the worker ended while it carried out this action, and nothing else that had failed before";
/// Why a delivery ends whose shell answers what was not asked.
pub const OUT_OF_ORDER: &str = "an event that was not asked for";
/// The reason of a dead letter of two deliveries that both wrote.
const DIVERGED: &str = "diverged: two deliveries of this action had different outcomes";

fn one(effect: Effect) -> Effects {
    Effects::from_iter([effect])
}

#[cfg(test)]
mod tests;
