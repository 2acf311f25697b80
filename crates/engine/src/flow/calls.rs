//! The effects of a completion: the calls that are due, and the responses of the router itself.

use std::sync::Arc;

use concert_wire::envelope::{ERROR, FAULT, Fault, Object, RETRY_AFTER, STATUS, encode};
use concert_wire::id::{ActionId, FiringId};
use concert_wire::position::Position;
use concert_wire::{REQUESTING, RESPOND, RESPOND_WITH, is_response};
use serde_json::Value;
use smallvec::SmallVec;

use super::{CallSite, Entry, Firing, Flow, Frames};
use crate::event::{Invocation, Limits};
use crate::frames::{self, Sequence};
use crate::index::Index;
use crate::matching::Bindings;
use crate::record::Halt;
use concert_lang::expr::{Expr, LargeOperand};
use concert_lang::program::{Call, Out, Sync};

impl Flow {
    /// Returns the calls that completion `seq` makes due and that are not completed.
    pub(crate) fn invocations(&self, limits: &Limits, seq: u64, mut emit: impl FnMut(Invocation)) {
        let index = &*self.rules;
        let Some((number, entry)) =
            self.number(seq).and_then(|number| Some((number, self.log.get(number)?)))
        else {
            return;
        };
        let mut emit = |found: Option<Invocation>| {
            let fits = |found: &Invocation| found.body.len() <= limits.body_bytes;
            let too_large = || {
                self.halt_response(index, number, &Halt::limit("a body reached the limit of size"))
            };
            let found =
                found.and_then(
                    |found| {
                        if fits(&found) { Some(found) } else { too_large().filter(fits) }
                    },
                );
            if let Some(found) = found.filter(|found| self.completion(found.id).is_none()) {
                emit(found);
            }
        };
        match self.halted_at(number) {
            Some(halt) => emit(self.halt_response(index, number, halt)),
            None => {
                emit(self.fault_response(index, number));
                for id in &entry.due {
                    emit(self.invocation(index, *id));
                }
            }
        }
    }

    /// The invocation of a due call, unless it is completed.
    fn invocation(&self, index: &Index, id: ActionId) -> Option<Invocation> {
        let action = self.actions.get(&id).filter(|action| action.entry.is_none())?;
        let site = action.site.as_ref()?;
        let firing = self.firings.get(site.firing)?;
        let sync = index.syncs.get(firing.sync)?;
        let call = call_at(sync, site.sequence, site.position)?;
        let bindings = self.bindings(sync, firing, site);
        let body = match self.fault_passed_on(site, call) {
            Some(fault) => {
                let failed = site.failed.and_then(|failed| self.log.get(failed));
                let wait = failed.and_then(|failed| failed.body.output.get(RETRY_AFTER));
                frames::answer_with_status(&call.args, &bindings, fault.status(), wait)
            }
            None => frames::body(&call.args, &bindings),
        };
        Some(Invocation {
            flow: self.id,
            concept: call.concept.clone(),
            action: call.action.clone(),
            id,
            body,
            sync: sync.name.clone(),
            rules: index.version.clone(),
            causes: self.ids(&firing.causes).collect(),
            position: self.position(site.cause),
            context: self.context.clone(),
        })
    }

    /// Checks that no argument of the call at `site` computes with a large value.
    pub(super) fn check_args(&self, site: &CallSite) -> Result<(), LargeOperand> {
        let firing = self.firings.get(site.firing);
        let found = firing.and_then(|firing| Some((firing, self.rules.syncs.get(firing.sync)?)));
        let Some((firing, sync)) = found else { return Ok(()) };
        match call_at(sync, site.sequence, site.position) {
            Some(call) if call.args.iter().any(|arg| arg.value.can_fail()) => {
                frames::check_args(&call.args, &self.bindings(sync, firing, site))
            }
            _ => Ok(()),
        }
    }

    /// The log positions of a call that this entry made due.
    fn position(&self, cause: usize) -> Option<Position> {
        Some(Position { root: self.log.first()?.seq, cause: self.log.get(cause)?.seq })
    }

    /// The variables of the call at `site`.
    fn bindings<'a>(&'a self, sync: &'a Sync, firing: &'a Firing, site: &CallSite) -> Bindings<'a> {
        let mut bindings = match &firing.frames {
            Frames::Matched => self.bound(sync, &firing.causes),
            Frames::Ended(ended) => ended
                .get(site.frame)
                .map(|ended| frames::bindings(&ended.frame))
                .unwrap_or_default(),
        };
        let mut take = |outs: &[Out], entry: &'a Entry| {
            for out in outs {
                if let Some(slot) = bindings.get_mut(out.slot) {
                    *slot = entry.body.output.get(&*out.key);
                }
            }
        };
        for (call, entry) in self.calls_before(sync, site).into_iter().rev() {
            take(&call.outs, entry);
        }
        let failed = site.failed.and_then(|failed| self.log.get(failed));
        if let (Some(otherwise), Some(failed)) = (&sync.otherwise, failed) {
            take(&otherwise.outs, failed);
        }
        bindings
    }

    /// The successful calls before the call at `site` in its sequence, with their completions, the
    /// last one first.
    fn calls_before<'a>(
        &'a self,
        sync: &'a Sync,
        site: &CallSite,
    ) -> SmallVec<[(&'a Call, &'a Entry); 4]> {
        let mut found = SmallVec::new();
        let mut next = *site;
        while next.position > 0 {
            // The completion of the previous call made each call due.
            let Some(entry) = self.log.get(next.cause) else { break };
            let Some(site) = self.actions.get(&entry.id).and_then(|action| action.site) else {
                break;
            };
            let call = call_at(sync, site.sequence, site.position);
            found.extend(call.filter(|_| !entry.body.is_failure()).map(|call| (call, entry)));
            next = site;
        }
        found
    }

    /// The failure at an entry that no spec declares and no rule handles.
    fn fault(&self, index: &Index, number: usize) -> Option<Fault> {
        let entry = self.log.get(number)?;
        let declared = index.can_fail(entry.key) && !entry.body.output.contains_key(FAULT);
        let is_left = entry.body.is_failure() && entry.due.is_empty() && entry.undecided.is_empty();
        if !is_left || declared || index.is_respond(entry.key) {
            return None;
        }
        Some(Fault::of(&entry.body.output).unwrap_or(Fault::Invalid))
    }

    /// The fault that led to this call of an `else`, if the call passes on the error. A fault
    /// decides nothing, so the status that the rule has for refusals does not apply to it.
    fn fault_passed_on(&self, site: &CallSite, call: &Call) -> Option<Fault> {
        let failed = self.log.get(site.failed?)?;
        let passes_on_error = is_response(&call.concept, &call.action)
            && call.args.iter().any(|arg| {
                &*arg.key == ERROR || (&*call.action == RESPOND_WITH && has_error(&arg.value))
            });
        Fault::of(&failed.body.output).filter(|_| passes_on_error)
    }

    /// Counts the router's own response to a failure as an expected action.
    pub(super) fn expect_fault_response(&mut self, index: &Index, number: usize) {
        if self.fault(index, number).is_some()
            && self.request(index).is_some()
            && !self.is_answered_by(number)
            && let Some(id) = self.log.get(number).map(|entry| entry.id.fault_response())
        {
            self.expect(id);
        }
    }

    /// The router's own response to a failure that no spec declares and no rule handles, so that
    /// the client does not wait in vain.
    fn fault_response(&self, index: &Index, number: usize) -> Option<Invocation> {
        let fault = self.fault(index, number)?;
        let entry = self.log.get(number)?;
        let (concept, action) = index.name(entry.key);
        let error = match fault {
            Fault::Deadline => "The request was not finished in time.".to_owned(),
            Fault::Unavailable => "The service is not available now.".to_owned(),
            Fault::Throttled => "Too many attempts have failed. Try again later.".to_owned(),
            Fault::Expired => "A large value of the request has expired. Send it again.".to_owned(),
            Fault::Invalid => format!("The action {concept}.{action} failed."),
        };
        self.answer(index, number, entry.id.fault_response(), fault.status(), error, "fault")
    }

    fn halt_response(&self, index: &Index, number: usize, halt: &Halt) -> Option<Invocation> {
        let error = format!("The request was stopped: {}.", halt.why);
        self.answer(index, number, self.id.limit_response(), halt.status, error, "limit")
    }

    /// The request that started the flow.
    fn request(&self, index: &Index) -> Option<&Value> {
        let root = self.log.first().filter(|root| index.is_request(root.key))?;
        root.body.output.get("request")
    }

    /// Returns whether the request has a response up to this entry.
    fn is_answered_by(&self, number: usize) -> bool {
        self.answered_at.is_some_and(|answered| answered <= number)
    }

    /// A response to the flow's request, if the flow has one and no response up to `number`.
    fn answer(
        &self,
        index: &Index,
        number: usize,
        id: ActionId,
        status: u16,
        error: String,
        name: &str,
    ) -> Option<Invocation> {
        let request = self.request(index)?.clone();
        if self.is_answered_by(number) {
            return None;
        }
        let mut input = Object::from_iter([
            ("request".to_owned(), request),
            (STATUS.to_owned(), Value::from(status)),
            (ERROR.to_owned(), Value::String(error)),
        ]);
        let wait = self.log.get(number).and_then(|entry| entry.body.output.get(RETRY_AFTER));
        input.extend(wait.map(|wait| (RETRY_AFTER.to_owned(), wait.clone())));
        Some(Invocation {
            flow: self.id,
            concept: REQUESTING.into(),
            action: RESPOND.into(),
            id,
            body: encode(&input),
            sync: Arc::from(format!("Concert.{name}")),
            rules: index.version.clone(),
            causes: self.log.get(number).map(|entry| entry.id).into_iter().collect(),
            position: self.position(number),
            context: self.context.clone(),
        })
    }
}

/// Returns whether a value is an object with an error, or contains one.
fn has_error(value: &Expr) -> bool {
    match value {
        Expr::Object(members) => {
            members.iter().any(|(key, value)| key == ERROR || has_error(value))
        }
        Expr::List(items) => items.iter().any(has_error),
        _ => false,
    }
}

/// The id of a call.
pub(super) fn call_id(firing: FiringId, frame: usize, position: usize) -> ActionId {
    let number = |number| u32::try_from(number).unwrap_or(u32::MAX);
    ActionId::of_call(firing, number(frame), number(position))
}

pub(super) fn call_at(sync: &Sync, sequence: Sequence, position: usize) -> Option<&Call> {
    match sequence {
        Sequence::Else(number) => sync.elses.get(number).filter(|_| position == 0),
        Sequence::Then => match sync.then.get(position) {
            Some(call) => Some(call),
            None => sync.otherwise.as_ref()?.calls.get(position - sync.then.len()),
        },
    }
}
