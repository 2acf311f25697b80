//! One flow: its log so far, and what follows from it.

use std::collections::HashMap;
use std::sync::Arc;

use concert_wire::envelope::{Completion, ERROR, FAULT, Fault, Object, encode};
use concert_wire::id::{ActionId, FiringId, FlowId};
use concert_wire::{REQUESTING, RESPOND};
use serde_json::Value;

use super::index::{Anchor, Index, KeyId, PatternRef};
use super::matching::{self, Bindings, Completions};
use super::{Context, Invocation, Limits, Logged};
use crate::program::{Call, Out, Sync};

/// A flow's log is folded from its beginning, so what is known of an entry depends on the entries before it alone.
pub(super) struct Flow {
    id: FlowId,
    context: Context,
    log: Vec<Entry>,
    by_id: HashMap<ActionId, usize>,
    firings: Vec<Firing>,
    /// The calls that are due, by the id of the action.
    calls: HashMap<ActionId, CallSite>,
    anchors: Vec<Anchor>,
    /// The first successful answer to the flow's request.
    answered_at: Option<usize>,
    /// The entry from which on nothing fires, and why.
    limited: Option<(usize, &'static str)>,
    complete_through: u64,
}

struct Entry {
    seq: u64,
    id: ActionId,
    key: Option<KeyId>,
    body: Completion,
    depth: u32,
    /// The calls that this entry makes due.
    due: Vec<ActionId>,
}

struct Firing {
    id: FiringId,
    sync: usize,
    causes: Vec<usize>,
}

/// Where a call stands: a completion's action id belongs to exactly one.
#[derive(Clone, Copy)]
struct CallSite {
    firing: usize,
    /// Counts the calls of `then`, and those of `else` after them.
    position: usize,
    /// The entry that made the call due.
    cause: usize,
    /// The entry whose failure led to `else`.
    failed: Option<usize>,
}

/// A flow has one frame for each firing until a rule asks queries.
const FRAME: u32 = 0;

impl Completions for Flow {
    fn body(&self, number: usize) -> Option<&Completion> {
        self.log.get(number).map(|entry| &entry.body)
    }

    fn of_action(&self, at: PatternRef, index: &Index, newest: usize) -> Vec<usize> {
        let key = index.pattern_key(at);
        self.log
            .iter()
            .take(newest)
            .enumerate()
            .filter(|(_, entry)| entry.key == key)
            .map(|(number, _)| number)
            .collect()
    }
}

impl Flow {
    pub(super) fn new(id: FlowId) -> Self {
        Self {
            id,
            context: Context::default(),
            log: Vec::new(),
            by_id: HashMap::new(),
            firings: Vec::new(),
            calls: HashMap::new(),
            anchors: Vec::new(),
            answered_at: None,
            limited: None,
            complete_through: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.log.len()
    }

    pub(super) fn has_root(&self) -> bool {
        self.by_id.contains_key(&self.id.root())
    }

    pub(super) fn has(&self, seq: u64) -> bool {
        self.number(seq).is_some()
    }

    /// Every completion of the flow up to this sequence is known.
    pub(super) fn complete_through(&self) -> u64 {
        self.complete_through
    }

    pub(super) fn read_through(&mut self, seq: u64) {
        self.complete_through = self.complete_through.max(seq);
    }

    fn number(&self, seq: u64) -> Option<usize> {
        self.log.binary_search_by_key(&seq, |entry| entry.seq).ok()
    }

    /// Adds the next completion of the log.
    pub(super) fn push(&mut self, index: &Index, limits: &Limits, logged: Logged) {
        let number = self.log.len();
        let key = index.key(&logged.concept, &logged.action);
        let site = self.calls.get(&logged.id).copied();
        let depth = site
            .and_then(|site| self.log.get(site.cause))
            .map_or(0, |cause| cause.depth + 1);
        if logged.id == self.id.root() {
            self.context = logged.context;
        }
        if index.is_respond(key) && !logged.body.is_failure() {
            self.answered_at.get_or_insert(number);
        }
        self.by_id.entry(logged.id).or_insert(number);
        self.complete_through = self.complete_through.max(logged.seq);
        self.log.push(Entry {
            seq: logged.seq,
            id: logged.id,
            key,
            body: logged.body,
            depth,
            due: Vec::new(),
        });
        if number + 1 >= limits.actions_per_flow {
            self.limited
                .get_or_insert((number, "the flow reached its limit of actions"));
        } else if depth >= limits.depth {
            self.limited
                .get_or_insert((number, "the flow reached its limit of depth"));
        }
        if self.limited.is_none() {
            self.fire(index, number, key);
            self.go_on(index, number, site);
        }
    }

    /// Finds the firings whose newest cause is this entry.
    fn fire(&mut self, index: &Index, number: usize, key: Option<KeyId>) {
        let (Some(key), Some(entry)) = (key, self.log.get(number)) else {
            return;
        };
        let candidates = index.candidates(key, &entry.body, &mut self.anchors);
        for at in candidates {
            for causes in matching::assignments(self, index, at, number) {
                let Some(sync) = index.syncs.get(at.sync) else { continue };
                let ids = causes
                    .iter()
                    .filter_map(|cause| self.log.get(*cause))
                    .map(|entry| entry.id);
                let id = FiringId::of(self.id, &sync.name, ids);
                self.firings.push(Firing {
                    id,
                    sync: at.sync,
                    causes,
                });
                let firing = self.firings.len() - 1;
                self.make_due(
                    number,
                    CallSite {
                        firing,
                        position: 0,
                        cause: number,
                        failed: None,
                    },
                );
            }
        }
    }

    /// Finds the next call of the sequence that this entry's action belongs to.
    fn go_on(&mut self, index: &Index, number: usize, site: Option<CallSite>) {
        let Some(site) = site else { return };
        let Some(sync) = self
            .firings
            .get(site.firing)
            .and_then(|firing| index.syncs.get(firing.sync))
        else {
            return;
        };
        let failed_now = self.log.get(number).is_some_and(|entry| entry.body.is_failure());
        let next = match (failed_now, site.failed) {
            (false, _) => CallSite {
                position: site.position + 1,
                cause: number,
                ..site
            },
            (true, None) => CallSite {
                position: sync.then.len(),
                cause: number,
                failed: Some(number),
                ..site
            },
            (true, Some(_)) => return,
        };
        let end = sync.then.len()
            + if next.failed.is_some() {
                sync.otherwise.as_ref().map_or(0, |o| o.calls.len())
            } else {
                0
            };
        if next.position < end {
            self.make_due(number, next);
        }
    }

    fn make_due(&mut self, number: usize, site: CallSite) {
        let Some(firing) = self.firings.get(site.firing) else {
            return;
        };
        let id = call_id(firing.id, site.position);
        if let Some(entry) = self.log.get_mut(number) {
            entry.due.push(id);
            self.calls.entry(id).or_insert(site);
        }
    }

    /// What the completion `seq` brings about and is not done yet.
    pub(super) fn invocations(&self, index: &Index, limits: &Limits, seq: u64) -> Vec<Invocation> {
        let Some(number) = self.number(seq) else {
            return Vec::new();
        };
        let Some(entry) = self.log.get(number) else {
            return Vec::new();
        };
        let limited = self.limited.filter(|(from, _)| *from <= number);
        let mut found: Vec<Invocation> = match limited {
            Some((_, why)) => self.limit_response(index, number, why).into_iter().collect(),
            None if entry.due.is_empty() => self.fault_response(index, number).into_iter().collect(),
            None => {
                let due = entry.due.iter().filter(|id| !self.by_id.contains_key(*id));
                due.filter_map(|id| self.invocation(index, *id)).collect()
            }
        };
        for invocation in &mut found {
            if invocation.body.len() > limits.body_bytes
                && let Some(response) = self.limit_response(index, number, "a body reached its limit of size")
            {
                *invocation = response;
            }
        }
        found.retain(|invocation| {
            invocation.body.len() <= limits.body_bytes && !self.by_id.contains_key(&invocation.id)
        });
        found
    }

    fn invocation(&self, index: &Index, id: ActionId) -> Option<Invocation> {
        let site = self.calls.get(&id)?;
        let firing = self.firings.get(site.firing)?;
        let sync = index.syncs.get(firing.sync)?;
        let call = call_at(sync, site.position)?;
        let frame = self.frame(sync, firing, site);
        let mut input = Object::with_capacity(call.args.len());
        for arg in &call.args {
            let value = arg.value.eval(&frame);
            if !(arg.omit_null && value.is_null()) {
                input.insert(arg.key.to_string(), value);
            }
        }
        let causes = firing
            .causes
            .iter()
            .filter_map(|cause| self.log.get(*cause))
            .map(|entry| entry.id)
            .collect();
        Some(Invocation {
            flow: self.id,
            concept: call.concept.clone(),
            action: call.action.clone(),
            id,
            body: encode(&input),
            sync: sync.name.clone(),
            causes,
            context: self.context.clone(),
        })
    }

    /// The variables as they are bound when the call at `site` is made.
    fn frame(&self, sync: &Sync, firing: &Firing, site: &CallSite) -> Vec<Option<Value>> {
        let mut bindings: Bindings = vec![None; sync.variables.len()];
        for (pattern, cause) in sync.when.iter().zip(&firing.causes) {
            if let Some(entry) = self.log.get(*cause) {
                matching::bind(pattern, &entry.body, &mut bindings);
            }
        }
        let mut frame: Vec<Option<Value>> = bindings.into_iter().map(Option::<&Value>::cloned).collect();
        let mut take = |outs: &[Out], entry: Option<&Entry>| {
            for out in outs {
                let value = entry.and_then(|entry| entry.body.output.get(&*out.key)).cloned();
                if let Some(slot) = frame.get_mut(out.slot) {
                    *slot = value;
                }
            }
        };
        for position in 0..site.position {
            let entry = self
                .by_id
                .get(&call_id(firing.id, position))
                .and_then(|number| self.log.get(*number));
            if let (Some(call), Some(entry)) = (call_at(sync, position), entry.filter(|entry| !entry.body.is_failure()))
            {
                take(&call.outs, Some(entry));
            }
        }
        if let (Some(otherwise), Some(failed)) = (&sync.otherwise, site.failed) {
            take(&otherwise.outs, self.log.get(failed));
        }
        frame
    }

    /// The router's own answer to a failure that no spec declares and no rule answers, so that nobody waits for nothing.
    fn fault_response(&self, index: &Index, number: usize) -> Option<Invocation> {
        let entry = self.log.get(number)?;
        let declared = index.can_fail(entry.key) && !entry.body.output.contains_key(FAULT);
        if !entry.body.is_failure() || declared || index.is_respond(entry.key) {
            return None;
        }
        let fault = Fault::of(&entry.body.output).unwrap_or(Fault::Invalid);
        let (concept, action) = index.name(entry.key);
        let error = match fault {
            Fault::Deadline => "The request was not finished in time.".to_owned(),
            Fault::Unavailable => "The service is not available now.".to_owned(),
            Fault::Invalid => format!("The action {concept}.{action} failed."),
        };
        self.answer(index, number, entry.id.fault_response(), fault.status(), error, "fault")
    }

    fn limit_response(&self, index: &Index, number: usize, why: &str) -> Option<Invocation> {
        let error = format!("The request was stopped: {why}.");
        self.answer(index, number, self.id.limit_response(), 508, error, "limit")
    }

    /// A respond to the flow's request, if the flow began with one and nothing up to `number` has answered it.
    fn answer(
        &self,
        index: &Index,
        number: usize,
        id: ActionId,
        status: u16,
        error: String,
        name: &str,
    ) -> Option<Invocation> {
        let root = self.log.first().filter(|root| index.is_request(root.key))?;
        let request = root.body.output.get("request")?.clone();
        if self.answered_at.is_some_and(|answered| answered <= number) {
            return None;
        }
        let input = Object::from_iter([
            ("request".to_owned(), request),
            ("status".to_owned(), Value::from(status)),
            (ERROR.to_owned(), Value::String(error)),
        ]);
        Some(Invocation {
            flow: self.id,
            concept: REQUESTING.into(),
            action: RESPOND.into(),
            id,
            body: encode(&input),
            sync: Arc::from(format!("Concert.{name}")),
            causes: self.log.get(number).map(|entry| entry.id).into_iter().collect(),
            context: self.context.clone(),
        })
    }
}

fn call_id(firing: FiringId, position: usize) -> ActionId {
    ActionId::of_call(firing, FRAME, u32::try_from(position).unwrap_or(u32::MAX))
}

fn call_at(sync: &Sync, position: usize) -> Option<&Call> {
    match sync.then.get(position) {
        Some(call) => Some(call),
        None => sync.otherwise.as_ref()?.calls.get(position - sync.then.len()),
    }
}
