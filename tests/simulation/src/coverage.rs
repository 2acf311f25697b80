//! Coverage of a run. Each event here must occur in the tests, because a simulation without events
//! finds nothing.

use std::fmt;

macro_rules! marks {
    ($($mark:ident,)*) => {
        /// An event.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mark {
            $(#[doc = stringify!($mark)] $mark,)*
        }

        impl Mark {
            /// All events.
            pub const ALL: &[Self] = &[$(Self::$mark,)*];
        }
    };
}

marks! {
    RequestLost, ReplyLost, RequestLate, RequestDoubled,
    RouterCrashedIdle, RouterCrashedWithPublishesInFlight, RouterCrashedWhileReading,
    RouterCrashedAtStart,
    WorkerCrashedBeforeItsLookup, WorkerCrashedDuringItsLookup, WorkerCrashedBeforeItsRead,
    WorkerCrashedBeforeItsWrite,
    WorkerCrashedBeforeItsPublish, WorkerCrashedWhilePublishing, WorkerCrashedBeforeItsAck,
    WorkerCrashedWaitingForItsTurn, WorkerCrashedWithItsNote, WorkerCrashedWithItsDeadLetter,
    EdgeCrashedWhilePublishing, EdgeCrashedWhileWaiting,
    RouterCutOff, WorkerCutOff, EdgeCutOff,
    RouterPaused, WorkerPaused, EdgePaused,
    LogRedelivered, LogDeliveredAfterItsAck, QueueRedelivered, InvokedAgainAfterItsAck,
    DeliveredToStandby, StandbyTookOver, LogReleased,
    LogRefusedSecond, QueueRefusedSecond, RecordStored, RecordRefused, RecordDiffered,
    FlowReadFromLog, FlowReadStale, QuerySilent, MalformedMessage,
    RulesActivated, RulesRefusedSecond, RulesRead, RulesFetched, FlowUnderOldRules,
    LookFoundCompletion, LookBeforeWriteFoundCompletion, SecondCompletionFound, LeaseRunOut,
    WriteRefusedLate, SlowHandler, PausedBeforeItsWrite, PausedBeforeItsPublish, LeaseExtended,
    WriteFoundItsStamp, WriteLostTheRace, DatabaseSilent, SecondCompletionAgreed,
    TurnCame, TurnTimedOut, LastAttemptCompleted, NoteFound,
    HandlerCrashedItsProcess, LastAttemptCrashedItsProcess, KeyMissing, ComparedLater,
    AttemptsUsedUp, DeadLetteredForItsCrash, DeadLetterCompleted,
    DeadlinePassed,
    AnswerReceived, AnswerLookedUp, AnswerMissed, RequestRepeated, RequestPublishedAgain,
    RepeatedFoundAnswer, ConnectionLost, Timeout,
    RegisterDone, RegisterRefused, LoginDone, LoginRefused, LogoutDone, LogoutRefused, WhoamiDone,
    WhoamiRefused,
    Bought, BoughtNothing, Shown, ShownNothing, Compared, Counted, Stopped, BoughtAll,
    Injected, AccountDeleted, PasswordChanged, SessionEndedByHand, Restocked,
}

/// The number of occurrences of each event.
#[derive(Clone)]
pub struct Coverage(Vec<u64>);

impl Default for Coverage {
    fn default() -> Self {
        Self(vec![0; Mark::ALL.len()])
    }
}

impl Coverage {
    pub(crate) fn mark(&mut self, mark: Mark) {
        if let Some(count) = self.0.get_mut(mark as usize) {
            *count += 1;
        }
    }

    /// The number of occurrences.
    pub fn count(&self, mark: Mark) -> u64 {
        self.0.get(mark as usize).copied().unwrap_or(0)
    }

    /// Adds the numbers of another run.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(&other.0) {
            *count += more;
        }
    }

    /// The events that never occurred.
    pub fn missing(&self) -> Vec<Mark> {
        Mark::ALL.iter().copied().filter(|mark| self.count(*mark) == 0).collect()
    }
}

impl fmt::Debug for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(Mark::ALL.iter().map(|mark| (mark, self.count(*mark)))).finish()
    }
}
