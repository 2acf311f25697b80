//! Measures the queries for each completion, and the parts that their workers report. The firing
//! record contains the measurements, for traces.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use concert_wire::work::{MAX_PARTS, Part, Work, micros};

/// Measured queries by the sequence of the completion.
#[derive(Debug, Clone, Default)]
pub(crate) struct QueryTimings(Arc<Mutex<HashMap<u64, Queries>>>);

#[derive(Debug)]
struct Queries {
    began: Instant,
    parts: Vec<Part>,
}

impl QueryTimings {
    fn with<T>(&self, change: impl FnOnce(&mut HashMap<u64, Queries>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Starts the measurement at the first query for a completion.
    pub(crate) fn begin(&self, seq: u64) {
        self.with(|asked| {
            asked
                .entry(seq)
                .or_insert_with(|| Queries { began: Instant::now(), parts: Vec::new() });
        });
    }

    /// Records a query that has finished, with the work that the worker reports.
    pub(crate) fn answered(&self, seq: u64, query: String, asked: Instant, work: Option<Work>) {
        self.with(|all| {
            let Some(queries) = all.get_mut(&seq) else { return };
            let (at, took) = (asked.saturating_duration_since(queries.began), asked.elapsed());
            let work = work.unwrap_or_default();
            // Assume that each direction took half of the time that the worker does not report.
            let on_the_way = micros(took).saturating_sub(work.took_us) / 2;
            let began_us = micros(at).saturating_add(on_the_way);
            let own = Part { name: query, at_us: micros(at), took_us: micros(took) };
            let of_worker = work
                .parts
                .into_iter()
                .map(|part| Part { at_us: part.at_us.saturating_add(began_us), ..part });
            if queries.parts.len() >= MAX_PARTS
                && let Some(last) = queries.parts.iter().rposition(|part| part.query().is_none())
            {
                // The number of queries is more useful than their parts.
                queries.parts.remove(last);
            }
            let room = MAX_PARTS.saturating_sub(queries.parts.len());
            queries.parts.extend(std::iter::once(own).chain(of_worker).take(room));
        });
    }

    /// The measurements so far.
    pub(crate) fn work(&self, seq: u64) -> Option<Work> {
        self.with(|asked| {
            asked.get(&seq).map(|queries| Work {
                took_us: micros(queries.began.elapsed()),
                parts: queries.parts.clone(),
            })
        })
    }

    /// Discards the measurements of a completion.
    pub(crate) fn forget(&self, seq: u64) {
        self.with(|asked| drop(asked.remove(&seq)));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn query_part_is_followed_by_its_workers_parts() {
        let asked = QueryTimings::default();
        assert_eq!(asked.work(7), None);
        asked.begin(7);
        let at = Instant::now();
        std::thread::sleep(Duration::from_millis(3));
        let work = "1500 mongodb.find@200+1000".parse().ok();
        asked.answered(7, "Sessioning._getUser".to_owned(), at, work);
        asked.answered(8, "Profile._getUserDetails".to_owned(), at, None);
        let work = asked.work(7).unwrap();
        let (question, inner) = (&work.parts[0], &work.parts[1]);
        assert_eq!((&*question.name, &*inner.name), ("Sessioning._getUser", "mongodb.find"));
        assert!(question.at_us <= inner.at_us && inner.took_us == 1000, "{work:?}");
        assert!(inner.at_us + inner.took_us <= question.at_us + question.took_us, "{work:?}");
        assert!(question.took_us <= work.took_us && work.parts.len() == 2, "{work:?}");
        // Queries replace the parts of workers if there are too many.
        for _ in 0..MAX_PARTS {
            asked.answered(7, "Profile._getUserDetails".to_owned(), at, None);
        }
        let parts = asked.work(7).unwrap().parts;
        assert!(parts.len() == MAX_PARTS && parts.iter().all(|part| part.query().is_some()));
        assert_eq!(asked.work(8), None);
        asked.forget(7);
        assert_eq!(asked.work(7), None);
    }
}
