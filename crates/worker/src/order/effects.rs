//! Inputs (events) and outputs (effects) of a delivery's state machine.

use std::sync::Arc;

use concert_wire::envelope::Completion;
use smallvec::SmallVec;

use crate::outcome::Comparison;

/// Effects, in execution order.
pub type Effects = SmallVec<[Effect; 4]>;

/// A step for the shell to execute.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Looks up the action's completion in the log. Answered by [`Event::Found`].
    Look,
    /// Waits for a turn: until no attempt is isolated in this process or, if `isolated`, until no
    /// other redelivered action runs; up to 8 s. Answered by [`Event::Turn`].
    AwaitTurn {
        /// True if this attempt runs in isolation.
        isolated: bool,
    },
    /// Ends the turn.
    ReleaseTurn,
    /// Deletes the action's note from the bucket. Answered by [`Event::NoteTaken`] or
    /// [`Event::NoteFailed`].
    TakeNote,
    /// Stores the action's note in the bucket. Answered by [`Event::NoteLeft`] or
    /// [`Event::NoteFailed`].
    LeaveNote,
    /// Deletes the action's note from the bucket, if there is one. Answered by
    /// [`Event::NoteForgotten`].
    ForgetNote,
    /// Checks the invocation and runs the handler. Answered by [`Event::Handled`].
    Run,
    /// Publishes the completion; its subject must have no message yet. Answered by
    /// [`Event::Published`].
    Publish(Arc<Completion>),
    /// Reads the existing completion from the log. Answered by [`Event::Found`].
    Find,
    /// Compares the output in the log with that of this delivery. Answered by [`Event::Compared`].
    Compare {
        /// The output in the log.
        existing: Arc<Completion>,
        /// The output of this delivery.
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

/// The final acknowledgement of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The action is completed: acknowledge.
    Ack,
    /// The action will be retried: request redelivery.
    Nak {
        /// Delay before the redelivery.
        wait: Wait,
        /// Reason of the failure.
        why: String,
    },
    /// A dead letter is stored: end the message's delivery.
    Term,
    /// The message may be with another worker: send nothing to the server.
    Leave(String),
}

/// Delay of a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Grows with each attempt.
    Backoff,
    /// The maximum delay.
    Longest,
}

/// An event; most answer an [`Effect`].
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Result of a lookup in the log.
    Found(Found),
    /// The turn came, or the wait timed out.
    Turn,
    /// True if there was a note, which is now deleted.
    NoteTaken(bool),
    /// The note is in the bucket.
    NoteLeft,
    /// The bucket is unavailable.
    NoteFailed(String),
    /// The note is deleted, or the bucket is unavailable.
    NoteForgotten,
    /// The handler returned, or could not run.
    Handled(Handled),
    /// Result of the publish.
    Published(Published),
    /// Result of the comparison.
    Compared(Comparison),
    /// The dead letter is stored.
    LetterStored,
    /// The dead letter is not stored.
    LetterNotStored(String),
}

/// Result of looking up a completion in the log.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// Its completion.
    Completion(Arc<Completion>),
    /// None.
    Nothing,
    /// Unknown: the log was not read.
    Unread(String),
    /// A message that is not a completion.
    Malformed(String),
}

/// Result of running the handler.
#[derive(Debug, Clone, PartialEq)]
pub enum Handled {
    /// The action's completion; a fault if the handler could not run.
    Completed(Arc<Completion>),
    /// An earlier delivery completed the action.
    Before,
    /// The handler failed, panicked or lacks a key; counts as an attempt.
    Failed(String),
    /// The handler got no permit to write; does not count as an attempt.
    NoPermit(String),
}

/// Result of publishing a completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// The log stored it.
    Stored,
    /// The log already had a completion of this action.
    AlreadyThere,
    /// It exceeds the server's maximum message size.
    TooLarge,
    /// It may or may not be stored.
    Failed(String),
}

/// Answer to a handler that is about to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permit {
    /// The handler may write now.
    Granted,
    /// The handler must not write.
    Refused(NoPermit),
    /// The log must be read first; the result goes to `Delivery::looked`.
    Look,
}

/// Reason why a delivery must not write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPermit {
    /// The ack deadline has passed.
    #[error("ack deadline exceeded; another worker may be processing the action")]
    Late,
    /// An earlier delivery completed the action.
    #[error("the action is already completed")]
    Completed,
    /// The lookup failed.
    #[error("{0}")]
    Unknown(String),
}
