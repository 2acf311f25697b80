//! The rules, indexed by their patterns, so that the cost of a completion does not grow with the
//! number of rules.
//!
//! A pattern with a string literal in its input (`path: "/auth/login"`) is in a *bucket* of its
//! action and that literal. A rule with such a pattern is *anchored* at it: its other patterns are
//! only checked in flows that have a completion in that bucket.

use hashbrown::HashMap;
use std::sync::Arc;

use concert_wire::envelope::{Completion, Fault, Object};
use concert_wire::nested;
use concert_wire::{FIRED, REQUEST, REQUESTING, RESERVED_CONCEPT, RESPOND, RESPOND_WITH};
use serde_json::Value;
use smallvec::SmallVec;

use crate::frames::QueryBatch;
use concert_lang::program::{Outcome, Pattern, Program, Sync, Test};
use concert_lang::spec::{self, Params, QuerySpec};

/// Index of an action that a spec or a rule names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct KeyId(u32);

/// Index of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Anchor(u32);

/// One pattern of one rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PatternRef {
    pub(crate) sync: usize,
    pub(crate) pattern: usize,
}

/// The patterns with a literal for one input key, by literal.
type Literals = HashMap<Arc<str>, (Anchor, Vec<PatternRef>)>;

#[derive(Default)]
struct Waiting {
    /// For each input key with a string literal in some pattern: the patterns, by literal.
    buckets: Vec<(Arc<str>, Literals)>,
    anchored: HashMap<Anchor, Vec<PatternRef>>,
    free: Vec<PatternRef>,
}

struct KeyInfo {
    concept: Arc<str>,
    action: Arc<str>,
    can_fail: bool,
    /// Parameters of the output, if a spec declares the action.
    output: Option<Params>,
    success: Waiting,
    failure: Waiting,
}

pub(crate) struct Index {
    pub(crate) syncs: Vec<Arc<Sync>>,
    names: HashMap<Arc<str>, HashMap<Arc<str>, KeyId>>,
    keys: Vec<KeyInfo>,
    pattern_keys: Vec<Vec<KeyId>>,
    request: KeyId,
    responds: [KeyId; 2],
    record: KeyId,
    pub(crate) version: Arc<str>,
    /// Whether each rule has queries.
    asking: Vec<bool>,
    by_name: HashMap<Arc<str>, usize>,
    queries: HashMap<(Arc<str>, Arc<str>), QuerySpec>,
}

impl Index {
    pub(crate) fn new(program: &Program) -> Self {
        let mut index = Self {
            syncs: program.syncs.clone(),
            names: HashMap::new(),
            keys: Vec::new(),
            pattern_keys: Vec::new(),
            request: KeyId(0),
            responds: [KeyId(0); 2],
            record: KeyId(0),
            version: program.version.as_str().into(),
            asking: program.syncs.iter().map(|sync| sync.asks()).collect(),
            by_name: program
                .syncs
                .iter()
                .enumerate()
                .map(|(number, sync)| (sync.name.clone(), number))
                .collect(),
            queries: program
                .concepts
                .iter()
                .flat_map(|concept| concept.queries.iter().map(move |query| (concept, query)))
                .map(|(concept, query)| ((concept.name.clone(), query.name.clone()), query.clone()))
                .collect(),
        };
        index.request = index.intern(&REQUESTING.into(), &REQUEST.into());
        index.responds =
            [RESPOND, RESPOND_WITH].map(|action| index.intern(&REQUESTING.into(), &action.into()));
        index.record = index.intern(&RESERVED_CONCEPT.into(), &FIRED.into());
        for concept in &program.concepts {
            for action in &concept.actions {
                let key = index.intern(&concept.name, &action.name);
                if let Some(info) = index.info_mut(key) {
                    info.can_fail = action.can_fail;
                    info.output = action.success.clone();
                }
            }
        }
        let mut anchors = 0;
        for (number, sync) in program.syncs.iter().enumerate() {
            index.add(number, sync, &mut anchors);
        }
        index
    }

    fn add(&mut self, number: usize, sync: &Sync, anchors: &mut u32) {
        let keys: Vec<KeyId> = sync
            .when
            .iter()
            .map(|pattern| self.intern(&pattern.concept, &pattern.action))
            .collect();
        let mut anchor = None;
        let mut unanchored = Vec::new();
        for (position, (pattern, key)) in sync.when.iter().zip(&keys).enumerate() {
            let at = PatternRef { sync: number, pattern: position };
            let Some((name, value)) = literal(pattern) else {
                unanchored.push((pattern.outcome, *key, at));
                continue;
            };
            let Some(waiting) = self.waiting_mut(*key, pattern.outcome) else {
                continue;
            };
            let (bucket, patterns) = waiting.of_key(name).entry(value).or_insert_with(|| {
                *anchors += 1;
                (Anchor(*anchors), Vec::new())
            });
            patterns.push(at);
            anchor.get_or_insert(*bucket);
        }
        for (outcome, key, at) in unanchored {
            let Some(waiting) = self.waiting_mut(key, outcome) else {
                continue;
            };
            match anchor {
                Some(anchor) => waiting.anchored.entry(anchor).or_default().push(at),
                None => waiting.free.push(at),
            }
        }
        self.pattern_keys.push(keys);
    }

    fn intern(&mut self, concept: &Arc<str>, action: &Arc<str>) -> KeyId {
        let next = KeyId(u32::try_from(self.keys.len()).unwrap_or(u32::MAX));
        let key =
            *self.names.entry(concept.clone()).or_default().entry(action.clone()).or_insert(next);
        if key == next {
            self.keys.push(KeyInfo {
                concept: concept.clone(),
                action: action.clone(),
                can_fail: false,
                output: None,
                success: Waiting::default(),
                failure: Waiting::default(),
            });
        }
        key
    }

    fn info(&self, key: KeyId) -> Option<&KeyInfo> {
        self.keys.get(key.0 as usize)
    }

    fn info_mut(&mut self, key: KeyId) -> Option<&mut KeyInfo> {
        self.keys.get_mut(key.0 as usize)
    }

    fn waiting_mut(&mut self, key: KeyId, outcome: Outcome) -> Option<&mut Waiting> {
        self.info_mut(key).map(|info| match outcome {
            Outcome::Success => &mut info.success,
            Outcome::Failure => &mut info.failure,
        })
    }

    /// The index of an action; `None` if no spec and no rule names it.
    pub(crate) fn key(&self, concept: &str, action: &str) -> Option<KeyId> {
        self.names.get(concept)?.get(action).copied()
    }

    /// The action of a pattern.
    pub(crate) fn pattern_key(&self, at: PatternRef) -> Option<KeyId> {
        self.pattern_keys.get(at.sync)?.get(at.pattern).copied()
    }

    pub(crate) fn is_request(&self, key: Option<KeyId>) -> bool {
        key == Some(self.request)
    }

    pub(crate) fn is_respond(&self, key: Option<KeyId>) -> bool {
        key.is_some_and(|key| self.responds.contains(&key))
    }

    /// Whether this is a firing record.
    pub(crate) fn is_record(&self, key: Option<KeyId>) -> bool {
        key == Some(self.record)
    }

    /// Whether a rule has queries.
    pub(crate) fn asks(&self, sync: usize) -> bool {
        self.asking.get(sync).copied().unwrap_or(false)
    }

    /// The rule with this name, and its index.
    pub(crate) fn sync_named(&self, name: &str) -> Option<(usize, &Sync)> {
        let number = *self.by_name.get(name)?;
        Some((number, self.syncs.get(number)?))
    }

    /// Whether the spec declares that the action can fail.
    pub(crate) fn can_fail(&self, key: Option<KeyId>) -> bool {
        key.and_then(|key| self.info(key)).is_some_and(|info| info.can_fail)
    }

    /// Replaces an output that does not match the spec by a fault. Returns the difference.
    ///
    /// Workers check their outputs as well, but a worker need not be one of ours.
    pub(crate) fn check_output(&self, key: Option<KeyId>, body: &mut Completion) -> Option<String> {
        if body.is_failure() {
            return None;
        }
        let output = self.info(key?)?.output.as_ref()?;
        let difference = spec::check_input(output, &body.output).err()?;
        let (concept, action) = self.name(key);
        let why = format!("the output of {concept}.{action} does not match its spec: {difference}");
        body.output = Fault::Invalid.output(why.clone());
        Some(why)
    }

    /// Compares the rows of a query with its spec.
    pub(crate) fn check_rows(
        &self,
        batch: &QueryBatch,
        rows: &[Vec<Object>],
    ) -> Result<(), String> {
        let QueryBatch { concept, query, inputs } = batch;
        if rows.len() != inputs.len() {
            let (found, expected) = (rows.len(), inputs.len());
            return Err(format!("{concept}.{query} has {found} results for {expected} inputs"));
        }
        let Some(spec) = self.queries.get(&(concept.clone(), query.clone())) else {
            return Ok(());
        };
        rows.iter()
            .try_for_each(|rows| spec::check_rows(spec, rows))
            .map_err(|why| format!("{concept}: {why}"))
    }

    /// The concept and action of an index, for messages.
    pub(crate) fn name(&self, key: Option<KeyId>) -> (&str, &str) {
        key.and_then(|key| self.info(key)).map_or(("?", "?"), |info| (&info.concept, &info.action))
    }

    /// The patterns that this completion may match, given the anchors of its flow. Adds the anchors
    /// of the completion.
    pub(crate) fn candidates(
        &self,
        key: KeyId,
        body: &Completion,
        anchors: &mut Vec<Anchor>,
    ) -> SmallVec<[PatternRef; 8]> {
        let mut found = SmallVec::new();
        let Some(info) = self.info(key) else { return found };
        let waiting = if body.is_failure() { &info.failure } else { &info.success };
        for (name, literals) in &waiting.buckets {
            let Some(Value::String(value)) = nested::get(&body.input, name) else {
                continue;
            };
            let Some((anchor, patterns)) = literals.get(value.as_str()) else {
                continue;
            };
            if !anchors.contains(anchor) {
                anchors.push(*anchor);
            }
            found.extend_from_slice(patterns);
        }
        found.extend(
            anchors.iter().filter_map(|anchor| waiting.anchored.get(anchor)).flatten().copied(),
        );
        found.extend_from_slice(&waiting.free);
        found
    }
}

impl Waiting {
    fn of_key(&mut self, name: Arc<str>) -> &mut Literals {
        let known = self.buckets.iter().position(|(other, _)| *other == name);
        let at = known.unwrap_or(self.buckets.len());
        if known.is_none() {
            self.buckets.push((name, Literals::new()));
        }
        #[expect(
            clippy::indexing_slicing,
            reason = "the index was found, or the bucket was just pushed"
        )]
        &mut self.buckets[at].1
    }
}

/// The first string literal of a pattern's input.
fn literal(pattern: &Pattern) -> Option<(Arc<str>, Arc<str>)> {
    pattern.input.iter().find_map(|demand| match &demand.test {
        Test::Literal(Value::String(text)) => Some((demand.key.clone(), text.as_str().into())),
        _ => None,
    })
}
