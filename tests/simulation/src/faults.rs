//! What goes wrong in a run, and how often. Each seed draws its own mixture, so that some runs see
//! nothing but one kind of fault.

use std::num::NonZeroUsize;

use crate::chance::Chance;

/// A guard of the system that is taken away, to see that the simulation notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// The worker does not ask the log first whether the action is done already.
    WorkerDoesNotLook,
    /// Writes leave no stamp, so that a redelivery is carried out again.
    NoStamps,
    /// Ending all sessions of a user sets no cutoff for logins that are in progress.
    NoCutoff,
    /// The log takes a second message on a subject.
    LogTakesTwice,
    /// The worker acknowledges before it publishes the completion.
    WorkerAcksFirst,
    /// The router acknowledges before what follows is stored.
    RouterAcksFirst,
    /// The router acknowledges although something could not be stored.
    RouterIgnoresFailures,
    /// The router goes by its own answers, not by the firing record that stands.
    RecordIgnored,
    /// The engine is told that it received what another router received.
    MemoryAcrossGaps,
    /// The worker writes although its message may be with another by now.
    LeaseIgnored,
    /// A query that is not available counts as one without rows.
    SilenceIsNoRows,
    /// The router runs a flow under the rules that it was started with, not under those of its
    /// root.
    OwnRules,
    /// The worker takes its time as extended although the server may not have heard that it goes
    /// on.
    LeaseExtendedUnheard,
    /// The worker publishes an outcome although its message may be with another by now.
    CompletionAfterLease,
    /// A completion that left no stamp arrives after the worker has given it up.
    LateCompletion,
    /// The edge answers with what it hears although it may have missed an earlier answer of the
    /// same flow.
    EdgeTrustsItsEar,
    /// The worker asks for its message to be delivered again although it may be with another by
    /// now, from which it is taken then.
    NakAfterLease,
}

impl Sabotage {
    /// What the parts guard against.
    pub const GUARDS: [Self; 12] = [
        Self::WorkerDoesNotLook,
        Self::NoStamps,
        Self::NoCutoff,
        Self::LogTakesTwice,
        Self::WorkerAcksFirst,
        Self::RouterAcksFirst,
        Self::RouterIgnoresFailures,
        Self::RecordIgnored,
        Self::MemoryAcrossGaps,
        Self::LeaseIgnored,
        Self::SilenceIsNoRows,
        Self::OwnRules,
    ];
    /// What only the model rules out.
    pub const GAPS: [Self; 5] = [
        Self::LeaseExtendedUnheard,
        Self::CompletionAfterLease,
        Self::LateCompletion,
        Self::NakAfterLease,
        Self::EdgeTrustsItsEar,
    ];
}

/// Rates in thousandths, of the packets or steps that they concern.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    /// A request does not arrive.
    pub(crate) lost_requests: u32,
    /// A request is done, and its answer does not arrive.
    pub(crate) lost_replies: u32,
    /// A request is given up, and arrives later.
    pub(crate) late_requests: u32,
    /// A request arrives twice.
    pub(crate) doubled: u32,
    /// A process ends.
    pub(crate) crashes: u32,
    /// A process stands still for longer than its messages are its own.
    pub(crate) pauses: u32,
    /// A process does not reach NATS for a while, though the database.
    pub(crate) cut_offs: u32,
    /// A router gets a message of the log though the other one is active.
    pub(crate) two_active: u32,
    /// The server forgets acknowledgements of the log's consumer.
    pub(crate) forgotten_log_acks: u32,
    /// The server forgets that a message of a queue was acknowledged.
    pub(crate) forgotten_queue_acks: u32,
    /// A read of the log shows an earlier state than the newest.
    pub(crate) stale_reads: u32,
    /// A query is not available.
    pub(crate) silent_queries: u32,
    /// The database does not answer; what was asked may be done.
    pub(crate) silent_database: u32,
    /// A handler takes longer than its message is its own, unless that is extended.
    pub(crate) slow_handlers: u32,
    /// Somebody buys or sells by hand.
    pub(crate) trades: u32,
    /// An edge does not hear a respond.
    pub(crate) deaf_edges: u32,
    /// Other rules are put in force.
    pub(crate) new_rules: u32,
    /// Something that is no completion stands in the log.
    pub(crate) rubbish: u32,
    /// An action's handler ends its process, each time that it is run.
    pub(crate) poison: u32,
    /// A worker lacks a key for a while that others seal with.
    pub(crate) late_keys: u32,
    /// How many flows a router remembers.
    pub(crate) remembered: Option<NonZeroUsize>,
    /// Whether flows may have so few actions that ordinary ones are stopped.
    pub(crate) has_short_flows: bool,
}

impl Faults {
    pub(crate) fn drawn(chance: &mut Chance) -> Self {
        let mut rate = |most: usize| match chance.below(5) {
            0 | 1 => 0,
            2 => most / 4,
            3 => most / 2,
            _ => most,
        } as u32;
        Self {
            lost_requests: rate(100),
            lost_replies: rate(100),
            late_requests: rate(80),
            doubled: rate(50),
            crashes: rate(12),
            pauses: rate(8),
            cut_offs: rate(8),
            two_active: rate(300),
            forgotten_log_acks: rate(12),
            forgotten_queue_acks: rate(12),
            stale_reads: rate(200),
            silent_queries: rate(250),
            silent_database: rate(80),
            slow_handlers: rate(150),
            trades: rate(20),
            deaf_edges: rate(250),
            new_rules: rate(5),
            rubbish: rate(4),
            poison: rate(20),
            late_keys: rate(8),
            remembered: NonZeroUsize::new(chance.below(4)),
            has_short_flows: chance.one_in(10),
        }
    }
}
