//! The calls and firings of a flow, read from the engine's fold of its log.

use std::sync::Arc;

use concert_wire::id::{ActionId, FiringId, FlowId};
use concert_wire::{REQUESTING, RESPOND};
use serde_json::{Map, Value};

use super::calls::{call_at, call_id};
use super::{Flow, Frames};
use crate::event::{Invocation, Limits, Logged};
use crate::frames::Sequence;
use crate::index::Index;
use concert_lang::program::Program;

/// A firing of a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct TracedFiring {
    /// Its id.
    pub id: FiringId,
    /// The rule.
    pub sync: Arc<str>,
    /// The sequence of the newest cause, or of the firing record.
    pub seq: u64,
    /// The actions that the rule's patterns matched, in order.
    pub causes: Vec<ActionId>,
    /// `true` if a firing record holds it, because the rule has queries.
    pub recorded: bool,
    /// The frames with their variables.
    pub frames: Vec<TracedFrame>,
}

/// One frame of a firing.
#[derive(Debug, Clone, PartialEq)]
pub struct TracedFrame {
    /// The bound variables, by name.
    pub bindings: Map<String, Value>,
    /// The index of the step's `else` in which it ended.
    pub ended_in_else: Option<usize>,
    /// The calls that are due so far, in order.
    pub calls: Vec<ActionId>,
}

/// A called action and its caller.
#[derive(Debug, Clone, PartialEq)]
pub struct TracedCall {
    /// The action.
    pub id: ActionId,
    /// The concept.
    pub concept: Arc<str>,
    /// The action's name.
    pub action: Arc<str>,
    /// The rule, or `Concert.fault` or `Concert.limit` for a response of the router itself.
    pub sync: Arc<str>,
    /// The firing with the indexes of frame and call; a response of the router itself has none.
    pub site: Option<(FiringId, usize, usize)>,
    /// The sequence of the completion that made the call due.
    pub cause_seq: u64,
    /// The encoded input, while the action is not completed.
    pub in_flight: Option<Vec<u8>>,
}

/// A match of a rule with queries that no firing record holds.
#[derive(Debug, Clone, PartialEq)]
pub struct TracedQuestion {
    /// The rule.
    pub sync: Arc<str>,
    /// The actions that the rule's patterns matched, in order.
    pub causes: Vec<ActionId>,
    /// `true` if a record of the same completion exists, so that this match does not fire.
    pub decided: bool,
}

/// The calls and firings of a flow so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trace {
    /// The firings, in order.
    pub firings: Vec<TracedFiring>,
    /// Every action that was called in this flow, without its root.
    pub calls: Vec<TracedCall>,
    /// See [`TracedQuestion`].
    pub questions: Vec<TracedQuestion>,
    /// The sequence from which on nothing fires, with status and reason.
    pub halted: Option<(u64, u16, Arc<str>)>,
}

/// The rules, indexed as the engine needs them.
pub(crate) struct Ready(Arc<Index>);

impl Ready {
    pub(crate) fn new(program: &Program) -> Self {
        Self(Arc::new(Index::new(program)))
    }
}

/// The flow in the engine once it has the whole log.
pub(crate) struct Folded {
    flow: Flow,
    limits: Limits,
}

impl Folded {
    /// Folds a flow's log; the order of `log` and duplicates in it do not matter.
    pub(crate) fn new(index: &Ready, limits: &Limits, id: FlowId, mut log: Vec<Logged>) -> Self {
        let mut flow = Flow::new(id, index.0.clone());
        log.sort_by_key(|logged| logged.seq);
        log.dedup_by_key(|logged| logged.seq);
        for logged in log {
            flow.push(limits, logged);
        }
        Self { flow, limits: *limits }
    }

    pub(super) const fn flow(&self) -> &Flow {
        &self.flow
    }

    /// See [`Trace`].
    pub(crate) fn trace(&self) -> Trace {
        let flow = &self.flow;
        let mut trace = Trace {
            halted: flow.halted.as_ref().and_then(|(number, halt)| {
                let entry = flow.log.get(*number)?;
                Some((entry.seq, halt.status, halt.why.clone()))
            }),
            ..Trace::default()
        };
        self.firings(&mut trace);
        self.calls(&mut trace);
        self.questions(&mut trace);
        trace
    }

    fn seq(&self, number: usize) -> u64 {
        self.flow.log.get(number).map_or(0, |entry| entry.seq)
    }

    fn firings(&self, trace: &mut Trace) {
        let flow = &self.flow;
        for firing in &flow.firings {
            let Some(sync) = flow.rules.syncs.get(firing.sync) else {
                continue;
            };
            let named = |values: Vec<Option<Value>>| {
                let bound = sync.variables.iter().zip(values);
                let bound = bound.filter_map(|(name, value)| Some((name.to_string(), value?)));
                bound.collect()
            };
            let frames = match &firing.frames {
                Frames::Matched => {
                    let bound = flow.bound(sync, &firing.causes).into_iter();
                    vec![(named(bound.map(|value| value.cloned()).collect()), None)]
                }
                Frames::Ended(ended) => {
                    let one = |ended: &crate::frames::Ended| {
                        let values = ended.frame.iter().map(|value| value.as_deref().cloned());
                        let otherwise = match ended.sequence {
                            Sequence::Then => None,
                            Sequence::Else(number) => Some(number),
                        };
                        (named(values.collect()), otherwise)
                    };
                    ended.iter().map(one).collect()
                }
            };
            let number = flow
                .log
                .iter()
                .position(|entry| {
                    let first = call_id(firing.id, 0, 0);
                    entry.due.contains(&first)
                })
                .or_else(|| firing.causes.iter().copied().max());
            let is_record = number.and_then(|number| flow.log.get(number));
            let recorded = is_record.is_some_and(|entry| flow.rules.is_record(entry.key));
            let frames =
                frames.into_iter().enumerate().map(|(frame, (bindings, ended_in_else))| {
                    let calls = (0..).map(|position| call_id(firing.id, frame, position));
                    let is_due = |id: &ActionId| {
                        flow.actions.get(id).is_some_and(|action| action.site.is_some())
                    };
                    // A failure skips the rest of `then`; the calls of `else (error)` come after
                    // it.
                    let most = sync.then.len()
                        + sync.otherwise.as_ref().map_or(0, |other| other.calls.len());
                    TracedFrame {
                        bindings,
                        ended_in_else,
                        calls: calls.take(most.max(1)).filter(is_due).collect(),
                    }
                });
            trace.firings.push(TracedFiring {
                id: firing.id,
                sync: sync.name.clone(),
                seq: number.map_or(0, |number| self.seq(number)),
                causes: flow.ids(&firing.causes).collect(),
                recorded,
                frames: frames.collect(),
            });
        }
    }

    fn calls(&self, trace: &mut Trace) {
        let flow = &self.flow;
        let mut waiting: Vec<(u64, Invocation)> = Vec::new();
        for entry in &flow.log {
            flow.invocations(&self.limits, entry.seq, |invocation| {
                if waiting.iter().all(|(_, other)| other.id != invocation.id) {
                    waiting.push((entry.seq, invocation));
                }
            });
        }
        for (id, action) in &flow.actions {
            let Some(site) = &action.site else { continue };
            let Some(firing) = flow.firings.get(site.firing) else {
                continue;
            };
            let Some(sync) = flow.rules.syncs.get(firing.sync) else {
                continue;
            };
            let Some(call) = call_at(sync, site.sequence, site.position) else {
                continue;
            };
            let in_flight = waiting.iter().position(|(_, invocation)| invocation.id == *id);
            let in_flight = in_flight.map(|at| waiting.swap_remove(at).1.body);
            if action.entry.is_none() && in_flight.is_none() {
                // The flow was stopped before this call.
                continue;
            }
            trace.calls.push(TracedCall {
                id: *id,
                concept: call.concept.clone(),
                action: call.action.clone(),
                sync: sync.name.clone(),
                site: Some((firing.id, site.frame, site.position)),
                cause_seq: self.seq(site.cause),
                in_flight,
            });
        }
        // The responses of the router itself, completed or not.
        for (seq, invocation) in waiting {
            trace.calls.push(TracedCall {
                id: invocation.id,
                concept: invocation.concept,
                action: invocation.action,
                sync: invocation.sync,
                site: None,
                cause_seq: seq,
                in_flight: Some(invocation.body),
            });
        }
        for entry in &flow.log {
            let mut own = |id: ActionId, name: &str| {
                let is_new = trace.calls.iter().all(|call| call.id != id);
                if is_new && flow.completion(id).is_some() {
                    trace.calls.push(TracedCall {
                        id,
                        concept: REQUESTING.into(),
                        action: RESPOND.into(),
                        sync: Arc::from(format!("Concert.{name}")),
                        site: None,
                        cause_seq: entry.seq,
                        in_flight: None,
                    });
                }
            };
            own(entry.id.fault_response(), "fault");
            if flow.halted.as_ref().is_some_and(|(from, _)| self.seq(*from) <= entry.seq) {
                own(flow.id.limit_response(), "limit");
            }
        }
        // Ids are digests. Sort the calls of a firing in the order of the rule, frame by frame.
        trace.calls.sort_by_key(|call| (call.cause_seq, call.site, call.id));
    }

    fn questions(&self, trace: &mut Trace) {
        let flow = &self.flow;
        for entry in &flow.log {
            let decided = flow.completion(entry.id.firing_record()).is_some();
            for undecided in &entry.undecided {
                let Some(sync) = flow.rules.syncs.get(undecided.sync) else {
                    continue;
                };
                let id = flow.firing_id(sync, &undecided.causes);
                if trace.firings.iter().all(|firing| firing.id != id) {
                    trace.questions.push(TracedQuestion {
                        sync: sync.name.clone(),
                        causes: flow.ids(&undecided.causes).collect(),
                        decided,
                    });
                }
            }
        }
    }
}
