//! The engine: derives the effects of each completion. `Event -> Vec<Effect>`, with no I/O, no
//! clock and no randomness.
//!
//! For the completion with log sequence *n* the engine computes the invocations that *n* causes.
//! They are a pure function of the rules and the flow's log up to *n*. Later messages matter only in
//! one way: the engine does not repeat an invocation that already has its completion. The
//! acknowledgement of *n* is an effect too: it follows when everything that *n* caused is stored.
//!
//! The engine needs no persistent state: it reads a flow that is not in memory from the log again.
//! `Engine::received` says when a cached flow may be used.

#[cfg(test)]
mod tests;

use concert_wire::envelope::{Fault, Object};
use concert_wire::id::FlowId;
use concert_wire::{IN_FORCE, REQUESTING};
use hashbrown::HashMap;
use lru::LruCache;

use crate::event::{Effect, Event, Invocation, Limits, Logged};
use crate::flow::{Decision, Flow};
use crate::frames::{Answers, QueryBatch};
use crate::record::Halt;
use crate::requesting;
use crate::versions::{Missing, Version, Versions};
use concert_lang::program::Program;

/// Maximum number of reads of a flow for one message. If none of them returns the message, it waits
/// for its redelivery.
const READ_ATTEMPTS: u32 = 3;

/// Maximum number of actions of a finished flow whose memory the next flow reuses.
const SPARE_ACTIONS: usize = 64;

/// A flow that is being read from the log.
struct Reading {
    /// The read must cover the log up to this sequence.
    at_least: u64,
    attempts: u32,
    /// The delivered messages of the flow that wait for the read.
    waiting: Vec<Logged>,
}

/// The effects of a completion that are not stored yet.
#[derive(Default)]
struct Outstanding {
    /// Number of these effects.
    remaining: usize,
    /// `true` if an effect could not be stored, so that the completion is retried.
    failed: bool,
    /// Reason to dead-letter the completion once nothing remains.
    dead: Option<String>,
}

/// A completion whose rules wait for query results.
struct Thinking {
    flow: FlowId,
    answers: Answers,
    /// Number of batches without a result.
    waiting: usize,
    /// `true` if a batch has no result now, so that the completion is retried.
    failed: bool,
    /// The reason why the flow stops: a batch failed permanently.
    refused: Option<Halt>,
    /// The reason to dead-letter the completion: a batch had no result in time.
    abandoned: Option<String>,
}

/// Total size of the flows in memory.
#[derive(Default)]
struct Cached {
    actions: usize,
    bytes: usize,
}

impl Cached {
    fn add(&mut self, flow: &Flow) {
        self.actions += flow.len();
        self.bytes += flow.bytes();
    }

    fn remove(&mut self, flow: &Flow) {
        self.actions -= flow.len();
        self.bytes -= flow.bytes();
    }

    const fn is_too_much(&self, limits: &Limits) -> bool {
        self.actions > limits.cached_actions || self.bytes > limits.cached_bytes
    }
}

/// The engine; see the module documentation.
pub struct Engine {
    versions: Versions,
    /// Deliveries that wait for rules.
    parked: Vec<Logged>,
    limits: Limits,
    flows: LruCache<FlowId, Flow>,
    cached: Cached,
    /// A finished flow, whose memory the next flow reuses.
    spare: Option<Flow>,
    reading: HashMap<FlowId, Reading>,
    outstanding: HashMap<u64, Outstanding>,
    thinking: HashMap<u64, Thinking>,
    mismatches: Vec<(FlowId, String)>,
    /// The highest received sequence.
    last: u64,
    /// INVARIANT: this engine received every sequence from `run_start` to `last`.
    run_start: u64,
}

impl Engine {
    /// An empty engine with rules that never change.
    pub fn new(program: &Program, limits: Limits) -> Self {
        Self::with(Versions::fixed(program), limits)
    }

    /// An empty engine that reads the active rules from the log.
    pub fn without_rules(limits: Limits) -> Self {
        Self::with(Versions::unknown(), limits)
    }

    fn with(versions: Versions, limits: Limits) -> Self {
        Self {
            versions,
            parked: Vec::new(),
            limits,
            flows: LruCache::unbounded(),
            cached: Cached::default(),
            spare: None,
            reading: HashMap::new(),
            outstanding: HashMap::new(),
            thinking: HashMap::new(),
            mismatches: Vec::new(),
            last: 0,
            run_start: 1,
        }
    }

    /// Processes one event and returns the work to do.
    pub fn step(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Delivered(logged) => self.delivered(logged),
            Event::Undecodable { seq, reason } => {
                self.received(seq);
                vec![Effect::DeadLetter { seq, reason }]
            }
            Event::FlowRead { flow, through, log } => self.flow_read(flow, through, log),
            Event::FlowUnreadable { flow } => self.give_up(flow),
            Event::FlowTooLong { flow } => self.too_long(flow),
            Event::RulesRead { through, history } => {
                for (seq, version) in history {
                    self.versions.put_in_force(seq, version);
                }
                self.versions.known_through(through);
                self.versions.received(self.run_start, self.last);
                if self.versions.is_empty() {
                    // Another read would return the same.
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
            Event::Answered { seq, batch, rows } => self.answered(seq, &batch, rows),
            Event::Unanswered { seq } => self.query_done(seq, |thinking| thinking.failed = true),
            Event::Refused { seq, fault, why } => {
                let halt = Halt::fault(fault, &why);
                self.query_done(seq, |thinking| thinking.refused = Some(halt))
            }
            Event::Abandoned { seq, why } => {
                self.query_done(seq, |thinking| thinking.abandoned = Some(why))
            }
            Event::Stored { seq } => self.settled(seq, false),
            Event::NotStored { seq } => self.settled(seq, true),
        }
    }

    /// Records a received sequence; returns whether it is the newest.
    ///
    /// A cached flow that is complete through *k* may be used for *n* only if this engine received
    /// every sequence in (k, n]. A missed message could belong to this flow. The delivery count of a
    /// message cannot replace this check, because the server resets it after a crash.
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
        if self.outstanding.contains_key(&seq) || self.parked.iter().any(|parked| parked.seq == seq)
        {
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
            let reason = "the message does not name a version of the rules".to_owned();
            return vec![Effect::DeadLetter { seq, reason }];
        };
        let version = Version::from(version);
        self.versions.put_in_force(seq, version.clone());
        self.outstanding.insert(seq, Outstanding { remaining: 1, ..Outstanding::default() });
        vec![Effect::Adopt { seq, version }]
    }

    /// Keeps a delivery until its rules are loaded. All waiting deliveries share one request.
    fn park(&mut self, waiting: Vec<Logged>, missing: Missing) -> Vec<Effect> {
        let is_first = self.parked.is_empty();
        self.parked.extend(waiting);
        match missing {
            _ if !is_first => Vec::new(),
            Missing::History => vec![Effect::ReadRules { at_least: self.last }],
            Missing::Rules(version) => vec![Effect::FetchRules { version }],
        }
    }

    /// Returns all deliveries that wait for rules, for redelivery.
    fn hand_back(&mut self) -> Vec<Effect> {
        retry(std::mem::take(&mut self.parked))
    }

    fn unpark(&mut self) -> Vec<Effect> {
        let parked = std::mem::take(&mut self.parked);
        // Other deliveries may have arrived since, so each flow is read from the log.
        parked.into_iter().flat_map(|logged| self.take(logged, false)).collect()
    }

    /// Handles a delivery of a flow; `newest` if no later sequence was received.
    fn take(&mut self, logged: Logged, newest: bool) -> Vec<Effect> {
        let (seq, flow) = (logged.seq, logged.flow);
        if let Some(reading) = self.reading.get_mut(&flow) {
            if reading.waiting.iter().all(|other| other.seq != seq) {
                reading.waiting.push(logged);
            }
            return Vec::new();
        }
        let run_start = self.run_start;
        if let Some(known) =
            self.flows.get_mut(&flow).filter(|known| known.complete_through() + 1 >= run_start)
        {
            if seq > known.complete_through() {
                self.cached.remove(known);
                known.push(&self.limits, logged);
                self.cached.add(known);
                self.evict();
                return self.fire_all(flow, [seq]);
            }
            if known.has(seq) {
                return self.fire_all(flow, [seq]);
            }
        } else if newest && logged.id == flow.root() {
            let rules = match self.versions.at(seq) {
                Ok(rules) => rules,
                Err(missing) => return self.park(vec![logged], missing),
            };
            let mut root = match self.spare.take() {
                Some(spare) => spare.renewed(flow, rules),
                None => Flow::new(flow, rules),
            };
            root.push(&self.limits, logged);
            self.keep(flow, root);
            return self.fire_all(flow, [seq]);
        }
        let at_least = self.last;
        self.reading.insert(flow, Reading { at_least, attempts: 0, waiting: vec![logged] });
        vec![Effect::ReadFlow { flow, at_least }]
    }

    fn flow_read(&mut self, flow: FlowId, through: u64, mut log: Vec<Logged>) -> Vec<Effect> {
        let Some(mut reading) = self.reading.remove(&flow) else {
            return Vec::new();
        };
        // A waiting message that is newer than the read (`seq > through`) counts as covered if this
        // engine missed no delivery since the read.
        let unbroken = through + 1 >= self.run_start;
        let covered = through >= reading.at_least
            && reading.waiting.iter().all(|logged| {
                if logged.seq <= through {
                    // A read returns the last message of each subject. A log of an earlier release
                    // may have a second message of a completion; then the read does not return the
                    // first one.
                    log.iter().any(|read| {
                        read.seq == logged.seq || (read.id == logged.id && read.seq > logged.seq)
                    })
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
        // The first message of a completion counts. It was delivered, so it replaces the later one
        // that was read.
        log.retain(|read| {
            !reading.waiting.iter().any(|first| first.id == read.id && first.seq < read.seq)
        });
        let shown: Vec<u64> = log.iter().map(|read| read.seq).collect();
        log.extend(reading.waiting.into_iter().filter(|logged| !shown.contains(&logged.seq)));
        log.sort_unstable_by_key(|logged| logged.seq);
        let Some(root) = log.iter().find(|logged| logged.id == flow.root()).map(|root| root.seq)
        else {
            return dead(waiting, "the root of this flow is no longer in the log");
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
        self.fire_all(flow, waiting)
    }

    fn give_up(&mut self, flow: FlowId) -> Vec<Effect> {
        let reading = self.reading.remove(&flow);
        retry(reading.map(|reading| reading.waiting).unwrap_or_default())
    }

    /// A flow that cannot be read would block its deliveries forever.
    fn too_long(&mut self, flow: FlowId) -> Vec<Effect> {
        let waiting = self.reading.remove(&flow).map(|reading| reading.waiting);
        let seqs = waiting.into_iter().flatten().map(|logged| logged.seq);
        dead(seqs, "the flow has more messages than one read returns")
    }

    /// Returns the effects of these completions of a known flow. A finished flow is evicted
    /// immediately, so that the next flow reuses its memory while that is in the CPU cache.
    fn fire_all(&mut self, flow: FlowId, seqs: impl IntoIterator<Item = u64>) -> Vec<Effect> {
        // Most completions have one effect. A larger capacity would be the largest allocation of a
        // step.
        let mut effects = Vec::with_capacity(1);
        for seq in seqs {
            self.fire(flow, seq, &mut effects);
        }
        if self.flows.peek(&flow).is_some_and(Flow::is_finished)
            && let Some(finished) = self.flows.pop(&flow)
        {
            self.cached.remove(&finished);
            if finished.len() <= SPARE_ACTIONS {
                self.spare = Some(finished);
            }
        }
        effects
    }

    /// Returns the effects of the completion `seq` of a known flow.
    fn fire(&mut self, flow: FlowId, seq: u64, effects: &mut Vec<Effect>) {
        let Some(known) = self.flows.peek(&flow) else {
            // Does not happen: the caller has just used the flow, and `evict` keeps the last used.
            return effects.push(Effect::Retry { seq });
        };
        if let Some(reason) = known.broken(seq) {
            let reason = reason.to_owned();
            return effects.push(Effect::DeadLetter { seq, reason });
        }
        if let Some(why) = known.mismatch(seq) {
            self.mismatches.push((flow, why.to_owned()));
        }
        let before = effects.len();
        known.invocations(&self.limits, seq, |invocation| {
            effects.push(if &*invocation.concept == REQUESTING {
                let Invocation { flow, action, body, .. } = &invocation;
                let body = requesting::completion(*flow, action, body);
                Effect::Complete { seq, invocation, body }
            } else {
                Effect::Invoke { seq, invocation }
            });
        });
        let is_undecided = known.is_undecided(seq);
        let remaining = effects.len() - before + usize::from(is_undecided);
        if remaining == 0 {
            return effects.push(Effect::Ack { seq });
        }
        self.outstanding.insert(seq, Outstanding { remaining, ..Outstanding::default() });
        if is_undecided {
            let thinking = Thinking {
                flow,
                answers: Answers::default(),
                waiting: 0,
                failed: false,
                refused: None,
                abandoned: None,
            };
            self.thinking.insert(seq, thinking);
            effects.extend(self.think(seq));
        }
    }

    /// Runs the rules with queries for a completion, with the results that are known. Asks for the
    /// missing ones, or records the outcome.
    fn think(&mut self, seq: u64) -> Vec<Effect> {
        let Some(thinking) = self.thinking.get_mut(&seq) else {
            return Vec::new();
        };
        let flow = thinking.flow;
        let Some(known) = self.flows.get(&flow) else {
            // The flow was evicted in the meantime. The redelivered completion reads it again.
            self.thinking.remove(&seq);
            return self.settled(seq, true);
        };
        let decision = match &thinking.refused {
            Some(halt) => known.halt(seq, halt.clone()),
            None => known.decide(&self.limits, seq, &thinking.answers),
        };
        match decision {
            Decision::Ask(questions) => {
                let batches = QueryBatch::of(questions);
                thinking.waiting = batches.len();
                let deadline_ms = known.deadline_ms();
                let ask = |batch| Effect::Ask { seq, flow, deadline_ms, batch };
                batches.into_iter().map(ask).collect()
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

    /// Takes the rows of a batch. Rows that the spec does not allow stop the flow.
    fn answered(&mut self, seq: u64, batch: &QueryBatch, rows: Vec<Vec<Object>>) -> Vec<Effect> {
        let flow = self.thinking.get(&seq).map(|thinking| thinking.flow);
        let known = flow.and_then(|flow| self.flows.peek(&flow));
        let checked = known.map_or(Ok(()), |known| known.rules().check_rows(batch, &rows));
        if let (Err(why), Some(flow)) = (&checked, flow) {
            self.mismatches.push((flow, why.clone()));
        }
        self.query_done(seq, |thinking| match checked {
            Ok(()) => thinking.answers.add(batch, rows),
            Err(why) => thinking.refused = Some(Halt::fault(Fault::Invalid, &why)),
        })
    }

    /// Returns and forgets the outputs and rows that did not match their specs, so that the caller
    /// can report them. Each entry names the flow, the concept, the action or query, and the
    /// difference.
    pub fn take_mismatches(&mut self) -> Vec<(FlowId, String)> {
        std::mem::take(&mut self.mismatches)
    }

    /// Handles the result of one batch.
    fn query_done(&mut self, seq: u64, take: impl FnOnce(&mut Thinking)) -> Vec<Effect> {
        let Some(thinking) = self.thinking.get_mut(&seq) else {
            return Vec::new();
        };
        take(thinking);
        thinking.waiting = thinking.waiting.saturating_sub(1);
        if thinking.waiting > 0 {
            return Vec::new();
        }
        if let Some(why) = thinking.abandoned.take() {
            self.thinking.remove(&seq);
            if let Some(outstanding) = self.outstanding.get_mut(&seq) {
                outstanding.dead = Some(why);
            }
            return self.settled(seq, false);
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
        let outstanding = self.outstanding.remove(&seq).unwrap_or_default();
        vec![match outstanding {
            Outstanding { failed: true, .. } => Effect::Retry { seq },
            Outstanding { dead: Some(reason), .. } => Effect::DeadLetter { seq, reason },
            Outstanding { .. } => Effect::Ack { seq },
        }]
    }

    fn keep(&mut self, flow: FlowId, known: Flow) {
        self.cached.add(&known);
        if let Some(replaced) = self.flows.put(flow, known) {
            self.cached.remove(&replaced);
        }
        self.evict();
    }

    /// Evicts the least recently used flows while there are too many; keeps one.
    fn evict(&mut self) {
        while self.flows.len() > self.limits.cached_flows.get()
            || (self.cached.is_too_much(&self.limits) && self.flows.len() > 1)
        {
            let Some((_, evicted)) = self.flows.pop_lru() else {
                break;
            };
            self.cached.remove(&evicted);
        }
    }
}

/// Dead-letters messages for which no retry helps.
fn dead(seqs: impl IntoIterator<Item = u64>, reason: &str) -> Vec<Effect> {
    let letter = |seq| Effect::DeadLetter { seq, reason: reason.to_owned() };
    seqs.into_iter().map(letter).collect()
}

/// Returns these for redelivery after a delay.
fn retry(waiting: Vec<Logged>) -> Vec<Effect> {
    let retry = |logged: Logged| Effect::Retry { seq: logged.seq };
    waiting.into_iter().map(retry).collect()
}
