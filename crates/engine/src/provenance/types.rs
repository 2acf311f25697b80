//! The description of a flow, for the CLI, the console and the archive. Times are microseconds
//! since 1970, from the NATS server.

use std::collections::BTreeSet;

use concert_wire::work::Work;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Outcome of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The response to a request is below 400; or an injected action succeeded, and no later action
    /// failed.
    Succeeded,
    /// The response to a request is 4xx; or an injected action was refused.
    Failed,
    /// The response to a request is 5xx; or an injected action ended in a fault.
    Fault,
    /// An action is in flight, or the request has no response.
    Open,
    /// An action was dead-lettered.
    Dead,
}

/// Kind of the first action of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootKind {
    /// An HTTP request.
    Request,
    /// An injected action.
    Injected,
}

/// Source of a flow's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The log.
    Log,
    /// The archive, because the flow has left the log.
    Archive,
}

/// State of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Completed.
    Completed,
    /// Called, and not completed.
    InFlight,
    /// Dead-lettered.
    Dead,
}

/// A flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// Its id.
    pub flow: String,
    /// The path of its request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The id of its first action.
    pub root: String,
    /// The kind of its first action.
    pub root_kind: RootKind,
    /// When its request was stored, or when the worker started its first action.
    pub began_us: u64,
    /// When its last message was stored.
    pub ended_us: u64,
    /// The outcome.
    pub outcome: Outcome,
    /// The HTTP status of the response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The rule that called the response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<String>,
    /// The version of the rules that it runs under.
    pub rules: String,
    /// The source of this data.
    pub source: Source,
    /// The trace id: 32 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// `true` if bodies were left out because the description is larger than one message.
    #[serde(default)]
    pub truncated: bool,
    /// Its actions in the order of the log, with those that are not completed at the end.
    pub actions: Vec<Action>,
    /// The firings, in order.
    pub firings: Vec<Firing>,
    /// Matches of rules with queries, without a record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undecided: Vec<Undecided>,
    /// The rules that nearly fired.
    pub near_misses: Vec<NearMiss>,
    /// The reason why nothing more fires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halt: Option<Halt>,
}

impl Flow {
    /// Removes inputs, outputs and bindings, so that the rest fits into one message.
    pub fn leave_bodies_out(&mut self) {
        self.truncated = true;
        for action in &mut self.actions {
            (action.input, action.output) = (None, None);
        }
        for frame in self.firings.iter_mut().flat_map(|firing| &mut firing.frames) {
            frame.bindings.clear();
        }
    }
}

/// An action of a flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// Its id.
    pub id: String,
    /// The concept.
    pub concept: String,
    /// Its name.
    pub action: String,
    /// The state.
    pub state: State,
    /// `success`, `refusal` or `fault`, if it is completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// The input; secrets are sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Map<String, Value>>,
    /// The output, if it is completed; secrets are sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Map<String, Value>>,
    /// When its cause was stored; for a request, its own time. For an injected action, when its
    /// worker started it, if the worker reports how long it took.
    pub asked_us: u64,
    /// When its completion was stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_us: Option<u64>,
    /// The sequence of its completion in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The worker's processing time, and its waits for other services, if the worker reports them.
    /// Processing ends about when the completion is stored; the time before it was spent in the
    /// queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<Work>,
    /// The caller. A root and an injected action have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
    /// The reason, if it was dead-lettered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead: Option<Dead>,
}

impl Action {
    /// The time in the queue, in microseconds, if the worker reports its processing time.
    pub fn waited_us(&self) -> Option<u64> {
        let work = self.work.as_ref()?;
        let under_way_us = self.completed_us?.saturating_sub(self.asked_us);
        Some(under_way_us.saturating_sub(work.took_us))
    }
}

/// The caller of an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct By {
    /// The rule; `Concert.fault` and `Concert.limit` for responses of the router itself.
    pub sync: String,
    /// The firing; a response of the router itself has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firing: Option<String>,
    /// The index of the firing's frame.
    #[serde(default)]
    pub frame: usize,
    /// The index of the call in its sequence.
    #[serde(default)]
    pub call: usize,
    /// The sequence of the completion that made the call due.
    pub cause_seq: u64,
}

/// Details of a dead-lettered action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dead {
    /// The reason.
    pub reason: String,
    /// The number of attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u64>,
    /// When it was dead-lettered.
    pub at_us: u64,
}

/// A firing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Firing {
    /// Its id.
    pub id: String,
    /// The rule.
    pub sync: String,
    /// When the newest of its causes, or its firing record, was stored.
    pub at_us: u64,
    /// The actions that the rule's patterns matched, in order.
    pub causes: Vec<String>,
    /// `true` if a firing record holds it, because its rule has queries.
    #[serde(default)]
    pub recorded: bool,
    /// The time that the router queried for the completion that made it due, for all rules, until
    /// the record was stored. Its parts are the queries of this rule, such as
    /// `Sessioning._getUser`, each followed by the waits of its worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<Work>,
    /// Its frames.
    pub frames: Vec<Frame>,
}

/// A frame of a firing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// The variables, by name.
    pub bindings: Map<String, Value>,
    /// `then`, or `else` for the `else` of a step of `where`.
    pub ended: String,
    /// The index of that step's `else` in the rule.
    #[serde(rename = "else", default, skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<usize>,
    /// The actions that it called so far, in order.
    pub calls: Vec<String>,
}

/// A match of a rule with queries, without a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undecided {
    /// The rule.
    pub sync: String,
    /// The actions that the rule's patterns matched, in order.
    pub causes: Vec<String>,
    /// `true` if it is decided that it does not fire.
    pub decided: bool,
}

/// A near miss: a rule that matched partly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NearMiss {
    /// The rule.
    pub sync: String,
    /// The actions that its patterns matched.
    pub matched: Vec<Matched>,
    /// The part that did not match.
    pub failed: Failed,
}

/// An action that a pattern matched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matched {
    /// The pattern's index in `when`.
    pub pattern: usize,
    /// The action.
    pub action: String,
}

/// The part of a rule that did not match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The index of the pattern in `when`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<usize>,
    /// The index of the step in `where`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
    /// The pattern in rule syntax.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// The nearest action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The key that did not match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The reason, as a sentence.
    pub why: String,
}

/// The reason why nothing more fires in a flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halt {
    /// The HTTP status of the response to its request.
    pub status: u16,
    /// The reason.
    pub why: String,
}

/// The explanation why a rule did not fire in a flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WhyNot {
    /// The rule.
    pub sync: String,
    /// `true` if it fired.
    pub fired: bool,
    /// Its firings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firings: Vec<String>,
    /// The actions that its patterns matched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matched: Vec<Matched>,
    /// The part that did not match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Failed>,
    /// The explanation as a sentence.
    pub text: String,
}

/// A flow's row in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Its id.
    pub flow: String,
    /// The path of its request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Its first action: `Concept.action`.
    pub root: String,
    /// When its request was stored, or when the worker started its first action.
    pub began_us: u64,
    /// The time from then to its response, or to its last message, in microseconds.
    pub took_us: u64,
    /// The outcome.
    pub outcome: Outcome,
    /// The HTTP status of the response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The rule that called the response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<String>,
    /// The number of its actions.
    pub actions: usize,
    /// The concepts of its actions.
    pub concepts: BTreeSet<String>,
    /// The rules that fired.
    #[serde(default)]
    pub syncs: BTreeSet<String>,
    /// The trace id: 32 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// The error of the response, or of the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The position at which the next page of a list begins.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cursor: String,
}

impl Summary {
    /// The text that a search matches, in lower case: ids, path, root, status, error, and the rules
    /// that fired.
    pub fn searched(&self) -> String {
        let status = self.status.map(|status| status.to_string());
        let texts = [Some(&self.flow), self.path.as_ref(), Some(&self.root)];
        let texts =
            texts.into_iter().chain([status.as_ref(), self.error.as_ref(), self.trace.as_ref()]);
        let texts: Vec<&str> = texts
            .flatten()
            .chain(&self.answered_by)
            .chain(&self.syncs)
            .map(String::as_str)
            .collect();
        texts.join("\n").to_lowercase()
    }
}
