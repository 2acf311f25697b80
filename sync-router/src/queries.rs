//! Calls the workers' queries by request and reply, within limits for each concept. One message
//! contains all inputs of a query that its rules need at the same step.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use concert_engine::{Event, QueryBatch};
use concert_runtime::bus::Bus;
use concert_runtime::clock;
use concert_runtime::repetitions::Repetitions;
use concert_runtime::service::{self, Answer, Instance, NoAnswer};
use concert_wire::envelope::{Fault, Object};
use concert_wire::id::FlowId;
use concert_wire::subject::QUERY_BATCH;
use concert_wire::value;
use concert_wire::work::Part;
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::metrics;
use crate::query_timing::QueryTimings;
use crate::unanswered::{Kept, Unanswered};

/// Maximum number of queries of one concept that wait for a permit; the completions of further
/// queries are redelivered later.
const MAX_WAITING: usize = 128;
/// Time after the deadline of the caller in which a query may still succeed.
const GRACE: Duration = Duration::from_secs(10);
/// Time that a flow without a caller waits for a query.
const WITHOUT_CALLER: Duration = Duration::from_secs(60);
/// Code of a worker's response to a query if a large value of its input is no longer stored.
const EXPIRED: &str = "410";
/// Code of a worker's response to a batch if the results do not fit into one message.
const TOO_LARGE: &str = "413";
/// Maximum number of inputs in one message.
const BATCH_MAX: usize = 100;
/// Time in which the instances of a worker respond to a ping.
const PING_TIMEOUT: Duration = Duration::from_millis(300);
/// Time that a worker's response may take on the network.
const NETWORK_MARGIN: Duration = Duration::from_millis(500);

/// A query with its inputs, for a completion.
pub(crate) struct Request {
    pub(crate) seq: u64,
    pub(crate) flow: FlowId,
    /// Deadline of the caller, in milliseconds since 1970.
    pub(crate) deadline_ms: Option<u64>,
    /// Storage time of the completion, in milliseconds since 1970.
    pub(crate) stored_ms: u64,
    pub(crate) batch: QueryBatch,
}

/// A query while it runs.
struct Asked<'a> {
    seq: u64,
    flow: FlowId,
    of: Arc<Concept>,
    retries: &'a Repetitions<(Arc<str>, Arc<str>)>,
    concept: &'a str,
    query: &'a str,
    until: Instant,
    give_up_ms: u64,
}

/// The rows of one input.
type Rows = Vec<Object>;

/// Limits of the queries of each concept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueryLimits {
    /// Maximum number of concurrent queries.
    pub(crate) concurrency: usize,
    /// Maximum number of completions that wait for queries.
    pub(crate) unanswered: usize,
    /// Time after which a missing response is investigated.
    pub(crate) timeout: Duration,
}

/// Runs queries. A hanging worker uses up the permits of its own concept only.
#[derive(Clone)]
pub(crate) struct Queries {
    bus: Bus,
    limits: QueryLimits,
    timings: QueryTimings,
    concepts: Arc<Mutex<HashMap<Arc<str>, Arc<Concept>>>>,
    retries: Repetitions<(Arc<str>, Arc<str>)>,
}

struct Concept {
    permits: Semaphore,
    waiting: AtomicUsize,
    /// Ids of the worker instances, and when they responded.
    instances: Mutex<(Option<Instant>, BTreeSet<String>)>,
    unanswered: Mutex<Unanswered>,
}

impl Queries {
    pub(crate) fn new(bus: Bus, limits: QueryLimits) -> Self {
        Self {
            bus,
            limits,
            timings: QueryTimings::default(),
            concepts: Arc::default(),
            retries: Repetitions::default(),
        }
    }

    pub(crate) const fn timings(&self) -> &QueryTimings {
        &self.timings
    }

    /// Minimum delay of the redelivery of a completion that waits for a query.
    pub(crate) fn delay(&self, seq: u64) -> Duration {
        let concepts = self.concepts();
        concepts.values().find_map(|of| of.unanswered().delay(seq)).unwrap_or_default()
    }

    fn concepts(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Concept>>> {
        self.concepts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn concept(&self, name: &Arc<str>) -> Arc<Concept> {
        let mut concepts = self.concepts();
        let concept = concepts.entry(name.clone()).or_insert_with(|| {
            Arc::new(Concept {
                permits: Semaphore::new(self.limits.concurrency),
                waiting: AtomicUsize::new(0),
                instances: Mutex::default(),
                unanswered: Mutex::new(Unanswered::new(self.limits.unanswered)),
            })
        });
        concept.clone()
    }

    /// Runs a query. Each delivery of the completion makes at least one attempt, even after the
    /// deadline of the caller. After that deadline and a grace period, a query without a result is
    /// abandoned.
    pub(crate) async fn run(&self, request: Request) -> Event {
        let Request { seq, flow, deadline_ms, stored_ms, batch } = request;
        let give_up_ms = give_up_ms(deadline_ms, stored_ms);
        let left = Duration::from_millis(give_up_ms.saturating_sub(clock::now_ms()));
        let asked = Asked {
            seq,
            flow,
            of: self.concept(&batch.concept),
            retries: &self.retries,
            concept: &batch.concept,
            query: &batch.query,
            until: Instant::now() + left.max(self.limits.timeout),
            give_up_ms,
        };
        let parts = batch.inputs.chunks(BATCH_MAX).map(|inputs| self.ask_together(&asked, inputs));
        match try_join_all(parts).await {
            Ok(rows) => {
                asked.of.unanswered().remove(seq);
                Event::Answered { seq, batch, rows: rows.into_iter().flatten().collect() }
            }
            Err(error) => asked.failed(error),
        }
    }

    /// Runs a query for several inputs with one message, or one message per input if that is
    /// impossible: the worker does not support it, or the inputs or rows do not fit into a message.
    /// Fails if the message gets no permit.
    async fn ask_together(
        &self,
        asked: &Asked<'_>,
        inputs: &[Object],
    ) -> Result<Vec<Rows>, NoAnswer> {
        if let [input] = inputs {
            return Ok(vec![self.ask_one(asked, input).await?]);
        }
        let batch = Object::from_iter([
            ("query".to_owned(), json!(asked.query)),
            ("inputs".to_owned(), json!(inputs)),
        ]);
        let permit = asked.of.permit(asked.until).await?;
        let answer = self.exchange(asked, QUERY_BATCH, &batch, inputs.len()).await;
        drop(permit);
        match answer {
            Ok(answer) => results(answer, inputs.len()),
            Err(NoAnswer::Unreachable(_)) => self.ask_each(asked, inputs).await,
            Err(NoAnswer::Refused { code, .. }) if code == TOO_LARGE => {
                self.ask_each(asked, inputs).await
            }
            Err(error) => Err(error),
        }
    }

    async fn ask_each(&self, asked: &Asked<'_>, inputs: &[Object]) -> Result<Vec<Rows>, NoAnswer> {
        try_join_all(inputs.iter().map(|input| self.ask_one(asked, input))).await
    }

    async fn ask_one(&self, asked: &Asked<'_>, input: &Object) -> Result<Rows, NoAnswer> {
        let permit = asked.of.permit(asked.until).await?;
        let mut answer = self.exchange(asked, asked.query, input, 1).await?;
        drop(permit);
        rows(answer.body.swap_remove("rows"))
    }

    /// Sends a request, and records its duration.
    async fn exchange(
        &self,
        asked: &Asked<'_>,
        endpoint: &str,
        input: &Object,
        inputs: usize,
    ) -> Result<Answer, NoAnswer> {
        let began = Instant::now();
        let answer = self.request(asked, endpoint, input).await?;
        let name = Part::query_name(asked.concept, asked.query, inputs);
        self.timings.answered(asked.seq, name, began.into_std(), answer.work.clone());
        Ok(answer)
    }

    /// Sends a request and waits for the response. Sends it again only if it was lost, so that at
    /// most one copy of a query runs.
    async fn request(
        &self,
        asked: &Asked<'_>,
        endpoint: &str,
        input: &Object,
    ) -> Result<Answer, NoAnswer> {
        let name = (asked.concept, endpoint);
        let mut connections = self.bus.connections();
        loop {
            connections.mark_unchanged();
            let within = asked.until.saturating_duration_since(Instant::now());
            tokio::select! {
                biased;
                result = service::ask(&self.bus, name, Some(asked.flow), input, within) => {
                    return result;
                }
                // A request is lost with its connection.
                Ok(()) = connections.changed() => {}
                () = self.lost(&asked.of, asked.concept) => {}
            }
        }
    }

    /// To be called directly after a request is sent. Returns once the request is lost, so that no
    /// response can come.
    async fn lost(&self, concept: &Arc<Concept>, name: &str) {
        let sent = Instant::now();
        if concept.are_instances_older_than(self.limits.timeout) {
            let (queries, concept, name) = (self.clone(), concept.clone(), name.to_owned());
            // Most queries finish before the ping does; later queries use its result.
            tokio::spawn(async move { queries.ping(&concept, &name).await });
        }
        tokio::time::sleep(PING_TIMEOUT * 2).await;
        let before = concept.instances().1.clone();
        let mut next = sent + self.limits.timeout;
        loop {
            tokio::time::sleep_until(next).await;
            let found = self.ping(concept, name).await;
            if is_lost(&before, &found, sent.elapsed()) {
                return;
            }
            next = Instant::now() + self.limits.timeout.min(Duration::from_secs(1));
        }
    }

    async fn ping(&self, concept: &Concept, name: &str) -> Vec<Instance> {
        let found = service::instances(&self.bus, name, PING_TIMEOUT).await;
        let ids = found.iter().map(|instance| instance.id.clone()).collect();
        *concept.instances() = (Some(Instant::now()), ids);
        found
    }
}

impl Asked<'_> {
    /// The event of a query without a result.
    fn failed(&self, error: NoAnswer) -> Event {
        let Self { seq, flow, concept, query, .. } = *self;
        match error {
            // In both cases a retry would not help: a large value is not stored any more, or the
            // query or its result does not match the spec.
            NoAnswer::Refused { code, why } if code == EXPIRED => {
                self.of.unanswered().remove(seq);
                tracing::warn!(%flow, concept, query, why, "an input of a query has expired");
                let why = format!("a large value for {concept}.{query} has expired");
                Event::Refused { seq, fault: Fault::Expired, why }
            }
            NoAnswer::Refused { code, why } if code == "400" || code == "500" => {
                self.of.unanswered().remove(seq);
                tracing::error!(%flow, concept, query, why, "a worker rejects a query");
                let why = format!("{concept}.{query} cannot be answered");
                Event::Refused { seq, fault: Fault::Invalid, why }
            }
            // The remaining time of this attempt means nothing to an operator.
            NoAnswer::TimedOut(_) => self.unanswered("no response in time"),
            error => self.unanswered(&error.to_string()),
        }
    }

    fn unanswered(&self, why: &str) -> Event {
        let Self { seq, concept, query, .. } = *self;
        let why = match self.of.unanswered().keep(seq, self.give_up_ms, clock::now_ms()) {
            Kept::Yes => {
                self.log_retry(why);
                return Event::Unanswered { seq };
            }
            Kept::CallerHasLeft => why.to_owned(),
            Kept::TooMany(max) => format!(
                "{max} completions wait for queries of the concept (router.unanswered_queries)"
            ),
        };
        metrics::abandoned(concept);
        let why = format!(
            "the query {concept}.{query} has no result: {why}; when its worker runs, use `concert \
             dead retry`"
        );
        Event::Abandoned { seq, why }
    }

    /// Logs one line for each query and interval.
    fn log_retry(&self, why: &str) {
        let Self { flow, concept, query, .. } = *self;
        let kind = (Arc::<str>::from(concept), Arc::<str>::from(query));
        let (of_concept, of_query) = kind.clone();
        let is_first = self.retries.is_first(kind, move |count| {
            let (concept, query) = (&*of_concept, &*of_query);
            tracing::warn!(concept, query, count, "queries had no result; retrying");
        });
        if is_first {
            tracing::warn!(%flow, concept, query, why, "a query has no result; retrying");
        }
    }
}

impl Concept {
    /// Waits for a permit.
    ///
    /// # Errors
    /// Too many queries wait already, or it takes too long.
    async fn permit(&self, until: Instant) -> Result<SemaphorePermit<'_>, NoAnswer> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        let waiting = Waiting::new(&self.waiting);
        let permit = match &waiting {
            Some(_) => tokio::time::timeout_at(until, self.permits.acquire()).await.ok(),
            None => None,
        };
        permit.and_then(Result::ok).ok_or_else(|| {
            NoAnswer::Unreachable("too many queries of the concept are waiting".to_owned())
        })
    }

    fn unanswered(&self) -> MutexGuard<'_, Unanswered> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether a ping is due. If so, counts it as sent: the caller must send it.
    fn are_instances_older_than(&self, age: Duration) -> bool {
        let mut instances = self.instances();
        let is_due = instances.0.is_none_or(|at| at.elapsed() > age);
        if is_due {
            instances.0 = Some(Instant::now());
        }
        is_due
    }

    fn instances(&self) -> MutexGuard<'_, (Option<Instant>, BTreeSet<String>)> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a query that waits for a permit.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Option<Self> {
        let waiting = Self(count);
        (count.fetch_add(1, Ordering::Relaxed) < MAX_WAITING).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Time after which a query without a result is abandoned, in milliseconds since 1970.
fn give_up_ms(deadline_ms: Option<u64>, stored_ms: u64) -> u64 {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let deadline_ms = deadline_ms.unwrap_or(stored_ms.saturating_add(ms(WITHOUT_CALLER)));
    deadline_ms.max(stored_ms).saturating_add(ms(GRACE))
}

/// Decides whether a request is lost: an instance that may have received it no longer exists, or
/// the longest time that any instance takes for a query has passed. This is unknown if no instance
/// answers the ping, or one has no such limit. Then the request does not count as lost.
fn is_lost(before: &BTreeSet<String>, now: &[Instance], elapsed: Duration) -> bool {
    if now.is_empty() {
        return false;
    }
    let is_missing = |id: &String| now.iter().all(|instance| instance.id != *id);
    let limits: Option<Vec<Duration>> = now.iter().map(Instance::limit).collect();
    let limit = limits.and_then(|limits| limits.into_iter().max());
    before.iter().any(is_missing) || limit.is_some_and(|limit| elapsed > limit + NETWORK_MARGIN)
}

fn rows(rows: Option<Value>) -> Result<Rows, NoAnswer> {
    let Some(Value::Array(rows)) = rows else {
        return Err(NoAnswer::Unreadable("`rows` is missing".to_owned()));
    };
    let rows = rows.into_iter().map(|row| match row {
        Value::Object(row) => Ok(row),
        other => Err(NoAnswer::Unreadable(format!("a row is {}", value::kind(&other)))),
    });
    rows.collect()
}

/// The rows of each input of a batch.
fn results(mut answer: Answer, inputs: usize) -> Result<Vec<Rows>, NoAnswer> {
    match answer.body.swap_remove("results") {
        Some(Value::Array(results)) if results.len() == inputs => {
            results.into_iter().map(|of| rows(Some(of))).collect()
        }
        _ => Err(NoAnswer::Unreadable(format!("`results` must have {inputs} elements"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_is_abandoned_after_the_deadline_and_a_grace_period() {
        assert_eq!(give_up_ms(Some(5_000), 1_000), 15_000);
        assert_eq!(give_up_ms(Some(5_000), 90_000), 100_000);
        assert_eq!(give_up_ms(None, 1_000), 71_000);
    }

    #[test]
    fn request_is_lost_when_its_instance_is_gone_or_its_limit_has_passed() {
        let instance =
            |id: &str, limit: Option<u64>| Instance::new(id, limit.map(Duration::from_secs));
        let before = BTreeSet::from(["a".to_owned()]);
        let second = Duration::from_secs;
        for (now, elapsed, expected) in [
            (vec![], 100, false),
            (vec![instance("a", None)], 100, false),
            (vec![instance("a", Some(10))], 9, false),
            (vec![instance("a", Some(10))], 11, true),
            (vec![instance("a", Some(10)), instance("b", None)], 11, false),
            (vec![instance("b", None)], 5, true),
        ] {
            assert_eq!(is_lost(&before, &now, second(elapsed)), expected, "{now:?} {elapsed}");
        }
        assert!(!is_lost(&BTreeSet::new(), &[instance("b", None)], second(5)));
    }
}
