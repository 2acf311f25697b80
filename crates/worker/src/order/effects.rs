//! What a delivery's state machine hears, and what it asks its shell to do.

use std::sync::Arc;

use concert_wire::envelope::Completion;
use smallvec::SmallVec;

use crate::outcome::Comparison;

/// Effects, in the order in which they are carried out.
pub type Effects = SmallVec<[Effect; 4]>;

/// What the shell does.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Looks in the log whether the action is completed. Answered by [`Event::Found`].
    Look,
    /// Waits for a turn: until no attempt runs in isolation in this process or, `alone`, until it
    /// can run in isolation from all other redelivered actions, but for `ack_wait_ms` at most.
    /// Answered by [`Event::Turn`].
    AwaitTurn {
        /// Whether this attempt is to run in isolation.
        alone: bool,
    },
    /// Ends the turn.
    ReleaseTurn,
    /// Takes the action's note out of the bucket. Answered by [`Event::NoteTaken`] or
    /// [`Event::NoteFailed`].
    TakeNote,
    /// Leaves the action's note in the bucket. Answered by [`Event::NoteLeft`] or
    /// [`Event::NoteFailed`].
    LeaveNote,
    /// Takes the action's note out of the bucket, if there is one. Answered by
    /// [`Event::NoteForgotten`].
    ForgetNote,
    /// Checks the invocation and runs the handler. Answered by [`Event::Handled`].
    Run,
    /// Publishes the completion on its subject, which must be free. Answered by
    /// [`Event::Published`].
    Publish(Arc<Completion>),
    /// Reads the completion that the log has. Answered by [`Event::Found`].
    Find,
    /// Compares the output in the log with that of this delivery. Answered by [`Event::Compared`].
    Compare {
        /// What the log has.
        standing: Arc<Completion>,
        /// What this delivery wrote.
        own: Arc<Completion>,
    },
    /// Logs a stored completion.
    Audit(Arc<Completion>),
    /// Returns the output to a waiting caller, if there is one.
    Reply(Arc<Completion>),
    /// Stores a dead letter with this reason. Answered by [`Event::LetterStored`] or
    /// [`Event::LetterNotStored`].
    StoreLetter(String),
    /// The delivery ends.
    End(End),
}

/// How a delivery ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The action is completed: acknowledge.
    Ack,
    /// The action will be retried: ask for the message again.
    Nak {
        /// After how long.
        wait: Wait,
        /// Why it was not completed.
        why: String,
    },
    /// A dead letter stands for the action: end the message's delivery.
    Term,
    /// The message may be with another worker: say nothing to the server.
    Leave(String),
}

/// How long a retry waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Longer with each attempt.
    Backoff,
    /// As long as a retry ever waits.
    Longest,
}

/// What happened; most answer an [`Effect`].
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// What the log has of the action.
    Found(Found),
    /// The turn came, or was waited for in vain for long enough.
    Turn,
    /// Whether there was a note. It is gone now.
    NoteTaken(bool),
    /// The note is in the bucket.
    NoteLeft,
    /// The bucket did not answer.
    NoteFailed(String),
    /// The note is gone, or the bucket did not answer.
    NoteForgotten,
    /// The handler returned, or was not run.
    Handled(Handled),
    /// What became of the publish.
    Published(Published),
    /// How the outputs compare.
    Compared(Comparison),
    /// The dead letter is stored.
    LetterStored,
    /// The dead letter is not stored.
    LetterNotStored(String),
}

/// What the log has of an action.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// Its completion.
    Completion(Arc<Completion>),
    /// None.
    Nothing,
    /// Unknown: the log was not read.
    Unread(String),
    /// Something that is no completion.
    Malformed(String),
}

/// What the handler returned.
#[derive(Debug, Clone, PartialEq)]
pub enum Handled {
    /// The action's completion; a fault, if the handler could not be run.
    Completed(Arc<Completion>),
    /// It was told that the action is completed already.
    Before,
    /// It failed, panicked or lacks a key: this counts as an attempt.
    Failed(String),
    /// It got no permit to write; nothing was wrong with the action.
    NoPermit(String),
}

/// What became of a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// The log has it now.
    Stored,
    /// The log had a completion of this action before.
    AlreadyThere,
    /// The server never takes it.
    TooLarge,
    /// It may be stored or not.
    Failed(String),
}

/// Whether a handler may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permit {
    /// It may, now.
    Granted,
    /// It may not.
    Refused(NoPermit),
    /// Unknown before the log was read; the answer goes to `Delivery::looked`.
    Look,
}

/// Why a delivery must not write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPermit {
    /// The message may be with another worker by now.
    #[error("this worker was too slow; the action may be with another")]
    Late,
    /// An earlier delivery completed the action.
    #[error("the action is completed already")]
    Completed,
    /// Whether one did is unknown.
    #[error("{0}")]
    Unknown(String),
}
