//! One flow: its log so far, and the calls and responses that are derived from it.

mod calls;
mod decide;
mod near;
mod trace;

use hashbrown::HashMap;
use std::sync::Arc;

use concert_wire::envelope::Completion;
use concert_wire::id::{ActionId, FiringId, FlowId};
use smallvec::{SmallVec, smallvec};

use self::calls::call_id;
pub(crate) use self::decide::Decision;
pub use self::near::{Mismatch, Stopped, StoppedAt};
pub(crate) use self::trace::{Folded, Ready};
pub use self::trace::{Trace, TracedCall, TracedFiring, TracedFrame, TracedQuestion};
use crate::budget::{Budget, Exhausted, TOO_MANY_JOIN_STEPS};
use crate::event::{Context, Limits, Logged};
use crate::frames::{self, Answers, Ended, Frame, Sequence, Stop};
use crate::index::{Anchor, Index, KeyId, PatternRef};
use crate::matching::{self, Bindings, Causes, Completions};
use crate::record::Halt;
use concert_lang::program::Sync;

/// A flow folds its log from the beginning. The data of an entry depends only on the entries before
/// it.
pub(crate) struct Flow {
    id: FlowId,
    /// The rules that were active at the root.
    rules: Arc<Index>,
    context: Context,
    log: Vec<Entry>,
    /// Size of the bodies in the log, in bytes.
    bytes: usize,
    actions: HashMap<ActionId, Action>,
    /// The entries of each action, in the order of the log.
    by_key: Vec<(KeyId, SmallVec<[usize; 2]>)>,
    firings: Vec<Firing>,
    anchors: Vec<Anchor>,
    /// Number of expected actions that are not completed.
    pending: usize,
    /// Join steps that were taken.
    join_steps: usize,
    /// The entry with the first successful response to the flow's request.
    answered_at: Option<usize>,
    /// The entry from which on nothing fires, and the reason.
    halted: Option<(usize, Halt)>,
    complete_through: u64,
}

/// Initial capacity, enough for most flows.
const EXPECTED: usize = 7;

const TOO_MANY_ACTIONS: &str = "the flow reached the limit of actions";

struct Entry {
    seq: u64,
    id: ActionId,
    key: Option<KeyId>,
    body: Completion,
    depth: u32,
    /// The calls that this entry makes due.
    due: SmallVec<[ActionId; 2]>,
    /// The matches at this entry that need queries first.
    undecided: Vec<Undecided>,
    /// If the entry has the id of a firing record, but is not a valid one: the reason.
    broken: Option<&'static str>,
    /// Difference between the output and its spec.
    mismatch: Option<String>,
}

/// A match of a rule with queries.
struct Undecided {
    sync: usize,
    causes: Causes,
}

struct Firing {
    id: FiringId,
    sync: usize,
    causes: Causes,
    frames: Frames,
}

enum Frames {
    /// The one frame that `when` binds. It is not stored, but computed from the causes when needed.
    Matched,
    /// The result of the steps of `where`.
    Ended(Vec<Ended>),
}

/// State of an action id.
#[derive(Default)]
struct Action {
    /// Its completion: the first entry with this id.
    entry: Option<usize>,
    /// `true` if the log so far makes this action necessary: a due call, a firing record, or a
    /// response of the router itself.
    is_expected: bool,
    /// The call with this id, if it is due.
    site: Option<CallSite>,
}

/// Where a called action comes from: its firing, its frame, and the position of the call in the
/// rule. Each called action id has exactly one site.
#[derive(Clone, Copy)]
struct CallSite {
    firing: usize,
    /// The frame's number.
    frame: usize,
    sequence: Sequence,
    /// Index of the call, counted over `then` and then `else (error)`; 0 for the `else` of a step.
    position: usize,
    /// The entry that made the call due: the cause of the firing, or the completion of the previous
    /// call.
    cause: usize,
    /// The entry whose failure led to `else`.
    failed: Option<usize>,
}

impl Completions for Flow {
    fn body(&self, number: usize) -> Option<&Completion> {
        self.log.get(number).map(|entry| &entry.body)
    }

    fn of_action(&self, at: PatternRef, index: &Index, newest: usize) -> &[usize] {
        let numbers = index.pattern_key(at).map_or(&[][..], |key| self.of_key(key));
        let before = numbers.partition_point(|number| *number < newest);
        numbers.get(..before).unwrap_or_default()
    }
}

impl Flow {
    /// An empty flow.
    pub(crate) fn new(id: FlowId, rules: Arc<Index>) -> Self {
        Self {
            log: Vec::with_capacity(EXPECTED),
            actions: HashMap::with_capacity(EXPECTED),
            by_key: Vec::with_capacity(EXPECTED),
            ..Self::without_room(id, rules)
        }
    }

    fn without_room(id: FlowId, rules: Arc<Index>) -> Self {
        Self {
            id,
            rules,
            context: Context::default(),
            log: Vec::new(),
            bytes: 0,
            actions: HashMap::new(),
            by_key: Vec::new(),
            firings: Vec::new(),
            anchors: Vec::new(),
            pending: 0,
            join_steps: 0,
            answered_at: None,
            halted: None,
            complete_through: 0,
        }
    }

    /// An empty flow that reuses the memory of a finished one.
    pub(crate) fn renewed(self, id: FlowId, rules: Arc<Index>) -> Self {
        let Self { mut log, mut actions, mut by_key, mut firings, mut anchors, .. } = self;
        log.clear();
        actions.clear();
        by_key.clear();
        firings.clear();
        anchors.clear();
        Self { log, actions, by_key, firings, anchors, ..Self::without_room(id, rules) }
    }

    pub(crate) fn len(&self) -> usize {
        self.log.len()
    }

    /// Size of the bodies in the log, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The rules of this flow.
    pub(crate) fn rules(&self) -> &Index {
        &self.rules
    }

    /// Difference between the output of the completion `seq` and its spec.
    pub(crate) fn mismatch(&self, seq: u64) -> Option<&str> {
        self.log.get(self.number(seq)?)?.mismatch.as_deref()
    }

    /// Time until which the caller waits, in milliseconds since 1970.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        self.context.deadline_ms
    }

    pub(crate) fn has(&self, seq: u64) -> bool {
        self.number(seq).is_some()
    }

    /// The sequence up to which every completion of the flow is known.
    pub(crate) fn complete_through(&self) -> u64 {
        self.complete_through
    }

    pub(crate) fn read_through(&mut self, seq: u64) {
        self.complete_through = self.complete_through.max(seq);
    }

    /// Returns whether the flow is finished: all expected actions are completed, and a request has
    /// its response.
    ///
    /// Injected or redelivered actions may still arrive. Then the flow is read from the log.
    pub(crate) fn is_finished(&self) -> bool {
        let is_answered = || {
            let asks = self.log.first().is_some_and(|root| self.rules.is_request(root.key));
            !asks || self.answered_at.is_some()
        };
        self.pending == 0 && self.halted.is_none() && is_answered()
    }

    /// The index of an action's completion.
    fn completion(&self, id: ActionId) -> Option<usize> {
        self.actions.get(&id)?.entry
    }

    fn of_key(&self, key: KeyId) -> &[usize] {
        let found = self.by_key.iter().find(|(known, _)| *known == key);
        found.map_or(&[], |(_, numbers)| numbers)
    }

    fn number(&self, seq: u64) -> Option<usize> {
        self.log.binary_search_by_key(&seq, |entry| entry.seq).ok()
    }

    /// Adds the next completion of the log.
    pub(crate) fn push(&mut self, limits: &Limits, mut logged: Logged) {
        let rules = self.rules.clone();
        let index = &*rules;
        let number = self.log.len();
        let key = index.key(&logged.concept, &logged.action);
        let mismatch = index.check_output(key, &mut logged.body);
        let action = self.actions.entry(logged.id).or_default();
        if action.entry.is_none() {
            action.entry = Some(number);
            self.pending -= usize::from(action.is_expected);
        }
        let site = action.site;
        let is_record = index.is_record(key);
        let recorded = if is_record { self.recorded_cause(&logged) } else { None };
        let depth_of = |number: usize| self.log.get(number).map_or(0, |cause| cause.depth);
        let depth = match (site, recorded) {
            (Some(site), _) => depth_of(site.cause) + 1,
            // A record has the depth of its cause. Its calls are one deeper, as for any other
            // firing.
            (None, Some(cause)) => depth_of(cause),
            (None, None) => 0,
        };
        if logged.id == self.id.root() {
            self.context = logged.context;
        }
        if index.is_respond(key) && !logged.body.is_failure() {
            self.answered_at.get_or_insert(number);
        }
        self.complete_through = self.complete_through.max(logged.seq);
        self.bytes += logged.bytes;
        self.log.push(Entry {
            seq: logged.seq,
            id: logged.id,
            key,
            body: logged.body,
            depth,
            due: SmallVec::new(),
            undecided: Vec::new(),
            broken: None,
            mismatch,
        });
        if let Some(key) = key {
            match self.by_key.iter_mut().find(|(known, _)| *known == key) {
                Some((_, numbers)) => numbers.push(number),
                None => self.by_key.push((key, smallvec![number])),
            }
        }
        if number + 1 >= limits.actions_per_flow {
            self.limit(number, TOO_MANY_ACTIONS);
        } else if depth >= limits.depth {
            self.limit(number, "the flow reached the limit of depth");
        }
        if self.halted.is_some() {
            return;
        }
        let fired_before = self.firings.len();
        if is_record {
            self.take_record(index, limits, number, recorded.is_some());
        } else {
            self.fire(index, limits, number, key);
            self.go_on(index, limits, number, site);
            self.expect_fault_response(index, number);
        }
        if self.halted.is_some() {
            self.discard_effects(number, fired_before);
        }
    }

    /// Nothing fires at an entry that stops its flow.
    fn discard_effects(&mut self, number: usize, fired_before: usize) {
        self.firings.truncate(fired_before);
        if let Some(entry) = self.log.get_mut(number) {
            entry.due.clear();
            entry.undecided.clear();
        }
    }

    /// Counts an action as expected, if it is new and not completed.
    fn expect(&mut self, id: ActionId) -> &mut Action {
        let action = self.actions.entry(id).or_default();
        if !action.is_expected {
            action.is_expected = true;
            self.pending += usize::from(action.entry.is_none());
        }
        action
    }

    fn limit(&mut self, number: usize, why: &str) {
        self.halt_at(number, Halt::limit(why));
    }

    fn halt_at(&mut self, number: usize, halt: Halt) {
        self.halted.get_or_insert((number, halt));
    }

    /// Finds the firings whose newest cause is this entry.
    fn fire(&mut self, index: &Index, limits: &Limits, number: usize, key: Option<KeyId>) {
        let (Some(key), Some(entry)) = (key, self.log.get(number)) else {
            return;
        };
        let candidates = index.candidates(key, &entry.body, &mut self.anchors);
        let mut budget = Budget::new(limits.join_steps().saturating_sub(self.join_steps));
        let result = self.fire_candidates(index, limits, number, &candidates, &mut budget);
        self.join_steps = limits.join_steps() - budget.left();
        if let Err(halt) = result {
            self.halt_at(number, halt);
        }
    }

    /// Adds the firings and undecided matches of these patterns; the error is the reason why the
    /// flow stops.
    fn fire_candidates(
        &mut self,
        index: &Index,
        limits: &Limits,
        number: usize,
        candidates: &[PatternRef],
        budget: &mut Budget,
    ) -> Result<(), Halt> {
        for &at in candidates {
            let Some(sync) = index.syncs.get(at.sync) else { continue };
            let matches = matching::assignments(self, index, at, number, budget);
            for causes in matches.map_err(|Exhausted| Halt::limit(TOO_MANY_JOIN_STEPS))? {
                if index.asks(at.sync) {
                    self.leave_undecided(number, Undecided { sync: at.sync, causes });
                    continue;
                }
                let frames = if sync.steps.is_empty() {
                    Frames::Matched
                } else {
                    let matched = self.matched(sync, &causes);
                    let most = limits.frames_per_firing;
                    match frames::run(sync, matched, &Answers::default(), most, budget) {
                        Ok(ended) => Frames::Ended(ended),
                        Err(Stop::Limit(why)) => return Err(Halt::limit(why)),
                        Err(Stop::Large(why)) => return Err(Halt::from(why)),
                        // A rule without queries needs no results.
                        Err(Stop::Ask(_)) => continue,
                    }
                };
                self.add_firing(index, limits, number, at.sync, causes, frames);
                if self.halted.is_some() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The id of a rule's firing with these causes.
    fn firing_id(&self, sync: &Sync, causes: &[usize]) -> FiringId {
        FiringId::of(self.id, &sync.name, self.ids(causes))
    }

    /// Makes the first call of each frame due.
    fn add_firing(
        &mut self,
        index: &Index,
        limits: &Limits,
        number: usize,
        sync: usize,
        causes: Causes,
        frames: Frames,
    ) {
        let Some(rule) = index.syncs.get(sync) else { return };
        let id = self.firing_id(rule, &causes);
        let sequences: SmallVec<[Sequence; 4]> = match &frames {
            Frames::Matched => smallvec![Sequence::Then],
            Frames::Ended(ended) => ended.iter().map(|ended| ended.sequence).collect(),
        };
        self.firings.push(Firing { id, sync, causes, frames });
        let firing = self.firings.len() - 1;
        for (frame, sequence) in sequences.into_iter().enumerate() {
            let site =
                CallSite { firing, frame, sequence, position: 0, cause: number, failed: None };
            self.make_due(limits, number, site);
            if self.halted.is_some() {
                return;
            }
        }
    }

    fn ids<'a>(&'a self, entries: &'a [usize]) -> impl Iterator<Item = ActionId> + 'a {
        let entries = entries.iter().filter_map(|number| self.log.get(*number));
        entries.map(|entry| entry.id)
    }

    /// The first frame of `where`, as `when` binds it.
    fn matched(&self, sync: &Sync, causes: &[usize]) -> Frame {
        let bound = self.bound(sync, causes).into_iter();
        bound.map(|value| value.cloned().map(Arc::new)).collect()
    }

    /// The variables that `when` binds.
    fn bound(&self, sync: &Sync, causes: &[usize]) -> Bindings<'_> {
        let mut bindings: Bindings = smallvec![None; sync.variables.len()];
        for (pattern, cause) in sync.when.iter().zip(causes) {
            if let Some(entry) = self.log.get(*cause) {
                matching::bind(pattern, &entry.body, &mut bindings);
            }
        }
        bindings
    }

    /// If this entry completes a call of a sequence, makes the next call of that sequence due.
    fn go_on(&mut self, index: &Index, limits: &Limits, number: usize, site: Option<CallSite>) {
        let Some(site) = site else { return };
        let Some(sync) =
            self.firings.get(site.firing).and_then(|firing| index.syncs.get(firing.sync))
        else {
            return;
        };
        let failed_now = self.log.get(number).is_some_and(|entry| entry.body.is_failure());
        let next = match (failed_now, site.failed) {
            (false, _) => CallSite { position: site.position + 1, cause: number, ..site },
            (true, None) => {
                CallSite { position: sync.then.len(), cause: number, failed: Some(number), ..site }
            }
            (true, Some(_)) => return,
        };
        let end = match (site.sequence, next.failed) {
            (Sequence::Else(_), _) => 1,
            (Sequence::Then, None) => sync.then.len(),
            (Sequence::Then, Some(_)) => {
                sync.then.len() + sync.otherwise.as_ref().map_or(0, |o| o.calls.len())
            }
        };
        if next.position < end {
            self.make_due(limits, number, next);
        }
    }

    /// Makes a call due. If the flow then has too many actions, completed or called, it stops.
    fn make_due(&mut self, limits: &Limits, number: usize, site: CallSite) {
        let Some(firing) = self.firings.get(site.firing) else {
            return;
        };
        let id = call_id(firing.id, site.frame, site.position);
        self.expect(id).site.get_or_insert(site);
        if self.log.len() + self.pending > limits.actions_per_flow {
            return self.limit(number, TOO_MANY_ACTIONS);
        }
        if let Err(why) = self.check_args(&site) {
            return self.halt_at(number, Halt::from(why));
        }
        if let Some(entry) = self.log.get_mut(number) {
            entry.due.push(id);
        }
    }
}
