//! Rules with queries: their results for a completion, and its firing record.

use concert_wire::envelope::encode;

use super::{Entry, Flow, Frames, Undecided};
use crate::budget::Budget;
use crate::event::{Limits, Logged, Record};
use crate::frames::{self, Answers, Question, Stop};
use crate::index::Index;
use crate::record::{self, Content, Halt, Recorded};

/// The decision about the rules with queries at a completion.
pub(crate) enum Decision {
    /// Queries that must run first.
    Ask(Vec<Question>),
    /// A record that must be stored first.
    Record(Record),
    /// Nothing fires.
    Nothing,
}

impl Flow {
    /// The entry that a record belongs to, if the record's id confirms it.
    pub(super) fn recorded_cause(&self, record: &Logged) -> Option<usize> {
        let cause =
            record::cause(&record.body).filter(|cause| cause.firing_record() == record.id)?;
        self.completion(cause)
    }

    /// Makes the calls of a firing record due, if its entry is known.
    pub(super) fn take_record(
        &mut self,
        index: &Index,
        limits: &Limits,
        number: usize,
        known: bool,
    ) {
        let Some(entry) = self.log.get(number) else { return };
        let content = record::decode(&entry.body, |name| index.sync_named(name)).filter(|_| known);
        match content {
            None => {
                if let Some(entry) = self.log.get_mut(number) {
                    entry.broken = Some("not a valid firing record of this flow and its rules");
                }
            }
            Some(Content::Halt(halt)) => {
                self.halted.get_or_insert((number, halt));
            }
            Some(Content::Firings(firings)) => {
                for Recorded { sync, causes, frames } in firings {
                    let causes = causes.iter().filter_map(|id| self.completion(*id)).collect();
                    self.add_firing(index, limits, number, sync, causes, Frames::Ended(frames));
                }
            }
        }
    }

    /// Keeps a match of a rule with queries until a record decides it.
    pub(super) fn leave_undecided(&mut self, number: usize, undecided: Undecided) {
        let Some(entry) = self.log.get_mut(number) else { return };
        entry.undecided.push(undecided);
        let record = entry.id.firing_record();
        self.expect(record);
    }

    /// Returns whether rules with queries need a decision at the completion `seq`.
    pub(crate) fn is_undecided(&self, seq: u64) -> bool {
        let Some(number) = self.number(seq) else { return false };
        let entry = self.log.get(number).filter(|entry| !entry.undecided.is_empty());
        entry.is_some_and(|entry| {
            self.halted_at(number).is_none() && self.completion(entry.id.firing_record()).is_none()
        })
    }

    /// The reason why nothing fires at this entry.
    pub(super) fn halted_at(&self, number: usize) -> Option<&Halt> {
        let (from, halt) = self.halted.as_ref()?;
        (*from <= number).then_some(halt)
    }

    /// The reason to dead-letter the message `seq`.
    pub(crate) fn broken(&self, seq: u64) -> Option<&'static str> {
        self.log.get(self.number(seq)?)?.broken
    }

    /// Decides the rules with queries at the completion `seq`, given these results.
    pub(crate) fn decide(&self, limits: &Limits, seq: u64, answers: &Answers) -> Decision {
        let Some(entry) = self.number(seq).and_then(|number| self.log.get(number)) else {
            return Decision::Nothing;
        };
        let mut questions: Vec<Question> = Vec::new();
        let mut firings = Vec::new();
        let mut stopped = None;
        let mut budget = Budget::new(limits.join_steps());
        for undecided in &entry.undecided {
            let Some(sync) = self.rules.syncs.get(undecided.sync) else {
                continue;
            };
            let matched = self.matched(sync, &undecided.causes);
            match frames::run(sync, matched, answers, limits.frames_per_firing, &mut budget) {
                Err(Stop::Ask(more)) => {
                    for question in more {
                        if !questions.contains(&question) {
                            questions.push(question);
                        }
                    }
                    if questions.len() > limits.actions_per_flow {
                        let why = "the flow reached the limit of queries for one action";
                        stopped = Some(Halt::limit(why));
                        break;
                    }
                }
                Err(Stop::Limit(why)) => {
                    stopped = Some(Halt::limit(why));
                    break;
                }
                Err(Stop::Large(why)) => {
                    stopped = Some(Halt::from(why));
                    break;
                }
                Ok(ended) if ended.is_empty() => {}
                Ok(frames) => firings.push(Recorded {
                    sync: undecided.sync,
                    causes: self.ids(&undecided.causes).collect(),
                    frames,
                }),
            }
        }
        if let Some(halt) = stopped {
            return Decision::Record(self.record(entry, &Content::Halt(halt)));
        }
        if !questions.is_empty() {
            return Decision::Ask(questions);
        }
        if firings.is_empty() {
            return Decision::Nothing;
        }
        let record = self.record(entry, &Content::Firings(firings));
        if record.body.len() > limits.body_bytes {
            let halt = Halt::limit("a firing record reached the limit of size");
            return Decision::Record(self.record(entry, &Content::Halt(halt)));
        }
        Decision::Record(record)
    }

    /// The decision when a query of the completion `seq` fails permanently.
    pub(crate) fn halt(&self, seq: u64, halt: Halt) -> Decision {
        match self.number(seq).and_then(|number| self.log.get(number)) {
            Some(entry) => Decision::Record(self.record(entry, &Content::Halt(halt))),
            None => Decision::Nothing,
        }
    }

    fn record(&self, cause: &Entry, content: &Content) -> Record {
        let find = |number: usize| self.rules.syncs.get(number).map(|sync| &**sync);
        let body = record::encode(cause.id, &self.rules.version, content, find);
        Record {
            flow: self.id,
            id: cause.id.firing_record(),
            body: encode(&body),
            context: self.context.clone(),
        }
    }
}
