//! The steps of `where`: from the frame that `when` bound to the frames in which `then` runs.
//!
//! A run is a pure function of that frame and the query results. If results are missing, it returns
//! the queries that can run now, and is repeated with their results. All frames that reached the
//! same step query together.

use std::borrow::Cow;
use std::sync::Arc;

use concert_wire::envelope::{Object, RETRY_AFTER, STATUS, encode};
use concert_wire::value::{canonical, canonical_object};
use hashbrown::{HashMap, HashSet};
use serde::ser::{Error as _, SerializeMap as _};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::budget::{Budget, Exhausted, TOO_MANY_JOIN_STEPS};
use crate::matching::{self, Bindings};
use concert_lang::expr::LargeOperand;
use concert_lang::program::{Arg, Gathered, Join, Query, Slot, Step, Sync, used};

/// The variables of a rule, by slot. The frames of a firing share their values.
pub(crate) type Frame = Vec<Option<Arc<Value>>>;

/// The frame as patterns and expressions read it.
pub(crate) fn bindings(frame: &Frame) -> Bindings<'_> {
    frame.iter().map(Option::as_deref).collect()
}

/// A query with its input. Each runs once per completion.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The concept.
    pub concept: Arc<str>,
    /// The query.
    pub query: Arc<str>,
    /// Its input.
    pub input: Object,
}

/// Equal for equal queries.
fn key(concept: &str, query: &str, input: &Object) -> String {
    format!("{concept}.{query} {}", canonical_object(input))
}

/// One query with the inputs that need its result now, each of them once.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryBatch {
    /// The concept.
    pub concept: Arc<str>,
    /// The query.
    pub query: Arc<str>,
    /// Its inputs.
    pub inputs: Vec<Object>,
}

impl QueryBatch {
    /// Groups distinct questions by their query.
    pub(crate) fn of(questions: Vec<Question>) -> Vec<Self> {
        let mut batches: Vec<Self> = Vec::new();
        for Question { concept, query, input } in questions {
            let same = |batch: &&mut Self| batch.concept == concept && batch.query == query;
            match batches.iter_mut().find(same) {
                Some(batch) => batch.inputs.push(input),
                None => batches.push(Self { concept, query, inputs: vec![input] }),
            }
        }
        batches
    }

    /// The query with each of its inputs.
    pub fn questions(&self) -> impl Iterator<Item = Question> {
        self.inputs.iter().map(|input| Question {
            concept: self.concept.clone(),
            query: self.query.clone(),
            input: input.clone(),
        })
    }
}

/// The results of queries.
#[derive(Debug, Default)]
pub(crate) struct Answers(HashMap<String, Vec<Object>>);

impl Answers {
    pub(crate) fn add(&mut self, batch: &QueryBatch, rows: Vec<Vec<Object>>) {
        for (input, rows) in batch.inputs.iter().zip(rows) {
            // The first result counts, so all rules of a completion see the same.
            self.0.entry(key(&batch.concept, &batch.query, input)).or_insert(rows);
        }
    }

    fn get(&self, question: &Question) -> Option<&Vec<Object>> {
        self.0.get(&key(&question.concept, &question.query, &question.input))
    }
}

/// The calls that a frame leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Sequence {
    /// The calls of `then`, and those of `else (error)`.
    Then,
    /// The call of a step's `else`, by index.
    Else(usize),
}

/// A frame after all steps.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ended {
    pub(crate) sequence: Sequence,
    /// Only the variables that its calls use.
    pub(crate) frame: Frame,
}

/// Reason why a run has no result.
#[derive(Debug, PartialEq)]
pub(crate) enum Stop {
    /// Queries whose results are missing.
    Ask(Vec<Question>),
    /// The flow reached this limit.
    Limit(&'static str),
    /// A step computes with a large value.
    Large(LargeOperand),
}

const TOO_MANY_FRAMES: Stop = Stop::Limit("a firing reached the limit of frames");

impl From<Exhausted> for Stop {
    fn from(_: Exhausted) -> Self {
        Self::Limit(TOO_MANY_JOIN_STEPS)
    }
}

impl From<LargeOperand> for Stop {
    fn from(why: LargeOperand) -> Self {
        Self::Large(why)
    }
}

/// Runs the steps of a rule from one frame. Equal result frames are merged.
pub(crate) fn run(
    sync: &Sync,
    frame: Frame,
    answers: &Answers,
    most: usize,
    budget: &mut Budget,
) -> Result<Vec<Ended>, Stop> {
    let mut run =
        Run { answers, most, budget, missing: Vec::new(), waiting: 0, otherwise: Vec::new() };
    let left = run.steps(&sync.steps, vec![frame])?;
    if !run.missing.is_empty() {
        return Err(Stop::Ask(run.missing));
    }
    let mut ended = Vec::new();
    let is_alone = run.otherwise.len() + left.len() == 1;
    let mut seen = HashSet::new();
    let mut end = |sequence, frame: &Frame, kept: &[Slot]| {
        let frame = project(frame, kept);
        let values = || {
            let values = frame.iter().map(|value| value.as_deref().cloned());
            values.map(Option::unwrap_or_default).collect()
        };
        if is_alone || seen.insert((sequence, canonical(&values()))) {
            ended.push(Ended { sequence, frame });
        }
    };
    for (number, frame) in &run.otherwise {
        if let Some(call) = sync.elses.get(*number) {
            end(Sequence::Else(*number), frame, &used([call]));
        }
    }
    for frame in &left {
        end(Sequence::Then, frame, &sync.kept);
    }
    if ended.len() > most {
        return Err(TOO_MANY_FRAMES);
    }
    Ok(ended)
}

fn project(frame: &Frame, kept: &[Slot]) -> Frame {
    let keep =
        |(slot, value): (Slot, &Option<Arc<Value>>)| value.clone().filter(|_| kept.contains(&slot));
    frame.iter().enumerate().map(keep).collect()
}

/// Reports, for a parameter that accepts null, whether the variable of an argument holds a null and
/// not an absent key.
fn is_null(arg: &Arg, frame: &[Option<&Value>]) -> bool {
    let bound = arg.absent_slot().and_then(|slot| frame.get(slot));
    bound.is_some_and(Option::is_some)
}

/// The input that arguments produce in a frame.
struct Input<'a> {
    args: &'a [Arg],
    frame: &'a [Option<&'a Value>],
}

impl<'a> Input<'a> {
    fn members(&self) -> impl Iterator<Item = Result<(&'a str, Cow<'a, Value>), LargeOperand>> {
        let frame = self.frame;
        self.args.iter().filter_map(move |arg| match arg.value.eval(frame) {
            Ok(value) if arg.omit_null && value.is_null() && !is_null(arg, frame) => None,
            value => Some(value.map(|value| (&*arg.key, value))),
        })
    }

    fn object(&self) -> Result<Object, LargeOperand> {
        let owned = |(key, value): (&str, Cow<'_, Value>)| (key.to_owned(), value.into_owned());
        self.members().map(|member| member.map(owned)).collect()
    }
}

impl Serialize for Input<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for member in self.members() {
            let (key, value) = member.map_err(S::Error::custom)?;
            map.serialize_entry(key, &value)?;
        }
        map.end()
    }
}

/// Checks that no argument computes with a large value.
pub(crate) fn check_args(args: &[Arg], frame: &[Option<&Value>]) -> Result<(), LargeOperand> {
    Input { args, frame }.members().try_for_each(|member| member.map(drop))
}

/// The body of an invocation with these arguments, which [`check_args`] accepted when the call
/// became due.
pub(crate) fn body(args: &[Arg], frame: &[Option<&Value>]) -> Vec<u8> {
    encode(&Input { args, frame })
}

/// The body of a response with these arguments, and with this status instead of theirs.
pub(crate) fn answer_with_status(
    args: &[Arg],
    frame: &[Option<&Value>],
    status: u16,
    wait: Option<&Value>,
) -> Vec<u8> {
    let mut input = Input { args, frame }.object().unwrap_or_default();
    input.insert(STATUS.to_owned(), Value::from(status));
    input.extend(wait.map(|wait| (RETRY_AFTER.to_owned(), wait.clone())));
    encode(&input)
}

fn question(query: &Query, frame: &[Option<&Value>]) -> Result<Question, LargeOperand> {
    let args = &query.args;
    Ok(Question {
        concept: query.concept.clone(),
        query: query.name.clone(),
        input: Input { args, frame }.object()?,
    })
}

struct Run<'a> {
    answers: &'a Answers,
    most: usize,
    budget: &'a mut Budget,
    missing: Vec<Question>,
    /// Number of frames that need a missing result; several frames can need the same one.
    waiting: usize,
    /// The frames that ended in the `else` of a step.
    otherwise: Vec<(usize, Frame)>,
}

impl Run<'_> {
    /// The frames after the steps, without those that need a missing result. Their queries are
    /// added to `missing`.
    fn steps(&mut self, steps: &[Step], mut frames: Vec<Frame>) -> Result<Vec<Frame>, Stop> {
        for step in steps {
            self.budget.spend(frames.len())?;
            frames = self.step(step, frames)?;
            if frames.len() > self.most {
                return Err(TOO_MANY_FRAMES);
            }
        }
        Ok(frames)
    }

    fn step(&mut self, step: &Step, frames: Vec<Frame>) -> Result<Vec<Frame>, Stop> {
        let mut left = Vec::with_capacity(frames.len());
        match step {
            Step::Query { join, query, otherwise } => {
                for frame in frames {
                    self.query(*join, query, *otherwise, frame, &mut left)?;
                    if left.len() > self.most {
                        return Err(TOO_MANY_FRAMES);
                    }
                }
            }
            Step::Let(slot, value) => {
                for frame in frames {
                    let value = value.eval(&bindings(&frame))?.into_owned();
                    left.push(with(frame, *slot, value));
                }
            }
            Step::Each(slot, list) => {
                for frame in frames {
                    let bindings = bindings(&frame);
                    let list = list.eval(&bindings)?;
                    let Value::Array(items) = &*list else {
                        continue;
                    };
                    if left.len() + items.len() > self.most {
                        return Err(TOO_MANY_FRAMES);
                    }
                    left.extend(items.iter().map(|item| with(frame.clone(), *slot, item.clone())));
                }
            }
            Step::Filter { condition, otherwise } => {
                for frame in frames {
                    if *condition.eval(&bindings(&frame))? == Value::Bool(true) {
                        left.push(frame);
                    } else {
                        self.leaves_nothing(*otherwise, frame);
                    }
                }
            }
            Step::Collect { body, gathered, into } => {
                let mut inner = 0;
                for frame in frames {
                    let waiting = self.waiting;
                    let found = self.steps(body, vec![frame.clone()])?;
                    if self.waiting > waiting {
                        // The list is incomplete, so the following steps must not run with it.
                        continue;
                    }
                    inner += found.len();
                    if inner > self.most {
                        return Err(TOO_MANY_FRAMES);
                    }
                    let list = found.iter().map(|found| gather(gathered, found)).collect();
                    left.push(with(frame, *into, list));
                }
            }
        }
        Ok(left)
    }

    fn query(
        &mut self,
        join: Join,
        query: &Query,
        otherwise: Option<usize>,
        frame: Frame,
        left: &mut Vec<Frame>,
    ) -> Result<(), Stop> {
        let question = question(query, &bindings(&frame))?;
        let Some(rows) = self.answers.get(&question) else {
            self.waiting += 1;
            if !self.missing.contains(&question) {
                self.missing.push(question);
            }
            return Ok(());
        };
        self.budget.spend(rows.len())?;
        let mut fitting = rows.iter().filter_map(|row| fit(query, row, &frame)).peekable();
        match join {
            Join::Rows if fitting.peek().is_some() => left.extend(fitting),
            Join::Optional if fitting.peek().is_some() => left.extend(fitting),
            Join::Optional => {
                drop(fitting);
                let slots = query.output.iter().filter_map(|demand| demand.slot());
                left.push(slots.fold(frame, |frame, slot| with(frame, slot, Value::Null)));
            }
            Join::Some if fitting.peek().is_some() => {
                drop(fitting);
                left.push(frame);
            }
            Join::No if fitting.peek().is_none() => {
                drop(fitting);
                left.push(frame);
            }
            Join::Rows | Join::Some | Join::No => {
                drop(fitting);
                self.leaves_nothing(otherwise, frame);
            }
        }
        Ok(())
    }

    fn leaves_nothing(&mut self, otherwise: Option<usize>, frame: Frame) {
        if let Some(number) = otherwise {
            self.otherwise.push((number, frame));
        }
    }
}

fn with(mut frame: Frame, slot: Slot, value: Value) -> Frame {
    if let Some(place) = frame.get_mut(slot) {
        *place = Some(Arc::new(value));
    }
    frame
}

/// The frame with the variables that a row binds, if the row matches the query's pattern.
fn fit(query: &Query, row: &Object, frame: &Frame) -> Option<Frame> {
    let mut bindings = bindings(frame);
    let fits = query.output.iter().all(|demand| matching::holds(demand, row, &mut bindings));
    let bound = bindings.into_iter().zip(frame);
    fits.then(|| {
        bound.map(|(new, old)| old.clone().or_else(|| new.cloned().map(Arc::new))).collect()
    })
}

fn gather(gathered: &Gathered, frame: &Frame) -> Value {
    let value = |slot: Slot| match frame.get(slot) {
        Some(Some(value)) => (**value).clone(),
        _ => Value::Null,
    };
    match gathered {
        Gathered::Values(slot) => value(*slot),
        Gathered::Records(fields) => Value::Object(
            fields.iter().map(|(key, slot)| (key.to_string(), value(*slot))).collect(),
        ),
    }
}
