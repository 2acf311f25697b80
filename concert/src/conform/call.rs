//! Invocations of the kit.

use concert_runtime::clock;
use concert_runtime::nats::HeaderMap;
use concert_wire::id::{ActionId, FiringId, FlowId};
use concert_wire::{header, subject};
use serde_json::{Value, json};

use super::journal::INBOX;

/// Name of the fixture concept.
pub(super) const CONCEPT: &str = "Conformance";

/// An action to invoke.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) flow: FlowId,
    pub(super) id: ActionId,
    pub(super) action: &'static str,
    /// The body of the invocation.
    pub(super) body: Vec<u8>,
    deadline_ms: Option<u64>,
}

impl Call {
    /// An action as the root of a new flow.
    pub(super) fn root(action: &'static str, input: &Value) -> Self {
        Self::raw(action, input.to_string().into_bytes())
    }

    /// The same, with any body.
    pub(super) fn raw(action: &'static str, body: Vec<u8>) -> Self {
        let flow = clock::new_flow();
        Self { flow, id: flow.root(), action, body, deadline_ms: None }
    }

    /// An action that a rule calls in this flow.
    pub(super) fn in_flow(flow: FlowId, action: &'static str, input: &Value) -> Self {
        let id = ActionId::of_call(FiringId::of(flow, "Conform", [flow.root()]), 0, 0);
        Self { flow, id, ..Self::root(action, input) }
    }

    /// `add` with an entry of this name.
    pub(super) fn add(name: &str, entry: &str) -> Self {
        Self::root("add", &json!({ "name": name, "entry": entry }))
    }

    /// Sets the deadline, in milliseconds since 1970.
    pub(super) fn until(self, deadline_ms: u64) -> Self {
        Self { deadline_ms: Some(deadline_ms), ..self }
    }

    /// Subject of the invocation.
    pub(super) fn subject(&self) -> String {
        subject::invocation(CONCEPT, self.action, self.id)
    }

    /// Subject of the completion.
    pub(super) fn completion(&self) -> String {
        subject::completion(self.flow, CONCEPT, self.action, self.id)
    }

    /// Headers of the invocation.
    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::FLOW, self.flow.to_string());
        headers.insert(header::REPLY, format!("{INBOX}{}", self.id));
        if let Some(deadline_ms) = self.deadline_ms {
            headers.insert(header::DEADLINE, deadline_ms.to_string());
        }
        headers
    }
}
