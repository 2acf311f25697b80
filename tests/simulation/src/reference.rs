//! A reference without faults: one engine that receives every message of the log once and in order.
//! It defines which actions may be called, and what must be stored before a message is
//! acknowledged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroUsize;
use std::rc::Rc;

use concert_engine::{Effect, Engine, Event, Invocation, Limits, Logged};
use concert_wire::id::ActionId;

use crate::program::Programs;

/// Maximum number of actions per flow.
const ACTIONS: usize = 200;
const ACTIONS_OF_SHORT_FLOWS: usize = 6;

/// The limits of all engines of a run; only their cache sizes differ.
pub(crate) fn limits(has_short_flows: bool, cached_flows: NonZeroUsize) -> Limits {
    Limits {
        actions_per_flow: if has_short_flows { ACTIONS_OF_SHORT_FLOWS } else { ACTIONS },
        depth: 10,
        cached_flows,
        ..Limits::default()
    }
}

pub(crate) struct Reference {
    engine: Engine,
    /// Every allowed call with its input, by action id.
    expected: BTreeMap<ActionId, Rc<Invocation>>,
    /// The effects of each message of the log.
    brought_about: BTreeMap<u64, Vec<ActionId>>,
    /// The allowed firing records.
    records: BTreeSet<ActionId>,
}

impl Reference {
    pub(crate) fn new(limits: Limits, programs: &Programs) -> Self {
        let mut engine = Engine::without_rules(limits);
        for program in &programs.0 {
            engine.step(Event::RulesFetched(program.clone()));
        }
        let (through, history) = (0, Vec::new());
        engine.step(Event::RulesRead { through, history });
        Self {
            engine,
            expected: BTreeMap::new(),
            brought_about: BTreeMap::new(),
            records: BTreeSet::new(),
        }
    }

    /// Processes the log's next message; returns an error if the effects contradict earlier ones.
    pub(crate) fn feed(&mut self, seq: u64, logged: Option<&Rc<Logged>>) -> Result<(), String> {
        let first = match logged {
            Some(logged) => Event::Delivered((**logged).clone()),
            None => {
                let reason = String::new();
                Event::Undecodable { seq, reason }
            }
        };
        let mut events = VecDeque::from([first]);
        while let Some(event) = events.pop_front() {
            for effect in self.engine.step(event) {
                match effect {
                    Effect::Invoke { seq, invocation }
                    | Effect::Complete { seq, invocation, .. } => {
                        self.brought_about.entry(seq).or_default().push(invocation.id);
                        self.expect(Rc::new(invocation))?;
                        events.push_back(Event::Stored { seq });
                    }
                    Effect::Ask { seq, .. } => {
                        self.records.extend(logged.map(|logged| logged.id.firing_record()));
                        events.push_back(Event::Unanswered { seq });
                    }
                    Effect::Record { seq, record } => {
                        self.records.insert(record.id);
                        events.push_back(Event::Stored { seq });
                    }
                    Effect::Adopt { seq, .. } => events.push_back(Event::Stored { seq }),
                    Effect::Ack { .. } | Effect::Retry { .. } => {}
                    Effect::DeadLetter { reason, .. } if logged.is_some() => {
                        return Err(format!("a dead letter without faults: {reason}"));
                    }
                    Effect::DeadLetter { .. } => {}
                    Effect::ReadFlow { .. }
                    | Effect::ReadRules { .. }
                    | Effect::FetchRules { .. } => {
                        return Err(format!("an engine that missed no message reads: {effect:?}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// Records an allowed call; returns an error if its id belonged to another one.
    pub(crate) fn expect(&mut self, asked: Rc<Invocation>) -> Result<(), String> {
        match self.expected.get(&asked.id) {
            Some(before) if !same(before, &asked) => {
                Err(format!("one id, two actions: {before:?} and {asked:?}"))
            }
            Some(_) => Ok(()),
            None => {
                self.expected.insert(asked.id, asked);
                Ok(())
            }
        }
    }

    /// Checks that a call is allowed.
    pub(crate) fn allows(&self, asked: &Invocation) -> Result<(), String> {
        match self.expected.get(&asked.id) {
            None => Err(format!("nothing in the log causes this: {}", describe(asked))),
            Some(expected) if !same(expected, asked) => {
                Err(format!("one id, two actions: {} and {}", describe(expected), describe(asked)))
            }
            Some(_) => Ok(()),
        }
    }

    pub(crate) fn expected(&self) -> impl Iterator<Item = &Rc<Invocation>> {
        self.expected.values()
    }

    pub(crate) fn get(&self, id: ActionId) -> Option<&Rc<Invocation>> {
        self.expected.get(&id)
    }

    pub(crate) fn allows_record(&self, id: ActionId) -> bool {
        self.records.contains(&id)
    }

    pub(crate) fn brought_about(&self, seq: u64) -> &[ActionId] {
        self.brought_about.get(&seq).map(Vec::as_slice).unwrap_or_default()
    }
}

fn same(one: &Invocation, other: &Invocation) -> bool {
    one.flow == other.flow
        && one.concept == other.concept
        && one.action == other.action
        && one.body == other.body
}

/// An invocation as text.
pub(crate) fn describe(asked: &Invocation) -> String {
    let Invocation { concept, action, id, sync, .. } = asked;
    format!("{concept}.{action} {id} {} of {sync}", String::from_utf8_lossy(&asked.body))
}
