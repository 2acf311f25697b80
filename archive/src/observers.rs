//! Who learns of each flow once it is archived: the counts of the rules, the metrics, the traces.
//!
//! All of it follows from the log, so that nothing on the way of a request is slowed by being
//! looked at, and a redelivery is seen once.

use std::collections::BTreeSet;

use concert_engine::provenance::Action;

use crate::firings::Firings;
use crate::metrics::Metrics;
use crate::repository::{PartialFlow, Row};
use crate::traces::Traces;

/// Everybody who learns of flows.
pub(crate) struct Observers {
    pub(crate) firings: Firings,
    pub(crate) metrics: Metrics,
    /// `None` when nothing is exported.
    pub(crate) traces: Option<Traces>,
}

impl Observers {
    /// Tells of a flow of which these messages are archived now for the first time.
    pub(crate) fn archived(&self, row: &Row, new: &PartialFlow) {
        let seqs: BTreeSet<u64> = new.messages.iter().map(|message| message.seq).collect();
        let is_new = |action: &Action| action.seq.is_some_and(|seq| seqs.contains(&seq));
        let actions: Vec<&Action> =
            row.flow.actions.iter().filter(|action| is_new(action)).collect();
        let times: BTreeSet<u64> = new.messages.iter().map(|message| message.time_us).collect();
        let firings = row.flow.firings.iter().filter(|firing| times.contains(&firing.at_us));
        let firings: Vec<_> = firings.collect();
        for firing in &firings {
            self.firings.count(&firing.sync);
        }
        self.metrics.archived(row, &actions, &firings);
        if let Some(traces) = &self.traces {
            traces.archived(row, &actions, &firings);
        }
    }
}
