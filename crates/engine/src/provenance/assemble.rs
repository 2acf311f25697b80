//! Assembles a flow's description from its log.

use std::collections::BTreeMap;

use concert_wire::envelope::{BODY, Completion, ERROR, FAULT, response_status};
use concert_wire::id::{ActionId, FlowId};
use concert_wire::traceparent::Traceparent;
use concert_wire::work::Work;
use concert_wire::{REQUEST, REQUESTING, RESERVED_CONCEPT, RESPOND_WITH, is_response};
use serde_json::Value;

use super::near::near_misses;
use super::types::{
    Action, By, Dead, Firing, Flow, Frame, Halt, Outcome, RootKind, Source, State, Summary,
    Undecided,
};
use super::{DeadLetter, Rules, Stored};
use crate::event::Logged;
use crate::flow::{Folded, TracedCall};
use concert_lang::program::{Program, queries};

/// Maximum reported work that may set the start of a flow, by which lists are sorted.
const LONGEST_WORK_US: u64 = 3_600_000_000;

/// The description of a flow under these rules and limits, from its log. The order of messages and
/// dead letters, and duplicates among them, do not matter.
///
/// `None` if the flow's root is missing.
pub fn flow(
    id: FlowId,
    messages: &[Stored],
    rules: &Rules,
    dead: &[DeadLetter],
    source: Source,
) -> Option<Flow> {
    assemble(id, messages, rules, dead, source, true)
}

/// Like [`flow()`], without near misses, which is faster.
pub fn outline(
    id: FlowId,
    messages: &[Stored],
    rules: &Rules,
    dead: &[DeadLetter],
) -> Option<Flow> {
    assemble(id, messages, rules, dead, Source::Log, false)
}

fn assemble(
    id: FlowId,
    messages: &[Stored],
    rules: &Rules,
    dead: &[DeadLetter],
    source: Source,
    near: bool,
) -> Option<Flow> {
    let program = &rules.program;
    let logged: Vec<Logged> = messages.iter().filter_map(|message| message.logged(id)).collect();
    let stored: BTreeMap<u64, &Stored> =
        messages.iter().map(|message| (message.seq, message)).collect();
    let root = logged
        .iter()
        .filter(|logged| logged.id == id.root())
        .min_by_key(|logged| logged.seq)?
        .clone();
    let folded = Folded::new(&rules.ready, &rules.limits, id, logged.clone());
    let trace = folded.trace();
    let time = |seq: u64| stored.get(&seq).map_or(0, |message| message.time_us);
    let calls: BTreeMap<ActionId, &TracedCall> =
        trace.calls.iter().map(|call| (call.id, call)).collect();
    let letters: BTreeMap<ActionId, &DeadLetter> =
        dead.iter().map(|letter| (letter.action, letter)).collect();
    let letter = |id: ActionId| {
        letters.get(&id).map(|letter| Dead {
            reason: letter.reason.clone(),
            attempts: letter.attempts,
            at_us: letter.at_us,
        })
    };
    let mut actions = completed(&logged, &calls, &stored);
    for call in &trace.calls {
        if actions.iter().any(|action| action.id == call.id.to_string()) {
            continue;
        }
        let dead = letter(call.id);
        let input = call.in_flight.as_deref().and_then(|body| serde_json::from_slice(body).ok());
        actions.push(Action {
            id: call.id.to_string(),
            concept: call.concept.to_string(),
            action: call.action.to_string(),
            state: if dead.is_some() { State::Dead } else { State::InFlight },
            outcome: None,
            input,
            output: None,
            asked_us: time(call.cause_seq),
            completed_us: None,
            seq: None,
            work: None,
            by: Some(by(call)),
            dead,
        });
    }
    let path = text(&root.body, "path").filter(|_| is_request(&root));
    let answer = answer(&logged, &root);
    let status = answer.map(|answer| response_status(&answer.body.input));
    let answered_by =
        answer.and_then(|answer| calls.get(&answer.id)).map(|call| call.sync.to_string());
    let is_request = is_request(&root);
    let of_root = messages.iter().find(|message| message.seq == root.seq);
    let traceparent = of_root.and_then(|message| message.traceparent.as_deref());
    Some(Flow {
        flow: id.to_string(),
        root: root.id.to_string(),
        root_kind: if is_request { RootKind::Request } else { RootKind::Injected },
        began_us: began_us(&actions, &root).unwrap_or_else(|| time(root.seq)),
        ended_us: messages.iter().map(|message| message.time_us).max().unwrap_or_default(),
        outcome: outcome(&actions, is_request, status),
        path,
        status,
        answered_by,
        rules: program.version.clone(),
        source,
        trace: traceparent.and_then(trace_of),
        truncated: false,
        firings: trace
            .firings
            .iter()
            .map(|firing| Firing {
                id: firing.id.to_string(),
                sync: firing.sync.to_string(),
                at_us: time(firing.seq),
                causes: firing.causes.iter().map(ToString::to_string).collect(),
                recorded: firing.recorded,
                work: firing
                    .recorded
                    .then(|| asked(program, &firing.sync, work(&stored, firing.seq)?))
                    .flatten(),
                frames: firing
                    .frames
                    .iter()
                    .map(|frame| Frame {
                        bindings: frame.bindings.clone(),
                        ended: if frame.ended_in_else.is_some() { "else" } else { "then" }
                            .to_owned(),
                        otherwise: frame.ended_in_else,
                        calls: frame.calls.iter().map(ToString::to_string).collect(),
                    })
                    .collect(),
            })
            .collect(),
        undecided: trace
            .questions
            .iter()
            .map(|question| Undecided {
                sync: question.sync.to_string(),
                causes: question.causes.iter().map(ToString::to_string).collect(),
                decided: question.decided,
            })
            .collect(),
        near_misses: if near { near_misses(program, &folded, &trace, &logged) } else { Vec::new() },
        halt: trace
            .halted
            .as_ref()
            .map(|(_, status, why)| Halt { status: *status, why: why.to_string() }),
        actions,
    })
}

/// The completed actions, in the order of the log; only the first completion of each.
fn completed(
    logged: &[Logged],
    calls: &BTreeMap<ActionId, &TracedCall>,
    stored: &BTreeMap<u64, &Stored>,
) -> Vec<Action> {
    let time = |seq: u64| stored.get(&seq).map_or(0, |message| message.time_us);
    let mut first: BTreeMap<u64, &Logged> = BTreeMap::new();
    for one in logged.iter().filter(|one| !is_record(one)) {
        let earlier = logged.iter().any(|other| other.id == one.id && other.seq < one.seq);
        if !earlier {
            first.insert(one.seq, one);
        }
    }
    let actions = first.into_values().map(|one| {
        let call = calls.get(&one.id);
        let work = work(stored, one.seq);
        // The log does not record when an action was injected. Its worker reports how long it took.
        let by_hand = || {
            time(one.seq)
                .saturating_sub(work.as_ref().map_or(0, |work| work.took_us.min(LONGEST_WORK_US)))
        };
        Action {
            id: one.id.to_string(),
            concept: one.concept.to_string(),
            action: one.action.to_string(),
            state: State::Completed,
            outcome: Some(ended(&one.body).to_owned()),
            input: Some(one.body.input.clone()),
            output: Some(one.body.output.clone()),
            asked_us: call.map_or_else(by_hand, |call| time(call.cause_seq)),
            completed_us: Some(time(one.seq)),
            seq: Some(one.seq),
            work,
            by: call.map(|call| by(call)),
            dead: None,
        }
    });
    actions.collect()
}

/// The reported work of a message.
fn work(stored: &BTreeMap<u64, &Stored>, seq: u64) -> Option<Work> {
    stored.get(&seq)?.work.as_deref()?.parse().ok()
}

/// The part of a record's queries that belongs to this rule. All rules at a completion share the
/// record.
fn asked(program: &Program, sync: &str, mut work: Work) -> Option<Work> {
    let sync = program.syncs.iter().find(|of| &*of.name == sync)?;
    let own = queries(&sync.steps);
    // The parts after a query are the time that its worker waited for others.
    let mut is_own = false;
    work.parts.retain(|part| {
        if let Some(question) = part.query() {
            let name = (question.concept, question.query);
            is_own = own.iter().any(|query| (&*query.concept, &*query.name) == name);
        }
        is_own
    });
    Some(work)
}

fn began_us(actions: &[Action], root: &Logged) -> Option<u64> {
    let root = actions.iter().find(|action| action.seq == Some(root.seq))?;
    Some(root.asked_us)
}

fn by(call: &TracedCall) -> By {
    By {
        sync: call.sync.to_string(),
        firing: call.site.map(|(firing, ..)| firing.to_string()),
        frame: call.site.map_or(0, |(_, frame, _)| frame),
        call: call.site.map_or(0, |(.., call)| call),
        cause_seq: call.cause_seq,
    }
}

/// Whether it is a record of the router, not an action.
fn is_record(logged: &Logged) -> bool {
    &*logged.concept == RESERVED_CONCEPT
}

fn is_request(logged: &Logged) -> bool {
    &*logged.concept == REQUESTING && &*logged.action == REQUEST
}

fn ended(body: &Completion) -> &'static str {
    match (body.is_failure(), body.output.contains_key(FAULT)) {
        (false, _) => "success",
        (true, false) => "refusal",
        (true, true) => "fault",
    }
}

fn text(body: &Completion, key: &str) -> Option<String> {
    body.input.get(key)?.as_str().map(str::to_owned)
}

/// The first successful response to the request.
fn answer<'a>(logged: &'a [Logged], root: &Logged) -> Option<&'a Logged> {
    let responds = logged.iter().filter(|one| {
        is_response(&one.concept, &one.action) && is_request(root) && !one.body.is_failure()
    });
    responds.min_by_key(|one| one.seq)
}

fn outcome(actions: &[Action], is_request: bool, status: Option<u16>) -> Outcome {
    if actions.iter().any(|action| action.state == State::Dead) {
        return Outcome::Dead;
    }
    let in_flight = actions.iter().any(|action| action.state == State::InFlight);
    match status {
        Some(500..) => Outcome::Fault,
        Some(400..) => Outcome::Failed,
        _ if in_flight => Outcome::Open,
        Some(_) => Outcome::Succeeded,
        None if is_request => Outcome::Open,
        None => {
            let ended =
                |word: &str| actions.iter().any(|action| action.outcome.as_deref() == Some(word));
            match (ended("fault"), ended("refusal")) {
                (true, _) => Outcome::Fault,
                (false, true) => Outcome::Failed,
                (false, false) => Outcome::Succeeded,
            }
        }
    }
}

/// The trace id as hexadecimal digits.
fn trace_of(traceparent: &str) -> Option<String> {
    let traceparent: Traceparent = traceparent.parse().ok()?;
    Some(traceparent.trace.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Flow {
    /// The flow's row in a list.
    pub fn summary(&self) -> Summary {
        let root = self.actions.iter().find(|action| action.id == self.root);
        let answered = self.actions.iter().find(|action| {
            is_response(&action.concept, &action.action)
                && action.outcome.as_deref() == Some("success")
        });
        let text = |object: &Option<serde_json::Map<String, Value>>| {
            object.as_ref()?.get(ERROR)?.as_str().map(str::to_owned)
        };
        let error = match answered {
            Some(answer) if answer.action == RESPOND_WITH => {
                let body = answer.input.as_ref().and_then(|input| input.get(BODY));
                body.and_then(|body| body.get(ERROR)?.as_str().map(str::to_owned))
            }
            Some(answer) => text(&answer.input),
            None => root.and_then(|root| text(&root.output)),
        };
        let until = answered.and_then(|answer| answer.completed_us).unwrap_or(self.ended_us);
        Summary {
            flow: self.flow.clone(),
            path: self.path.clone(),
            root: root.map(|root| format!("{}.{}", root.concept, root.action)).unwrap_or_default(),
            began_us: self.began_us,
            took_us: until.saturating_sub(self.began_us),
            outcome: self.outcome,
            status: self.status,
            answered_by: self.answered_by.clone(),
            actions: self.actions.len(),
            concepts: self.actions.iter().map(|action| action.concept.clone()).collect(),
            syncs: self.firings.iter().map(|firing| firing.sync.to_string()).collect(),
            trace: self.trace.clone(),
            error,
            cursor: String::new(),
        }
    }
}
