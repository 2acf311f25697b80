//! One run: the engine, driven by a world until no calls are left.

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroUsize;

use concert_wire::envelope::{Completion, Object};
use concert_wire::id::{ActionId, FlowId};
use concert_wire::{FIRED, REQUEST, REQUESTING, RESERVED_CONCEPT, is_response};
use serde_json::Value;

use super::choices::Choices;
use super::moments::Moment;
use super::questions::{SITE, Site};
use super::scope::{Scope, name};
use super::world::World;
use concert_engine::{Context, Effect, Engine, Event, Invocation, Limits, Logged, Record};

/// Maximum number of completions per run; a longer run is cut.
pub(crate) const ACTIONS_PER_RUN: usize = 64;

/// Order in which actions complete, and whether other flows interfere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Schedule {
    /// In the order of the calls.
    FirstInFirstOut,
    /// In the order of the calls; between two actions, other flows may change the results of
    /// queries.
    AmongOthers,
    /// In reverse order of the calls.
    #[cfg(test)]
    LastInFirstOut,
}

/// Result of a run.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// All events.
    pub(crate) moments: Vec<Moment>,
    /// Events where another option than the first one was chosen.
    pub(crate) deviations: Vec<Moment>,
    /// The calls that responded to the request.
    pub(crate) answers: Vec<(usize, Site)>,
    /// Rules that made a call.
    pub(crate) fired: BTreeSet<usize>,
    /// Completed actions, and whether they failed.
    pub(crate) ended: BTreeSet<(String, bool)>,
    /// Number of completed actions.
    pub(crate) actions: usize,
    /// Whether it was cut at a limit.
    pub(crate) is_cut: bool,
}

/// Engine for the runs of a path. Flows are independent, so one engine serves all runs.
pub(super) struct Runner<'a> {
    scope: &'a Scope<'a>,
    engine: Engine,
    seq: u64,
    schedule: Schedule,
}

struct Current<'a> {
    world: World<'a>,
    flow: FlowId,
    request: Value,
    calls: VecDeque<Invocation>,
    run: Run,
}

impl<'a> Runner<'a> {
    pub(super) fn new(scope: &'a Scope<'a>, schedule: Schedule) -> Self {
        let limits = Limits {
            cached_flows: NonZeroUsize::MIN,
            // Runs have a lower limit of their own, which is reported.
            depth: u32::MAX,
            ..Limits::default()
        };
        Self { scope, engine: Engine::new(&scope.program, limits), seq: 0, schedule }
    }

    pub(super) fn run(&mut self, choices: &mut Choices) -> Run {
        let flow = ActionId::injected("explore", self.seq, 0).as_root();
        let request = Value::from("⟨request⟩");
        let mut current = Current {
            world: World::new(self.scope, choices, self.schedule == Schedule::AmongOthers),
            flow,
            request: request.clone(),
            calls: VecDeque::new(),
            run: Run::default(),
        };
        let output = Object::from_iter([("request".to_owned(), request)]);
        let input = current.world.request(output.clone());
        let root =
            self.logged(&current, (REQUESTING, REQUEST), flow.root(), Completion { input, output });
        self.deliver(&mut current, root);
        while let Some(call) = match self.schedule {
            Schedule::FirstInFirstOut | Schedule::AmongOthers => current.calls.pop_front(),
            #[cfg(test)]
            Schedule::LastInFirstOut => current.calls.pop_back(),
        } {
            current.run.actions += 1;
            if current.run.actions > ACTIONS_PER_RUN || current.run.is_cut {
                current.run.is_cut = true;
                break;
            }
            self.complete(&mut current, &call);
        }
        let World { moments, deviations, .. } = current.world;
        Run { moments, deviations, ..current.run }
    }

    fn logged(
        &mut self,
        current: &Current<'_>,
        (concept, action): (&str, &str),
        id: ActionId,
        body: Completion,
    ) -> Logged {
        self.seq += 1;
        Logged {
            seq: self.seq,
            flow: current.flow,
            concept: concept.into(),
            action: action.into(),
            id,
            body,
            bytes: 100,
            context: Context::default(),
        }
    }

    fn complete(&mut self, current: &mut Current<'_>, call: &Invocation) {
        let Ok(Value::Object(mut input)) = serde_json::from_slice(&call.body) else {
            current.run.is_cut = true;
            return;
        };
        let site = input.shift_remove(SITE);
        let rule = self.scope.rule(&call.sync);
        let output =
            current.world.complete(&call.concept, &call.action, &mut input, &current.request);
        let body = Completion { input, output };
        if is_response(&call.concept, &call.action)
            && !body.is_failure()
            && let (Some(rule), Some(site)) = (rule, site.as_ref().and_then(Site::decode))
        {
            current.run.answers.push((rule, site));
        }
        let ended = (name(&call.concept, &call.action), body.is_failure());
        current.run.ended.insert(ended);
        let logged = self.logged(current, (&call.concept, &call.action), call.id, body);
        self.deliver(current, logged);
    }

    /// Delivers a completion and queues the resulting calls.
    fn deliver(&mut self, current: &mut Current<'_>, logged: Logged) {
        let seq = logged.seq;
        let mut records = Vec::new();
        let mut effects = VecDeque::from(self.engine.step(Event::Delivered(logged)));
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Invoke { invocation, .. } | Effect::Complete { invocation, .. } => {
                    self.called(current, invocation);
                    effects.extend(self.engine.step(Event::Stored { seq }));
                }
                Effect::Record { record, .. } => {
                    records.push(record);
                    effects.extend(self.engine.step(Event::Stored { seq }));
                }
                Effect::Ask { batch, .. } => {
                    let answer = |question| current.world.answer(&question);
                    let rows = batch.questions().map(answer).collect();
                    effects.extend(self.engine.step(Event::Answered { seq, batch, rows }));
                }
                Effect::Ack { .. } => {}
                _ => current.run.is_cut = true,
            }
        }
        for record in records {
            self.recorded(current, &record);
        }
    }

    fn called(&self, current: &mut Current<'_>, call: Invocation) {
        let body: Option<Value> = serde_json::from_slice(&call.body).ok();
        let site = body.as_ref().and_then(|body| Site::decode(body.get(SITE)?));
        match (self.scope.rule(&call.sync), site) {
            (Some(rule), Some(site)) => {
                current.run.fired.insert(rule);
                current.world.note(Moment::Calls { rule, site }, false);
                current.calls.push_back(call);
            }
            // The engine responds itself if a limit is reached.
            _ => current.run.is_cut = true,
        }
    }

    /// Delivers a firing record.
    fn recorded(&mut self, current: &mut Current<'_>, record: &Record) {
        let Ok(body) = Completion::decode(&record.body) else {
            current.run.is_cut = true;
            return;
        };
        let logged = self.logged(current, (RESERVED_CONCEPT, FIRED), record.id, body);
        self.deliver(current, logged);
    }
}
