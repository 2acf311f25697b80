//! The engine: what follows from a completion. `Event -> Vec<Effect>`, with no I/O, no clock and no randomness.
//!
//! For the completion with log sequence *n* the engine computes the invocations that *n* brings about: a pure function of the rules and the flow's log up to *n*.
//! What lies beyond *n* only serves to skip invocations that are done already. The acknowledgement of *n* is an effect as well: it comes when everything that *n* brought about has been stored.
//!
//! Nothing here must be kept: a flow that is not in memory is read again from the log. What may be kept is told at `Engine::received`.

mod flow;
mod frames;
mod index;
mod matching;
mod record;
mod versions;

#[cfg(test)]
mod tests;

use hashbrown::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use concert_wire::IN_FORCE;
use concert_wire::envelope::{Completion, Object};
use concert_wire::id::{ActionId, FlowId};
use lru::LruCache;

use self::flow::{Decision, Flow};
use self::frames::Answers;
pub use self::frames::Question;
pub use self::versions::Version;
use self::versions::{Missing, Versions};
use crate::program::Program;

/// What bounds a flow and the engine's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Completions in one flow; from this one on nothing fires. At most 1,024, which is what one read of the log answers with.
    pub actions_per_flow: usize,
    /// How many actions may follow from one another.
    pub depth: u32,
    /// Frames of one firing, at any step of `where`.
    pub frames_per_firing: usize,
    /// The size of an invocation's body or a firing record, in bytes.
    pub body_bytes: usize,
    /// Flows kept in memory.
    pub cached_flows: NonZeroUsize,
    /// Completions kept in memory, over all flows.
    pub cached_actions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        const FLOWS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);
        Self {
            actions_per_flow: 1000,
            depth: 64,
            frames_per_firing: 500,
            body_bytes: 512 * 1024,
            cached_flows: FLOWS,
            cached_actions: 16_384,
        }
    }
}

/// A completion as it stands in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Logged {
    /// Its sequence in the log.
    pub seq: u64,
    /// The flow.
    pub flow: FlowId,
    /// Whose action it was.
    pub concept: Arc<str>,
    /// The action.
    pub action: Arc<str>,
    /// The action's id.
    pub id: ActionId,
    /// Input and output.
    pub body: Completion,
    /// What travels with the flow for people and callers, taken from the root's headers.
    pub context: Context,
}

/// What a root hands down to every invocation of its flow. Nothing here decides what fires.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// The time by which the caller wants the answer, in milliseconds since 1970.
    pub deadline_ms: Option<u64>,
    /// W3C trace context.
    pub traceparent: Option<Arc<str>>,
}

/// What happens to the engine.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The log delivered a completion, for the first time or again.
    Delivered(Logged),
    /// The log delivered a message that is no completion. The engine must know that it was received.
    Undecodable {
        /// The message's sequence in the log.
        seq: u64,
        /// Why.
        reason: String,
    },
    /// The answer to [`Effect::ReadFlow`]: the flow's completions, in any order.
    FlowRead {
        /// The flow that was asked for.
        flow: FlowId,
        /// The log was read up to this sequence.
        through: u64,
        /// The completions.
        log: Vec<Logged>,
    },
    /// The log could not be read now.
    FlowUnreadable {
        /// The flow that was asked for.
        flow: FlowId,
    },
    /// The answer to [`Effect::ReadRules`], complete through a sequence.
    RulesRead {
        /// What was read is complete up to this sequence of the log.
        through: u64,
        /// From which sequence on which version is in force, in any order.
        history: Vec<(u64, Version)>,
    },
    /// What was in force when cannot be read now.
    RulesUnreadable,
    /// The answer to [`Effect::FetchRules`].
    RulesFetched(Arc<Program>),
    /// A version of the rules cannot be had now.
    RulesUnavailable,
    /// The rows that answer an [`Effect::Ask`].
    Answered {
        /// The completion whose rules asked.
        seq: u64,
        /// What was asked.
        question: Question,
        /// The rows.
        rows: Vec<Object>,
    },
    /// A question could not be answered now.
    Unanswered {
        /// The completion whose rules asked.
        seq: u64,
    },
    /// A question will never be answered: its input is not what the query takes.
    Refused {
        /// The completion whose rules asked.
        seq: u64,
        /// Which one, and why.
        why: String,
    },
    /// What [`Effect::Invoke`] or [`Effect::Record`] publishes is stored, by this publish or by an earlier one.
    Stored {
        /// The completion that brought it about.
        seq: u64,
    },
    /// What was to be published could not be stored now.
    NotStored {
        /// The completion that brought it about.
        seq: u64,
    },
}

/// What is to be done, in any order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Read a flow from the log to its end, and at least through this sequence; answer with [`Event::FlowRead`] or [`Event::FlowUnreadable`].
    ReadFlow {
        /// The flow.
        flow: FlowId,
        /// A read that does not reach this sequence is repeated.
        at_least: u64,
    },
    /// Read which rules were in force when, at least up to this sequence of the log; answer with [`Event::RulesRead`] or [`Event::RulesUnreadable`].
    ReadRules {
        /// The sequence.
        at_least: u64,
    },
    /// Fetch the rules of a version; answer with [`Event::RulesFetched`] or [`Event::RulesUnavailable`].
    FetchRules {
        /// The version.
        version: Version,
    },
    /// Rules were put in force: keep that in mind for routers that come when the message is gone from the log, then answer with [`Event::Stored`] or [`Event::NotStored`].
    Adopt {
        /// The message.
        seq: u64,
        /// The version.
        version: Version,
    },
    /// Publish an invocation; answer with [`Event::Stored`] or [`Event::NotStored`].
    Invoke {
        /// The completion that brought it about.
        seq: u64,
        /// What to publish.
        invocation: Invocation,
    },
    /// Ask a query; answer with [`Event::Answered`], [`Event::Unanswered`] or [`Event::Refused`]. Rows that the spec does not allow are no answer.
    Ask {
        /// The completion whose rules ask.
        seq: u64,
        /// Whose flow it is: secrets in the input are sealed for it.
        flow: FlowId,
        /// What is asked.
        question: Question,
    },
    /// Publish a firing record to the log; answer with [`Event::Stored`] or [`Event::NotStored`]. What it brings about follows when the log delivers it.
    Record {
        /// The completion that it is of.
        seq: u64,
        /// What to publish.
        record: Record,
    },
    /// Everything that this completion brings about is stored.
    Ack {
        /// The completion.
        seq: u64,
    },
    /// Deliver this completion again after a while.
    Retry {
        /// The completion.
        seq: u64,
    },
    /// This message fires nothing, now or later.
    DeadLetter {
        /// The message.
        seq: u64,
        /// Why.
        reason: String,
    },
}

/// An action that is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    /// The flow.
    pub flow: FlowId,
    /// Who is asked.
    pub concept: Arc<str>,
    /// What is asked for.
    pub action: Arc<str>,
    /// The id, the same whoever computes it.
    pub id: ActionId,
    /// The input, encoded.
    pub body: Vec<u8>,
    /// The rule, or what the router did on its own.
    pub sync: Arc<str>,
    /// The version of the rules.
    pub rules: Arc<str>,
    /// The actions that the firing matched, in the order of the rule's patterns.
    pub causes: Vec<ActionId>,
    /// What the root hands down.
    pub context: Context,
}

/// What the rules that asked queries made of a completion.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The flow.
    pub flow: FlowId,
    /// The id, which follows from that of the completion.
    pub id: ActionId,
    /// The body, encoded as that of a completion of `Concert.fired`.
    pub body: Vec<u8>,
    /// What the root hands down.
    pub context: Context,
}

/// A read that fails this often to show the message that caused it gives up until the message comes again.
const READ_ATTEMPTS: u32 = 3;

struct Reading {
    at_least: u64,
    attempts: u32,
    waiting: Vec<Logged>,
}

struct Outstanding {
    remaining: usize,
    failed: bool,
}

/// A completion whose rules wait for answers.
struct Thinking {
    flow: FlowId,
    answers: Answers,
    waiting: usize,
    failed: bool,
    refused: Option<String>,
}

/// See the module's text.
pub struct Engine {
    versions: Versions,
    /// Deliveries that wait for rules.
    parked: Vec<Logged>,
    limits: Limits,
    flows: LruCache<FlowId, Flow>,
    cached_actions: usize,
    reading: HashMap<FlowId, Reading>,
    outstanding: HashMap<u64, Outstanding>,
    thinking: HashMap<u64, Thinking>,
    /// The highest sequence that was received.
    last: u64,
    /// INVARIANT: this engine received every sequence from `run_start` to `last`.
    run_start: u64,
}

impl Engine {
    /// An engine whose rules never change, that has seen nothing yet.
    pub fn new(program: &Program, limits: Limits) -> Self {
        Self::with(Versions::fixed(program), limits)
    }

    /// An engine that has seen nothing yet, also of which rules are in force.
    pub fn without_rules(limits: Limits) -> Self {
        Self::with(Versions::unknown(), limits)
    }

    fn with(versions: Versions, limits: Limits) -> Self {
        Self {
            versions,
            parked: Vec::new(),
            limits,
            flows: LruCache::unbounded(),
            cached_actions: 0,
            reading: HashMap::new(),
            outstanding: HashMap::new(),
            thinking: HashMap::new(),
            last: 0,
            run_start: 1,
        }
    }

    /// Takes one event and says what is to be done.
    pub fn step(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Delivered(logged) => self.delivered(logged),
            Event::Undecodable { seq, reason } => {
                self.received(seq);
                vec![Effect::DeadLetter { seq, reason }]
            }
            Event::FlowRead { flow, through, log } => self.flow_read(flow, through, log),
            Event::FlowUnreadable { flow } => self.give_up(flow),
            Event::RulesRead { through, history } => {
                for (seq, version) in history {
                    self.versions.put_in_force(seq, version);
                }
                self.versions.known_through(through);
                self.versions.received(self.run_start, self.last);
                if self.versions.is_empty() {
                    // Reading again at once would tell the same.
                    self.hand_back()
                } else {
                    self.unpark()
                }
            }
            Event::RulesFetched(program) => {
                self.versions.load(&program);
                self.unpark()
            }
            Event::RulesUnreadable | Event::RulesUnavailable => self.hand_back(),
            Event::Answered { seq, question, rows } => {
                self.heard(seq, |thinking| thinking.answers.add(&question, rows))
            }
            Event::Unanswered { seq } => self.heard(seq, |thinking| thinking.failed = true),
            Event::Refused { seq, why } => self.heard(seq, |thinking| thinking.refused = Some(why)),
            Event::Stored { seq } => self.settled(seq, false),
            Event::NotStored { seq } => self.settled(seq, true),
        }
    }

    /// Notes that a sequence was received, and whether it is newer than all before.
    ///
    /// A cached flow that is complete through *k* may be used for *n* only if every sequence in (k, n] was received here, since one that was not may have been of this flow.
    /// The consumer's own delivery count cannot tell that: the server sets it back after a crash.
    fn received(&mut self, seq: u64) -> bool {
        if seq <= self.last {
            return false;
        }
        if seq != self.last + 1 {
            self.run_start = seq;
        }
        self.last = seq;
        self.versions.received(self.run_start, seq);
        true
    }

    fn delivered(&mut self, logged: Logged) -> Vec<Effect> {
        let (seq, flow) = (logged.seq, logged.flow);
        let newest = self.received(seq);
        if self.outstanding.contains_key(&seq) || self.parked.iter().any(|parked| parked.seq == seq) {
            return Vec::new();
        }
        if flow == FlowId::of_rules() {
            return self.put_in_force(&logged);
        }
        self.take(logged, newest)
    }

    fn put_in_force(&mut self, logged: &Logged) -> Vec<Effect> {
        let seq = logged.seq;
        let version = logged.body.input.get("rules").and_then(|version| version.as_str());
        let Some(version) = version.filter(|_| &*logged.action == IN_FORCE) else {
            let reason = "this puts no rules in force".to_owned();
            return vec![Effect::DeadLetter { seq, reason }];
        };
        let version = Version::from(version);
        self.versions.put_in_force(seq, version.clone());
        let (remaining, failed) = (1, false);
        self.outstanding.insert(seq, Outstanding { remaining, failed });
        vec![Effect::Adopt { seq, version }]
    }

    /// Keeps a delivery until its rules are here. One request is made for all that wait.
    fn park(&mut self, waiting: Vec<Logged>, missing: Missing) -> Vec<Effect> {
        let is_first = self.parked.is_empty();
        self.parked.extend(waiting);
        match missing {
            _ if !is_first => Vec::new(),
            Missing::History => vec![Effect::ReadRules { at_least: self.last }],
            Missing::Rules(version) => vec![Effect::FetchRules { version }],
        }
    }

    /// Gives up on what waits for rules until it is delivered again.
    fn hand_back(&mut self) -> Vec<Effect> {
        let parked = std::mem::take(&mut self.parked);
        parked.iter().map(|logged| Effect::Retry { seq: logged.seq }).collect()
    }

    fn unpark(&mut self) -> Vec<Effect> {
        let parked = std::mem::take(&mut self.parked);
        // What else was delivered meanwhile is not known to be later, so each flow is read.
        parked.into_iter().flat_map(|logged| self.take(logged, false)).collect()
    }

    /// A delivery of a flow; `newest` if nothing that is later was received.
    fn take(&mut self, logged: Logged, newest: bool) -> Vec<Effect> {
        let (seq, flow) = (logged.seq, logged.flow);
        if let Some(reading) = self.reading.get_mut(&flow) {
            if reading.waiting.iter().all(|other| other.seq != seq) {
                reading.waiting.push(logged);
            }
            return Vec::new();
        }
        let run_start = self.run_start;
        if let Some(known) = self
            .flows
            .get_mut(&flow)
            .filter(|known| known.complete_through() + 1 >= run_start)
        {
            if seq > known.complete_through() {
                known.push(&self.limits, logged);
                self.cached_actions += 1;
                return self.fire(flow, seq);
            }
            if known.has(seq) {
                return self.fire(flow, seq);
            }
        } else if newest && logged.id == flow.root() {
            let rules = match self.versions.at(seq) {
                Ok(rules) => rules,
                Err(missing) => return self.park(vec![logged], missing),
            };
            let mut root = Flow::new(flow, rules);
            root.push(&self.limits, logged);
            self.keep(flow, root);
            return self.fire(flow, seq);
        }
        let at_least = self.last;
        self.reading.insert(
            flow,
            Reading {
                at_least,
                attempts: 0,
                waiting: vec![logged],
            },
        );
        vec![Effect::ReadFlow { flow, at_least }]
    }

    fn flow_read(&mut self, flow: FlowId, through: u64, mut log: Vec<Logged>) -> Vec<Effect> {
        let Some(mut reading) = self.reading.remove(&flow) else {
            return Vec::new();
        };
        // Between the read and now, messages may have come; they complete it only if none was missed.
        let unbroken = through + 1 >= self.run_start;
        let covered = through >= reading.at_least
            && reading.waiting.iter().all(|logged| {
                if logged.seq <= through {
                    log.iter().any(|read| read.seq == logged.seq)
                } else {
                    unbroken
                }
            });
        if !covered {
            reading.attempts += 1;
            reading.at_least = self.last;
            let (attempts, at_least) = (reading.attempts, reading.at_least);
            self.reading.insert(flow, reading);
            return if attempts < READ_ATTEMPTS {
                vec![Effect::ReadFlow { flow, at_least }]
            } else {
                self.give_up(flow)
            };
        }
        let mut waiting: Vec<u64> = reading.waiting.iter().map(|logged| logged.seq).collect();
        waiting.sort_unstable();
        log.extend(reading.waiting.into_iter().filter(|logged| logged.seq > through));
        log.sort_unstable_by_key(|logged| logged.seq);
        let Some(root) = log.iter().find(|logged| logged.id == flow.root()).map(|root| root.seq) else {
            let reason = "the root of this flow is no longer in the log".to_owned();
            let dead = |seq| Effect::DeadLetter {
                seq,
                reason: reason.clone(),
            };
            return waiting.into_iter().map(dead).collect();
        };
        let rules = match self.versions.at(root) {
            Ok(rules) => rules,
            Err(missing) => {
                let waiting = log.into_iter().filter(|logged| waiting.contains(&logged.seq));
                return self.park(waiting.collect(), missing);
            }
        };
        let mut known = Flow::new(flow, rules);
        for logged in log {
            known.push(&self.limits, logged);
        }
        known.read_through(through);
        self.keep(flow, known);
        waiting.into_iter().flat_map(|seq| self.fire(flow, seq)).collect()
    }

    fn give_up(&mut self, flow: FlowId) -> Vec<Effect> {
        let waiting = self
            .reading
            .remove(&flow)
            .map(|reading| reading.waiting)
            .unwrap_or_default();
        waiting
            .into_iter()
            .map(|logged| Effect::Retry { seq: logged.seq })
            .collect()
    }

    /// Says what the completion `seq` of a known flow brings about.
    fn fire(&mut self, flow: FlowId, seq: u64) -> Vec<Effect> {
        let Some(known) = self.flows.peek(&flow) else {
            // `keep` holds on to the flow that was kept last.
            return vec![Effect::Retry { seq }];
        };
        if let Some(reason) = known.broken(seq) {
            let reason = reason.to_owned();
            return vec![Effect::DeadLetter { seq, reason }];
        }
        let invocations = known.invocations(&self.limits, seq);
        let is_undecided = known.is_undecided(seq);
        let remaining = invocations.len() + usize::from(is_undecided);
        if remaining == 0 {
            return vec![Effect::Ack { seq }];
        }
        let failed = false;
        self.outstanding.insert(seq, Outstanding { remaining, failed });
        let invoke = |invocation| Effect::Invoke { seq, invocation };
        let mut effects: Vec<Effect> = invocations.into_iter().map(invoke).collect();
        if is_undecided {
            let thinking = Thinking {
                flow,
                answers: Answers::default(),
                waiting: 0,
                failed: false,
                refused: None,
            };
            self.thinking.insert(seq, thinking);
            effects.extend(self.think(seq));
        }
        effects
    }

    /// Runs the rules that ask queries at a completion as far as the answers reach.
    fn think(&mut self, seq: u64) -> Vec<Effect> {
        let Some(thinking) = self.thinking.get_mut(&seq) else {
            return Vec::new();
        };
        let flow = thinking.flow;
        let Some(known) = self.flows.get(&flow) else {
            // The flow left the memory meanwhile; when the completion comes again it is read.
            self.thinking.remove(&seq);
            return self.settled(seq, true);
        };
        let decision = match &thinking.refused {
            Some(why) => known.halt(seq, why),
            None => known.decide(&self.limits, seq, &thinking.answers),
        };
        match decision {
            Decision::Ask(questions) => {
                thinking.waiting = questions.len();
                let ask = |question| Effect::Ask { seq, flow, question };
                questions.into_iter().map(ask).collect()
            }
            Decision::Record(record) => {
                self.thinking.remove(&seq);
                vec![Effect::Record { seq, record }]
            }
            Decision::Nothing => {
                self.thinking.remove(&seq);
                self.settled(seq, false)
            }
        }
    }

    /// Takes what came of one question.
    fn heard(&mut self, seq: u64, take: impl FnOnce(&mut Thinking)) -> Vec<Effect> {
        let Some(thinking) = self.thinking.get_mut(&seq) else {
            return Vec::new();
        };
        take(thinking);
        thinking.waiting = thinking.waiting.saturating_sub(1);
        if thinking.waiting > 0 {
            return Vec::new();
        }
        if thinking.failed {
            self.thinking.remove(&seq);
            return self.settled(seq, true);
        }
        self.think(seq)
    }

    fn settled(&mut self, seq: u64, failed: bool) -> Vec<Effect> {
        let Some(outstanding) = self.outstanding.get_mut(&seq) else {
            return Vec::new();
        };
        outstanding.failed |= failed;
        outstanding.remaining = outstanding.remaining.saturating_sub(1);
        if outstanding.remaining > 0 {
            return Vec::new();
        }
        let failed = outstanding.failed;
        self.outstanding.remove(&seq);
        vec![if failed {
            Effect::Retry { seq }
        } else {
            Effect::Ack { seq }
        }]
    }

    fn keep(&mut self, flow: FlowId, known: Flow) {
        self.cached_actions += known.len();
        if let Some(replaced) = self.flows.put(flow, known) {
            self.cached_actions -= replaced.len();
        }
        while self.flows.len() > self.limits.cached_flows.get()
            || (self.cached_actions > self.limits.cached_actions && self.flows.len() > 1)
        {
            let Some((_, evicted)) = self.flows.pop_lru() else {
                break;
            };
            self.cached_actions -= evicted.len();
        }
    }
}
