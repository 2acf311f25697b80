//! The form in which a flow is told, the same for commands, page and archive. Times are
//! microseconds since 1970, as the log's server stamped them.

use std::collections::BTreeSet;

use concert_wire::work::Work;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What became of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A request was answered below 400; an injected action succeeded, and nothing that followed
    /// failed.
    Succeeded,
    /// A request was answered with 4xx; an injected action was refused.
    Failed,
    /// A request was answered with 5xx; an injected action ended in a fault.
    Fault,
    /// Something is in flight, or the request is not answered.
    Open,
    /// An action was given up.
    Dead,
}

/// How a flow began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootKind {
    /// With an HTTP request.
    Request,
    /// With an action that was asked for by hand.
    Injected,
}

/// Where a flow was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// From the log.
    Log,
    /// From the archive, since it is older than the log.
    Archive,
}

/// How far an action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It happened.
    Completed,
    /// The rules ask for it, and it has not happened yet.
    InFlight,
    /// It was given up.
    Dead,
}

/// A flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// Its id.
    pub flow: String,
    /// The path of the request that it began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The id of the action that it began with.
    pub root: String,
    /// How it began.
    pub root_kind: RootKind,
    /// When its request was stored, or the worker took the action that it began with.
    pub began_us: u64,
    /// When the last of its messages was stored.
    pub ended_us: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// The HTTP status of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The rule whose call answered the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<String>,
    /// The version of the rules that it runs under.
    pub rules: String,
    /// Where it was read.
    pub source: Source,
    /// Its trace: 32 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// Whether bodies were left out, since the whole is larger than one message.
    #[serde(default)]
    pub truncated: bool,
    /// Its actions in the order of the log; those that have not happened last.
    pub actions: Vec<Action>,
    /// What fired, in order.
    pub firings: Vec<Firing>,
    /// Matches of rules that ask queries, of which nothing is written down.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undecided: Vec<Undecided>,
    /// The rules that nearly fired.
    pub near_misses: Vec<NearMiss>,
    /// Why nothing more fires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halt: Option<Halt>,
}

impl Flow {
    /// Leaves out what an action was given and gave, and what frames hold, so that the rest can be
    /// told.
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
    /// Whose action it is.
    pub concept: String,
    /// Its name.
    pub action: String,
    /// How far it is.
    pub state: State,
    /// `success`, `refusal` or `fault`, once it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Its input; secrets are sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Map<String, Value>>,
    /// Its output, once it happened; secrets are sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Map<String, Value>>,
    /// When what asked for it was stored; a request's own time. What was asked for by hand was so
    /// no later than when its worker took it, which is told here if the worker says how long it
    /// took.
    pub asked_us: u64,
    /// When its completion was stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_us: Option<u64>,
    /// The sequence of its completion in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// How long its worker took, and what of it was waiting for others, if the worker said so. The
    /// work ended about when the completion was stored; what was before it is the wait in the
    /// queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<Work>,
    /// What asked for it; a root, and what was injected into the flow, have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
    /// Why it was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead: Option<Dead>,
}

impl Action {
    /// How long it waited for its worker, in microseconds, if the worker told how long it took.
    pub fn waited_us(&self) -> Option<u64> {
        let work = self.work.as_ref()?;
        let under_way_us = self.completed_us?.saturating_sub(self.asked_us);
        Some(under_way_us.saturating_sub(work.took_us))
    }
}

/// What asked for an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct By {
    /// The rule; `Concert.fault` and `Concert.limit` are the router's own answers.
    pub sync: String,
    /// The firing; the router's own answers have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firing: Option<String>,
    /// The number of the firing's frame.
    #[serde(default)]
    pub frame: usize,
    /// The number of the call in its sequence.
    #[serde(default)]
    pub call: usize,
    /// The sequence of the completion that made it due.
    pub cause_seq: u64,
}

/// Why an action was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dead {
    /// Why no retry helps.
    pub reason: String,
    /// How often it was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u64>,
    /// When it was given up.
    pub at_us: u64,
}

/// A firing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Firing {
    /// Its id.
    pub id: String,
    /// The rule.
    pub sync: String,
    /// When the newest of its causes was stored, or the record that it is written down in.
    pub at_us: u64,
    /// The actions that the rule's patterns took, in their order.
    pub causes: Vec<String>,
    /// Whether it is written down in the log, since its rule asks queries.
    #[serde(default)]
    pub recorded: bool,
    /// How long the router asked queries for the completion that made it due, for all rules that
    /// asked then, up to when the record was stored. Its parts are the questions of this rule,
    /// `Sessioning._getUser`, and behind each what the worker that answered it waited for.
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
    /// `then`, or `else`: the `else` of a step of `where`.
    pub ended: String,
    /// The number of that step's `else`, as they stand in the rule.
    #[serde(rename = "else", default, skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<usize>,
    /// The actions that it asked for so far, in their order.
    pub calls: Vec<String>,
}

/// A match of a rule that asks queries, of which nothing is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undecided {
    /// The rule.
    pub sync: String,
    /// The actions that its patterns took, in their order.
    pub causes: Vec<String>,
    /// Whether it is decided that nothing comes of it.
    pub decided: bool,
}

/// A rule that nearly fired.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NearMiss {
    /// The rule.
    pub sync: String,
    /// What its patterns took before it stopped.
    pub matched: Vec<Matched>,
    /// What it stopped at.
    pub failed: Failed,
}

/// What a pattern took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matched {
    /// The pattern's number in `when`.
    pub pattern: usize,
    /// The action.
    pub action: String,
}

/// What a rule stopped at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The number of the pattern in `when`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<usize>,
    /// The number of the step in `where`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
    /// The pattern as it would be written.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// The action that came nearest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The key that it failed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Why, in a sentence.
    pub why: String,
}

/// Why nothing more fires in a flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halt {
    /// The HTTP status of the answer to its request.
    pub status: u16,
    /// Why.
    pub why: String,
}

/// The answer to why a rule did not fire in a flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WhyNot {
    /// The rule.
    pub sync: String,
    /// Whether it did fire.
    pub fired: bool,
    /// Its firings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firings: Vec<String>,
    /// What its patterns took before it stopped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matched: Vec<Matched>,
    /// What it stopped at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Failed>,
    /// The whole, in a sentence.
    pub text: String,
}

/// A flow in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Its id.
    pub flow: String,
    /// The path of the request that it began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The action that it began with: `Concept.action`.
    pub root: String,
    /// When its request was stored, or the worker took the action that it began with.
    pub began_us: u64,
    /// From then to its answer, or to the last of its messages.
    pub took_us: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// The HTTP status of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The rule whose call answered the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<String>,
    /// How many actions it has.
    pub actions: usize,
    /// Whose actions they are.
    pub concepts: BTreeSet<String>,
    /// The rules that fired.
    #[serde(default)]
    pub syncs: BTreeSet<String>,
    /// The trace that it belongs to: 32 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// What the answer, or the root, failed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Where the next page of a list begins.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cursor: String,
}

impl Summary {
    /// What a row is searched for a text in, in small letters: its ids, path, root, status and
    /// error, and the rules that fired.
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
