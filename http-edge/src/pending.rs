//! Requests that wait for their response.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use concert_runtime::nats::HeaderMap;
use concert_wire::envelope::{Completion, Object};
use concert_wire::id::FlowId;
use concert_wire::subject::CompletionSubject;
use concert_wire::{RESPOND_WITH, header, is_of_router};
use tokio::sync::oneshot;

/// A completed action that responds to a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Respond {
    /// `true` if the input has the body under a key; otherwise further keys are the body.
    pub(crate) has_body: bool,
    /// `true` if the router itself responds, because no rule does.
    pub(crate) is_of_router: bool,
    /// Its input.
    pub(crate) input: Object,
}

impl Respond {
    pub(crate) fn new(
        subject: &CompletionSubject,
        headers: Option<&HeaderMap>,
        completion: Completion,
    ) -> Self {
        let sync = headers.and_then(|headers| headers.get(header::SYNC));
        Self {
            has_body: subject.action.as_str() == RESPOND_WITH,
            is_of_router: sync.is_some_and(|sync| is_of_router(sync.as_str())),
            input: completion.input,
        }
    }
}

/// Notification of a waiting request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PendingReply {
    /// The action that responds.
    Response(Respond),
    /// An action of the flow was dead-lettered.
    DeadLetter,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    flows: HashMap<FlowId, Vec<(u64, oneshot::Sender<PendingReply>)>>,
}

/// Waiting requests of this edge. Requests with the same `Idempotency-Key` wait for the same flow.
#[derive(Clone, Default)]
pub(crate) struct Pending(Arc<Mutex<Waiting>>);

/// A waiting request; dropping it ends the wait.
pub(crate) struct PendingRequest {
    pending: Pending,
    flow: FlowId,
    number: u64,
    /// Receives at most one reply.
    pub(crate) reply: oneshot::Receiver<PendingReply>,
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a request; call this before publishing it.
    pub(crate) fn wait_for(&self, flow: FlowId) -> PendingRequest {
        let (sender, reply) = oneshot::channel();
        let mut waiting = self.lock();
        waiting.next += 1;
        let number = waiting.next;
        waiting.flows.entry(flow).or_default().push((number, sender));
        PendingRequest { pending: self.clone(), flow, number, reply }
    }

    /// Notifies all requests waiting for a flow. Each request is notified once.
    pub(crate) fn notify(&self, flow: FlowId, reply: &PendingReply) {
        let waiting = self.lock().flows.remove(&flow).unwrap_or_default();
        for (_, sender) in waiting {
            // The send fails if the request has ended.
            drop(sender.send(reply.clone()));
        }
    }

    /// True if a request waits for a flow.
    pub(crate) fn has(&self, flow: FlowId) -> bool {
        self.lock().flows.contains_key(&flow)
    }
}

impl Drop for PendingRequest {
    fn drop(&mut self) {
        let mut waiting = self.pending.lock();
        if let Some(requests) = waiting.flows.get_mut(&self.flow) {
            requests.retain(|(number, _)| *number != self.number);
            if requests.is_empty() {
                waiting.flows.remove(&self.flow);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use concert_wire::id::ActionId;
    use concert_wire::{REQUESTING, subject};

    use super::*;

    #[test]
    fn response_without_the_mark_of_the_router_is_that_of_a_rule() {
        let flow = ActionId::injected("S", 1, 1).as_root();
        let subject = subject::completion(flow, REQUESTING, RESPOND_WITH, flow.root());
        let subject = CompletionSubject::parse(&subject).unwrap();
        let completion = Completion { input: Object::new(), output: Object::new() };
        let is_of_router = |headers: Option<&HeaderMap>| {
            let respond = Respond::new(&subject, headers, completion.clone());
            assert!(respond.has_body);
            respond.is_of_router
        };
        assert!(!is_of_router(None));
        for (sync, expected) in [
            ("Concert.fault", true),
            ("Concert.limit", true),
            ("ConcertRule", false),
            ("Concert", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::SYNC, sync);
            assert_eq!(is_of_router(Some(&headers)), expected, "{sync}");
        }
    }

    #[test]
    fn all_requests_of_a_flow_receive_the_first_reply() {
        let pending = Pending::default();
        let flow = ActionId::injected("S", 1, 1).as_root();
        let (mut one, mut two, gone) =
            (pending.wait_for(flow), pending.wait_for(flow), pending.wait_for(flow));
        drop(gone);
        let first = PendingReply::Response(Respond::default());
        pending.notify(flow, &first);
        pending.notify(flow, &PendingReply::DeadLetter);
        assert_eq!(one.reply.try_recv(), Ok(first.clone()));
        assert_eq!(two.reply.try_recv(), Ok(first));
        drop((one, two));
        assert!(!pending.has(flow));
        let last = pending.wait_for(flow);
        assert!(pending.has(flow));
        drop(last);
        assert!(!pending.has(flow));
    }
}
