//! The faults of a run, and their rates. Each seed draws its own rates, so that some runs have only
//! one kind of fault.

use std::num::NonZeroUsize;

use crate::chance::Chance;

/// A guard of the system that is disabled to see that the simulation detects it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// The worker does not check the log for an existing completion before it writes.
    WorkerDoesNotLook,
    /// Writes leave no stamp, so a redelivery writes again.
    NoStamps,
    /// Ending all sessions of a user sets no cutoff for logins that are in progress.
    NoCutoff,
    /// The log accepts a second message on a subject.
    LogTakesTwice,
    /// The worker acknowledges before it publishes the completion.
    WorkerAcksFirst,
    /// The router acknowledges before its publishes are stored.
    RouterAcksFirst,
    /// The router acknowledges although a publish failed.
    RouterIgnoresFailures,
    /// The router uses its own query results instead of the stored firing record.
    RecordIgnored,
    /// The engine treats messages of another router as received.
    MemoryAcrossGaps,
    /// The worker writes although its ack deadline may have passed.
    LeaseIgnored,
    /// A failed query counts as one without rows.
    SilenceIsNoRows,
    /// The router runs a flow under its own rules, not under those of its root.
    OwnRules,
    /// The worker extends its deadline although the server may not have received the in-progress
    /// ack.
    LeaseExtendedUnconfirmed,
    /// The worker publishes an outcome although its ack deadline may have passed.
    CompletionAfterLease,
    /// A completion of an action without a stamp arrives after the worker has given up the publish.
    LateCompletion,
    /// The edge responds with a notification although it may have missed an earlier response of the
    /// flow.
    EdgeTrustsItsEar,
    /// The worker sends a nak although another worker may have the message, which takes it away
    /// from that worker.
    NakAfterLease,
}

impl Sabotage {
    /// The guards in the system.
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
    /// The guards that only exist in the model.
    pub const GAPS: [Self; 5] = [
        Self::LeaseExtendedUnconfirmed,
        Self::CompletionAfterLease,
        Self::LateCompletion,
        Self::NakAfterLease,
        Self::EdgeTrustsItsEar,
    ];
}

/// Rates per thousand of the affected packets or steps.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    /// A request does not arrive.
    pub(crate) lost_requests: u32,
    /// A request arrives, and its response does not.
    pub(crate) lost_replies: u32,
    /// A request times out, and arrives later.
    pub(crate) late_requests: u32,
    /// A request arrives twice.
    pub(crate) doubled: u32,
    /// A process crashes.
    pub(crate) crashes: u32,
    /// A process pauses for longer than its ack deadlines.
    pub(crate) pauses: u32,
    /// A process cannot reach NATS for a while, but can reach the database.
    pub(crate) cut_offs: u32,
    /// The standby router gets a message of the log.
    pub(crate) two_active: u32,
    /// The server forgets acknowledgements of the log's consumer.
    pub(crate) forgotten_log_acks: u32,
    /// The server forgets the acknowledgement of a queued message.
    pub(crate) forgotten_queue_acks: u32,
    /// A read of the log returns an earlier state.
    pub(crate) stale_reads: u32,
    /// A query fails.
    pub(crate) silent_queries: u32,
    /// The database does not respond; the write may have happened.
    pub(crate) silent_database: u32,
    /// A handler takes longer than its ack deadline, unless that is extended.
    pub(crate) slow_handlers: u32,
    /// An injected purchase or sale.
    pub(crate) trades: u32,
    /// An edge misses a notification of a respond.
    pub(crate) deaf_edges: u32,
    /// Other rules are activated.
    pub(crate) new_rules: u32,
    /// The log gets a message that is not a completion.
    pub(crate) rubbish: u32,
    /// An action's handler crashes its process every time.
    pub(crate) poison: u32,
    /// A worker lacks a sealing key for a while.
    pub(crate) late_keys: u32,
    /// The number of flows that a router caches.
    pub(crate) remembered: Option<NonZeroUsize>,
    /// `true` if the limit of actions is so low that ordinary flows reach it.
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
