//! Where a run has been. A simulation that goes nowhere finds nothing, so that its test asks for
//! each of these to have happened.

use std::fmt;

macro_rules! marks {
    ($($mark:ident,)*) => {
        /// Something that happened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mark {
            $(#[doc = stringify!($mark)] $mark,)*
        }

        impl Mark {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$mark,)*];
        }
    };
}

marks! {
    RequestLost, ReplyLost, RequestLate, RequestDoubled,
    RouterCrashedIdle, RouterCrashedWithPublishesUnderWay, RouterCrashedWhileReading, RouterCrashedAtStart,
    WorkerCrashedBeforeItsLook, WorkerCrashedWhileLooking, WorkerCrashedBeforeItsRead, WorkerCrashedBeforeItsWrite,
    WorkerCrashedBeforeItsPublish, WorkerCrashedWhilePublishing, WorkerCrashedBeforeItsAck,
    WorkerCrashedWaitingForItsTurn, WorkerCrashedWithItsNote, WorkerCrashedWithItsLetter,
    EdgeCrashedWhilePublishing, EdgeCrashedWhileWaiting,
    RouterCutOff, WorkerCutOff, EdgeCutOff,
    RouterPaused, WorkerPaused, EdgePaused,
    LogRedelivered, LogDeliveredAfterItsAck, QueueRedelivered, InvokedAgainAfterItsAck, DeliveredToStandby, StandbyTookOver,
    LogRefusedSecond, QueueRefusedSecond, RecordStored, RecordRefused, RecordDiffered,
    FlowReadFromLog, FlowReadStale, QuerySilent, Rubbish,
    RulesPutInForce, RulesRefusedSecond, RulesRead, RulesFetched, FlowUnderOldRules,
    LookFoundCompletion, LookBeforeWriteFoundCompletion, SecondCompletionFound, LeaseRunOut, WriteRefusedLate, SlowHandler, PausedBeforeItsWrite, PausedBeforeItsPublish, LeaseExtended, WriteFoundItsStamp, WriteLostTheRace, DatabaseSilent, SecondCompletionAgreed,
    TurnCame, TurnWaitedForInVain, LastAttemptCompleted, NoteFound,
    HandlerEndedItsProcess, LastAttemptEndedItsProcess, KeyMissing, ComparedLater,
    AttemptsUsedUp, GivenUpForItsProcess, LetterCompleted,
    DeadlinePassed,
    AnswerHeard, AnswerLookedUp, AnswerMissed, RequestRepeated, RequestPublishedAgain, RepeatedFoundAnswer, ConnectionLost, Timeout,
    RegisterDone, RegisterRefused, LoginDone, LoginRefused, LogoutDone, LogoutRefused, WhoamiDone, WhoamiRefused,
    Bought, BoughtNothing, Shown, ShownNothing, Compared, Counted, Stopped, BoughtAll,
    Injected, AccountDeleted, PasswordChanged, SessionEndedByHand, Restocked,
}

/// How often each happened.
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

    /// How often this happened.
    pub fn count(&self, mark: Mark) -> u64 {
        self.0.get(mark as usize).copied().unwrap_or(0)
    }

    /// Adds what another run saw.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(&other.0) {
            *count += more;
        }
    }

    /// What never happened.
    pub fn missing(&self) -> Vec<Mark> {
        Mark::ALL.iter().copied().filter(|mark| self.count(*mark) == 0).collect()
    }
}

impl fmt::Debug for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(Mark::ALL.iter().map(|mark| (mark, self.count(*mark)))).finish()
    }
}
