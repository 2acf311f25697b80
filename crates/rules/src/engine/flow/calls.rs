//! What a flow asks for now: the calls that are due, and the router's own answers.

use std::sync::Arc;

use concert_wire::envelope::{ERROR, FAULT, Fault, Object, encode};
use concert_wire::id::{ActionId, FiringId};
use concert_wire::{REQUESTING, RESPOND};
use serde_json::Value;

use super::{CallSite, Entry, Firing, Flow, Frames};
use crate::engine::frames::{self, Sequence};
use crate::engine::index::Index;
use crate::engine::matching::Bindings;
use crate::engine::record::Halt;
use crate::engine::{Invocation, Limits};
use crate::program::{Call, Out, Sync};

impl Flow {
    /// What the completion `seq` brings about and is not done yet.
    pub(in crate::engine) fn invocations(&self, limits: &Limits, seq: u64) -> Vec<Invocation> {
        let index = &*self.rules;
        let Some(number) = self.number(seq) else {
            return Vec::new();
        };
        let Some(entry) = self.log.get(number) else {
            return Vec::new();
        };
        let mut found: Vec<Invocation> = match self.halted_at(number) {
            Some(halt) => self.halt_response(index, number, halt).into_iter().collect(),
            None if entry.due.is_empty() && entry.undecided.is_empty() => {
                self.fault_response(index, number).into_iter().collect()
            }
            None => {
                let due = entry.due.iter().filter(|id| !self.by_id.contains_key(*id));
                due.filter_map(|id| self.invocation(index, *id)).collect()
            }
        };
        for invocation in &mut found {
            if invocation.body.len() > limits.body_bytes
                && let Some(response) =
                    self.halt_response(index, number, &Halt::limit("a body reached its limit of size"))
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
        let call = call_at(sync, site.sequence, site.position)?;
        let body = frames::body(&call.args, &self.bindings(sync, firing, site));
        Some(Invocation {
            flow: self.id,
            concept: call.concept.clone(),
            action: call.action.clone(),
            id,
            body,
            sync: sync.name.clone(),
            rules: index.version.clone(),
            causes: self.ids(&firing.causes),
            context: self.context.clone(),
        })
    }

    /// The variables as they are bound when the call at `site` is made.
    fn bindings<'a>(&'a self, sync: &Sync, firing: &'a Firing, site: &CallSite) -> Bindings<'a> {
        let mut bindings = match &firing.frames {
            Frames::Matched => self.bound(sync, &firing.causes),
            Frames::Ended(ended) => ended
                .get(site.frame)
                .map(|ended| frames::bindings(&ended.frame))
                .unwrap_or_default(),
        };
        let mut take = |outs: &[Out], entry: Option<&'a Entry>| {
            for out in outs {
                let value = entry.and_then(|entry| entry.body.output.get(&*out.key));
                if let Some(slot) = bindings.get_mut(out.slot) {
                    *slot = value;
                }
            }
        };
        for position in 0..site.position {
            let Some(call) = call_at(sync, site.sequence, position).filter(|call| !call.outs.is_empty()) else {
                continue;
            };
            let entry = self
                .by_id
                .get(&call_id(firing.id, site.frame, position))
                .and_then(|number| self.log.get(*number));
            if let Some(entry) = entry.filter(|entry| !entry.body.is_failure()) {
                take(&call.outs, Some(entry));
            }
        }
        if let (Some(otherwise), Some(failed)) = (&sync.otherwise, site.failed) {
            take(&otherwise.outs, self.log.get(failed));
        }
        bindings
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

    fn halt_response(&self, index: &Index, number: usize, halt: &Halt) -> Option<Invocation> {
        let error = format!("The request was stopped: {}.", halt.why);
        self.answer(index, number, self.id.limit_response(), halt.status, error, "limit")
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
            rules: index.version.clone(),
            causes: self.log.get(number).map(|entry| entry.id).into_iter().collect(),
            context: self.context.clone(),
        })
    }
}

/// The id of a call.
pub(super) fn call_id(firing: FiringId, frame: usize, position: usize) -> ActionId {
    let number = |number| u32::try_from(number).unwrap_or(u32::MAX);
    ActionId::of_call(firing, number(frame), number(position))
}

fn call_at(sync: &Sync, sequence: Sequence, position: usize) -> Option<&Call> {
    match sequence {
        Sequence::Else(number) => sync.elses.get(number).filter(|_| position == 0),
        Sequence::Then => match sync.then.get(position) {
            Some(call) => Some(call),
            None => sync.otherwise.as_ref()?.calls.get(position - sync.then.len()),
        },
    }
}
