//! Observers of archived flows: firing counts, metrics and traces.
//!
//! All of them read the archived log. Observation therefore does not slow requests. A message that
//! is redelivered after it was stored is counted again.

use std::collections::BTreeSet;

use concert_engine::provenance::Action;

use crate::firings::Firings;
use crate::metrics::Metrics;
use crate::repository::{PartialFlow, Row};
use crate::traces::Traces;

/// All observers.
pub(crate) struct Observers {
    pub(crate) firings: Firings,
    pub(crate) metrics: Metrics,
    /// `None` if traces are not exported.
    pub(crate) traces: Option<Traces>,
}

impl Observers {
    /// Notifies the observers about the new messages of an archived flow.
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
