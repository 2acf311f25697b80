//! Calls the workers' queries by request and reply, within limits for each concept.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use concert_engine::{Event, Question};
use concert_runtime::bus::Bus;
use concert_runtime::clock;
use concert_runtime::service::{self, Answer, Instance, NoAnswer};
use concert_wire::envelope::{Fault, Object};
use concert_wire::id::FlowId;
use concert_wire::value;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::metrics;
use crate::query_timing::QueryTimings;

/// Maximum number of queries of one concept that wait for a permit; the completions of others are
/// redelivered later.
const MAX_WAITING: usize = 128;
/// Maximum number of completions that wait for queries of one concept, delivered or to be
/// redelivered. Above it, further ones become dead letters: together they must not fill the
/// router's window of unacknowledged messages.
const MAX_UNANSWERED: usize = 2000;
/// Time after the deadline of the caller in which a query may still succeed.
const GRACE: Duration = Duration::from_secs(10);
/// Time that a flow without a caller waits for a query.
const WITHOUT_CALLER: Duration = Duration::from_secs(60);
/// Code of a worker's response to a query if a large value of its input is no longer stored.
const EXPIRED: &str = "410";
/// Time in which the instances of a worker respond to a ping.
const PING_TIMEOUT: Duration = Duration::from_millis(300);
/// Time that a worker's response may take on the network.
const NETWORK_MARGIN: Duration = Duration::from_millis(500);

/// A query for a completion.
pub(crate) struct Request {
    pub(crate) seq: u64,
    pub(crate) flow: FlowId,
    /// Deadline of the caller, in milliseconds since 1970.
    pub(crate) deadline_ms: Option<u64>,
    /// Storage time of the completion, in milliseconds since 1970.
    pub(crate) stored_ms: u64,
    pub(crate) question: Question,
}

/// Runs queries. A hanging worker uses up the permits of its own concept only.
#[derive(Clone)]
pub(crate) struct Queries {
    bus: Bus,
    concurrency: usize,
    /// Time after which a missing response is investigated.
    timeout: Duration,
    timings: QueryTimings,
    concepts: Arc<Mutex<HashMap<Arc<str>, Arc<Concept>>>>,
}

struct Concept {
    permits: Semaphore,
    waiting: AtomicUsize,
    /// Ids of the worker instances, and when they responded.
    instances: Mutex<(Option<Instant>, BTreeSet<String>)>,
    unanswered: Mutex<Unanswered>,
}

impl Queries {
    pub(crate) fn new(bus: Bus, concurrency: u16, timeout: Duration) -> Self {
        Self {
            bus,
            concurrency: usize::from(concurrency),
            timeout,
            timings: QueryTimings::default(),
            concepts: Arc::default(),
        }
    }

    pub(crate) const fn timings(&self) -> &QueryTimings {
        &self.timings
    }

    fn concept(&self, name: &Arc<str>) -> Arc<Concept> {
        let mut concepts = self.concepts.lock().unwrap_or_else(PoisonError::into_inner);
        let concept = concepts.entry(name.clone()).or_insert_with(|| {
            Arc::new(Concept {
                permits: Semaphore::new(self.concurrency),
                waiting: AtomicUsize::new(0),
                instances: Mutex::default(),
                unanswered: Mutex::default(),
            })
        });
        concept.clone()
    }

    /// Runs a query. Each delivery of the completion makes at least one attempt. After the deadline
    /// of the caller and a grace period, a query without a result is abandoned.
    pub(crate) async fn run(&self, request: Request) -> Event {
        let Request { seq, flow, deadline_ms, stored_ms, question } = request;
        let give_up_ms = give_up_ms(deadline_ms, stored_ms);
        let left = Duration::from_millis(give_up_ms.saturating_sub(clock::now_ms()));
        let until = Instant::now() + left.max(self.timeout);
        let concept = self.concept(&question.concept);
        let Some(permit) = self.permit(&concept, until).await else {
            let why = "too many queries of the concept are waiting".to_owned();
            return failed(&concept, (seq, flow), &question, give_up_ms, &why);
        };
        let began = Instant::now();
        let result = self.request(&concept, flow, &question, until).await;
        drop(permit);
        if let Ok(answer) = &result {
            let name = format!("{}.{}", question.concept, question.query);
            self.timings.answered(seq, name, began.into_std(), answer.work.clone());
        }
        let result = result.and_then(rows);
        if result.is_ok() {
            concept.unanswered().remove(seq);
        }
        match result {
            Ok(rows) => Event::Answered { seq, question, rows },
            // The query or its result does not match the spec, so a retry would not help.
            Err(NoAnswer::Refused { code, why }) if code == EXPIRED => {
                concept.unanswered().remove(seq);
                let (concept, query) = (&question.concept, &question.query);
                tracing::warn!(%flow, %concept, %query, why, "an input of a query has expired");
                let why = format!("a large value for {concept}.{query} has expired");
                Event::Refused { seq, fault: Fault::Expired, why }
            }
            Err(NoAnswer::Refused { code, why }) if code == "400" || code == "500" => {
                tracing::error!(
                    %flow,
                    concept = %question.concept,
                    query = %question.query,
                    why,
                    "a worker rejects a query"
                );
                let why = format!("{}.{} cannot be answered", question.concept, question.query);
                concept.unanswered().remove(seq);
                Event::Refused { seq, fault: Fault::Invalid, why }
            }
            Err(error) => failed(&concept, (seq, flow), &question, give_up_ms, &error.to_string()),
        }
    }

    /// Waits for a permit; `None` if too many queries wait already, or it takes too long.
    async fn permit<'a>(
        &self,
        concept: &'a Concept,
        until: Instant,
    ) -> Option<tokio::sync::SemaphorePermit<'a>> {
        if let Ok(permit) = concept.permits.try_acquire() {
            return Some(permit);
        }
        let waiting = Waiting::new(&concept.waiting)?;
        let permit = tokio::time::timeout_at(until, concept.permits.acquire()).await.ok()?.ok();
        drop(waiting);
        permit
    }

    /// Sends a request and waits for the response. Sends it again only if it was lost, so that at
    /// most one copy of a query runs.
    async fn request(
        &self,
        concept: &Arc<Concept>,
        flow: FlowId,
        question: &Question,
        until: Instant,
    ) -> Result<Answer, NoAnswer> {
        let name = (&*question.concept, &*question.query);
        let mut connections = self.bus.connections();
        loop {
            connections.mark_unchanged();
            let within = until.saturating_duration_since(Instant::now());
            tokio::select! {
                biased;
                result = service::ask(&self.bus, name, Some(flow), &question.input, within) => {
                    return result;
                }
                // A request is lost with its connection.
                Ok(()) = connections.changed() => {}
                () = self.lost(concept, name.0) => {}
            }
        }
    }

    /// Returns when the response to a request that was sent just now cannot come any more.
    async fn lost(&self, concept: &Arc<Concept>, name: &str) {
        let sent = Instant::now();
        if concept.are_instances_older_than(self.timeout) {
            let (queries, concept, name) = (self.clone(), concept.clone(), name.to_owned());
            // Most queries finish before the ping, whose result is for later ones.
            tokio::spawn(async move { queries.ping(&concept, &name).await });
        }
        tokio::time::sleep(PING_TIMEOUT * 2).await;
        let before = concept.instances().1.clone();
        let mut next = sent + self.timeout;
        loop {
            tokio::time::sleep_until(next).await;
            let found = self.ping(concept, name).await;
            if is_lost(&before, &found, sent.elapsed()) {
                return;
            }
            next = Instant::now() + self.timeout.min(Duration::from_secs(1));
        }
    }

    async fn ping(&self, concept: &Concept, name: &str) -> Vec<Instance> {
        let found = service::instances(&self.bus, name, PING_TIMEOUT).await;
        let ids = found.iter().map(|instance| instance.id.clone()).collect();
        *concept.instances() = (Some(Instant::now()), ids);
        found
    }
}

/// The event of a query without a result.
fn failed(
    concept: &Concept,
    (seq, flow): (u64, FlowId),
    question: &Question,
    give_up_ms: u64,
    why: &str,
) -> Event {
    let (name, query) = (&*question.concept, &*question.query);
    let why = match concept.unanswered().keep(seq, give_up_ms, clock::now_ms()) {
        Kept::Yes => {
            tracing::warn!(%flow, concept = name, query, why, "a query has no result; retrying");
            return Event::Unanswered { seq };
        }
        Kept::CallerHasLeft => why.to_owned(),
        Kept::TooMany => format!("{MAX_UNANSWERED} completions wait for queries of the concept"),
    };
    metrics::abandoned(name);
    tracing::error!(%flow, concept = name, query, why, "a query has no result; it is abandoned");
    let why = format!(
        "the query {name}.{query} has no result: {why}; when its worker runs, use `concert dead \
         retry`"
    );
    Event::Abandoned { seq, why }
}

/// Completions whose query has no result yet, with the time until which it is retried, in
/// milliseconds since 1970.
#[derive(Default)]
struct Unanswered(HashMap<u64, u64>);

/// Whether a completion waits for its query.
#[derive(Debug, PartialEq, Eq)]
enum Kept {
    Yes,
    CallerHasLeft,
    TooMany,
}

impl Unanswered {
    fn keep(&mut self, seq: u64, give_up_ms: u64, now_ms: u64) -> Kept {
        if now_ms >= give_up_ms {
            self.remove(seq);
            return Kept::CallerHasLeft;
        }
        if self.0.len() >= MAX_UNANSWERED && !self.0.contains_key(&seq) {
            // Another router may have received some of them.
            self.0.retain(|_, give_up_ms| now_ms < *give_up_ms);
            if self.0.len() >= MAX_UNANSWERED {
                return Kept::TooMany;
            }
        }
        self.0.insert(seq, give_up_ms);
        Kept::Yes
    }

    fn remove(&mut self, seq: u64) {
        self.0.remove(&seq);
    }
}

impl Concept {
    fn unanswered(&self) -> std::sync::MutexGuard<'_, Unanswered> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports whether a new ping is due, and counts it as sent.
    fn are_instances_older_than(&self, age: Duration) -> bool {
        let mut instances = self.instances();
        let is_due = instances.0.is_none_or(|at| at.elapsed() > age);
        if is_due {
            instances.0 = Some(Instant::now());
        }
        is_due
    }

    fn instances(&self) -> std::sync::MutexGuard<'_, (Option<Instant>, BTreeSet<String>)> {
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
/// all instances promise to respond earlier. Without information it is not.
fn is_lost(before: &BTreeSet<String>, now: &[Instance], elapsed: Duration) -> bool {
    if now.is_empty() {
        return false;
    }
    let is_missing = |id: &String| now.iter().all(|instance| instance.id != *id);
    let limits: Option<Vec<Duration>> = now.iter().map(Instance::limit).collect();
    let limit = limits.and_then(|limits| limits.into_iter().max());
    before.iter().any(is_missing) || limit.is_some_and(|limit| elapsed > limit + NETWORK_MARGIN)
}

fn rows(answer: Answer) -> Result<Vec<Object>, NoAnswer> {
    let mut body = answer.body;
    let Some(Value::Array(rows)) = body.swap_remove("rows") else {
        return Err(NoAnswer::Unreadable("`rows` is missing".to_owned()));
    };
    let rows = rows.into_iter().map(|row| match row {
        Value::Object(row) => Ok(row),
        other => Err(NoAnswer::Unreadable(format!("a row is {}", value::kind(&other)))),
    });
    rows.collect()
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
    fn completions_without_a_result_are_limited() {
        let mut unanswered = Unanswered::default();
        let most = u64::try_from(MAX_UNANSWERED).unwrap();
        for seq in 0..most {
            assert_eq!(unanswered.keep(seq, 100, 50), Kept::Yes);
        }
        assert_eq!(unanswered.keep(most, 200, 50), Kept::TooMany);
        assert_eq!(unanswered.keep(0, 100, 50), Kept::Yes, "a redelivery");
        assert_eq!(unanswered.keep(0, 100, 100), Kept::CallerHasLeft);
        assert_eq!(unanswered.keep(most, 200, 50), Kept::Yes);
        // The others were delivered to another router.
        assert_eq!(unanswered.keep(most + 1, 200, 150), Kept::Yes);
        unanswered.remove(most);
        assert_eq!(unanswered.0.len(), 1);
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
