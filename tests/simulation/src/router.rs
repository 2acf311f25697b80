//! A router: the real engine, and a model of the shell of `sync-router`.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::rc::Rc;

use concert_engine::{Context, Effect, Engine, Event, Limits, Logged, QueryBatch, Version};
use concert_wire::envelope::{Completion, Object};
use concert_wire::id::{ActionId, FlowId};
use concert_wire::{FIRED, IN_FORCE, RESERVED_CONCEPT};
use serde_json::Value;

use crate::coverage::Mark;
use crate::faults::{Faults, Sabotage};
use crate::packet::{Draft, Op, Process, Reply};
use crate::reference::limits;
use crate::world::{Life, World, record};

/// A pending request of a router.
#[derive(Debug)]
enum Waits {
    /// At the start: read the active rules, and activate its own if they differ.
    Start,
    /// At the start: its own rules are being activated.
    Put,
    /// Read the active rules, to activate other ones.
    Change(usize),
    /// The response has no effect.
    Nothing,
    Flow(FlowId),
    Rules,
    Program,
    /// An effect of this completion is being stored.
    Stored(u64),
    Rows(u64, QueryBatch),
}

pub(crate) struct Router {
    pub(crate) life: Life,
    /// Whether it consumes messages.
    pub(crate) is_ready: bool,
    engine: Engine,
    limits: Limits,
    /// The version of the rules in its files.
    own: usize,
    /// Its unacknowledged messages.
    held: BTreeSet<u64>,
    waits: BTreeMap<u32, Waits>,
    /// The highest received sequence; only for a disabled guard.
    last: u64,
    /// The records that it wrote; only for a disabled guard.
    records: BTreeMap<ActionId, Completion>,
}

impl Router {
    pub(crate) fn new(number: usize, faults: &Faults) -> Self {
        let remembered = faults.remembered.unwrap_or(NonZeroUsize::MAX);
        let limits = limits(faults.has_short_flows, remembered);
        Self {
            life: Life::default(),
            is_ready: false,
            engine: Engine::without_rules(limits),
            limits,
            own: if faults.new_rules > 0 { number } else { 0 },
            held: BTreeSet::new(),
            waits: BTreeMap::new(),
            last: 0,
            records: BTreeMap::new(),
        }
    }

    /// Loses the state of a crashed router.
    pub(crate) fn end(&mut self) -> Mark {
        let waits = |kind: fn(&Waits) -> bool| self.waits.values().any(kind);
        let mark = if !self.is_ready {
            Mark::RouterCrashedAtStart
        } else if waits(|waits| matches!(waits, Waits::Stored(_))) {
            Mark::RouterCrashedWithPublishesInFlight
        } else if waits(|waits| matches!(waits, Waits::Flow(_))) {
            Mark::RouterCrashedWhileReading
        } else {
            Mark::RouterCrashedIdle
        };
        self.is_ready = false;
        self.engine = Engine::without_rules(self.limits);
        self.held.clear();
        self.waits.clear();
        self.records.clear();
        self.last = 0;
        mark
    }
}

impl World<'_> {
    pub(crate) fn start_router(&mut self, number: usize) {
        self.router_asks(number, Waits::Start, Op::ReadRules);
    }

    /// Changes the files of a running router.
    pub(crate) fn change_rules(&mut self, number: usize) {
        if self.routers.get(number).is_some_and(|router| router.is_ready) {
            let program = self.chance.below(2);
            self.router_asks(number, Waits::Change(program), Op::ReadRules);
        }
    }

    fn router_asks(&mut self, number: usize, waits: Waits, op: Op) {
        let call = self.call(Process::Router(number), op);
        if let Some(router) = self.routers.get_mut(number) {
            router.waits.insert(call, waits);
        }
    }

    pub(crate) fn router_hears(&mut self, number: usize, call: u32, reply: Reply) {
        let waits = self.routers.get_mut(number).and_then(|router| router.waits.remove(&call));
        let Some(waits) = waits else { return };
        let event = match (waits, reply) {
            (Waits::Start, Reply::Rules { history, .. }) => {
                let own = self.routers.get(number).map_or(0, |router| router.own);
                if self.is_news(own, &history) {
                    return self.put_in_force(number, own, &history, Waits::Put);
                }
                return self.begin(number, own);
            }
            (Waits::Put, Reply::Stored | Reply::AlreadyThere) => {
                let own = self.routers.get(number).map_or(0, |router| router.own);
                return self.begin(number, own);
            }
            (Waits::Start | Waits::Put, _) => return self.start_router(number),
            (Waits::Change(program), Reply::Rules { history, .. }) => {
                if self.is_news(program, &history) {
                    self.put_in_force(number, program, &history, Waits::Nothing);
                }
                return;
            }
            (Waits::Change(_) | Waits::Nothing, _) => return,
            (Waits::Flow(_), Reply::Flow { flow, through, log }) => Event::FlowRead {
                flow,
                through,
                log: log.iter().map(|logged| self.as_it_sees(number, logged)).collect(),
            },
            (Waits::Flow(flow), _) => Event::FlowUnreadable { flow },
            (Waits::Rules, Reply::Rules { through, history }) => {
                self.rules_read(number, through, history)
            }
            (Waits::Rules, _) => Event::RulesUnreadable,
            (Waits::Program, Reply::Program(program)) => Event::RulesFetched(program),
            (Waits::Program, _) => Event::RulesUnavailable,
            (Waits::Stored(seq), Reply::Stored | Reply::AlreadyThere) => Event::Stored { seq },
            (Waits::Stored(seq), _) if self.has(Sabotage::RouterIgnoresFailures) => {
                Event::Stored { seq }
            }
            (Waits::Stored(seq), _) => Event::NotStored { seq },
            (Waits::Rows(seq, batch), Reply::Rows(rows)) => Event::Answered { seq, batch, rows },
            (Waits::Rows(seq, batch), _) if self.has(Sabotage::SilenceIsNoRows) => {
                let rows = vec![Vec::new(); batch.inputs.len()];
                Event::Answered { seq, batch, rows }
            }
            (Waits::Rows(seq, _), _) => Event::Unanswered { seq },
        };
        self.step(number, event);
    }

    fn is_news(&self, program: usize, history: &[(u64, Version)]) -> bool {
        let version = &self.programs.get(program).version;
        history.last().is_none_or(|(_, latest)| **latest != **version)
    }

    fn put_in_force(
        &mut self,
        number: usize,
        program: usize,
        history: &[(u64, Version)],
        waits: Waits,
    ) {
        let version = self.programs.get(program).version.clone();
        let draft = Draft {
            flow: FlowId::of_rules(),
            concept: RESERVED_CONCEPT.into(),
            action: IN_FORCE.into(),
            id: ActionId::activation(history.last().map_or(0, |(seq, _)| *seq), &version),
            body: Completion {
                input: Object::from_iter([("rules".to_owned(), Value::from(version))]),
                output: Object::new(),
            },
            context: Default::default(),
            not_after: None,
        };
        self.router_asks(number, waits, Op::Append(Rc::new(draft)));
    }

    /// Consumes messages from now on. The first one makes it read the active rules.
    fn begin(&mut self, number: usize, own: usize) {
        record!(self, "router {number} is ready");
        let program = self.programs.get(own);
        if let Some(router) = self.routers.get_mut(number) {
            router.is_ready = true;
        }
        self.step(number, Event::RulesFetched(program));
    }

    fn rules_read(
        &mut self,
        number: usize,
        through: u64,
        mut history: Vec<(u64, Version)>,
    ) -> Event {
        self.coverage.mark(Mark::RulesRead);
        if self.has(Sabotage::OwnRules) {
            let own = self.routers.get(number).map_or(0, |router| router.own);
            let version = Version::from(self.programs.get(own).version.as_str());
            history.iter_mut().for_each(|(_, other)| *other = version.clone());
        }
        Event::RulesRead { through, history }
    }

    /// The message as the router takes it: unchanged, unless a disabled guard makes it prefer its
    /// own records.
    fn as_it_sees(&self, number: usize, logged: &Rc<Logged>) -> Logged {
        let mut seen = (**logged).clone();
        let own = self.routers.get(number).and_then(|router| router.records.get(&logged.id));
        if let Some(own) = own.filter(|_| self.has(Sabotage::RecordIgnored)) {
            seen.body = own.clone();
        }
        seen
    }

    pub(crate) fn router_receives(&mut self, number: usize, seq: u64, message: Option<Rc<Logged>>) {
        record!(self, "router {number} receives {seq}");
        let seen = message.map(|message| self.as_it_sees(number, &message));
        let pretends = self.has(Sabotage::MemoryAcrossGaps);
        if let Some(router) = self.routers.get_mut(number) {
            router.held.insert(seq);
            let missed = router.last + 1..seq;
            router.last = router.last.max(seq);
            for seq in missed.filter(|_| pretends) {
                let reason = String::new();
                drop(router.engine.step(Event::Undecodable { seq, reason }));
            }
        }
        if self.has(Sabotage::RouterAcksFirst) {
            self.send_from(Process::Router(number), Op::AckLog(seq));
        }
        self.step(
            number,
            match seen {
                Some(logged) => Event::Delivered(logged),
                None => Event::Undecodable { seq, reason: "rubbish".to_owned() },
            },
        );
    }

    fn step(&mut self, number: usize, event: Event) {
        let Some(router) = self.routers.get_mut(number) else {
            return;
        };
        for effect in router.engine.step(event) {
            self.do_effect(number, effect);
        }
    }

    fn do_effect(&mut self, number: usize, effect: Effect) {
        match effect {
            Effect::ReadFlow { flow, .. } => {
                self.router_asks(number, Waits::Flow(flow), Op::ReadFlow(flow))
            }
            Effect::ReadRules { .. } => self.router_asks(number, Waits::Rules, Op::ReadRules),
            Effect::FetchRules { version } => {
                self.coverage.mark(Mark::RulesFetched);
                self.router_asks(number, Waits::Program, Op::FetchRules(version));
            }
            Effect::Adopt { seq, version } => {
                self.router_asks(number, Waits::Stored(seq), Op::Adopt(seq, version))
            }
            Effect::Invoke { seq, invocation } => {
                if self.history.last().is_some_and(|(_, latest)| **latest != *invocation.rules) {
                    self.coverage.mark(Mark::FlowUnderOldRules);
                }
                let allowed = self.reference.allows(&invocation);
                self.must(allowed);
                self.router_asks(number, Waits::Stored(seq), Op::Enqueue(Rc::new(invocation)));
            }
            Effect::Complete { seq, invocation, body } => {
                let allowed = self.reference.allows(&invocation);
                self.must(allowed);
                let Ok(body) = Completion::decode(&body) else {
                    return self.breaks("a respond is not a valid completion");
                };
                let draft = Draft {
                    flow: invocation.flow,
                    concept: invocation.concept,
                    action: invocation.action,
                    id: invocation.id,
                    body,
                    context: Context::default(),
                    not_after: None,
                };
                self.router_asks(number, Waits::Stored(seq), Op::Append(Rc::new(draft)));
            }
            Effect::Ask { seq, batch, .. } => {
                let op = Op::Ask(batch.clone());
                self.router_asks(number, Waits::Rows(seq, batch), op);
            }
            Effect::Record { seq, record } => {
                let Ok(body) = Completion::decode(&record.body) else {
                    return self.breaks("a firing record is not a valid completion");
                };
                if let Some(router) = self.routers.get_mut(number) {
                    router.records.insert(record.id, body.clone());
                }
                let draft = Draft {
                    flow: record.flow,
                    concept: RESERVED_CONCEPT.into(),
                    action: FIRED.into(),
                    id: record.id,
                    body,
                    context: record.context,
                    not_after: None,
                };
                self.router_asks(number, Waits::Stored(seq), Op::Append(Rc::new(draft)));
            }
            Effect::Ack { seq } => {
                self.settles(number, seq);
                self.lets_go(number, seq, Op::AckLog(seq));
            }
            Effect::Retry { seq } => {
                self.settles(number, seq);
                let delay = 10 + self.chance.ticks(60);
                self.lets_go(number, seq, Op::NakLog(seq, delay));
            }
            Effect::DeadLetter { seq, reason } => {
                self.coverage.mark(Mark::MalformedMessage);
                self.lets_go(number, seq, Op::DeadLog(seq, reason));
            }
        }
    }

    fn settles(&mut self, number: usize, seq: u64) {
        let under_way =
            |waits: &Waits| matches!(waits, Waits::Stored(of) | Waits::Rows(of, _) if *of == seq);
        let router = self.routers.get(number);
        if router.is_some_and(|router| router.waits.values().any(under_way)) {
            self.breaks(format!("message {seq} is settled before its publishes"));
        }
    }

    fn lets_go(&mut self, number: usize, seq: u64, op: Op) {
        if self.routers.get_mut(number).is_some_and(|router| router.held.remove(&seq)) {
            self.send_from(Process::Router(number), op);
        }
    }
}
