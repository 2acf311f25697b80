//! Which requests are taken, so that those that are taken are answered in time.
//!
//! A queue that grows answers nobody: each request waits until its deadline, and the work for it is
//! done in vain. So a path takes as many requests as it has lately answered within the time that a
//! client may wait (Little's law: requests under way = rate × wait). What is refused is told at
//! once. Each path counts for itself, and none may take all the places.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use concert_runtime::setting::{COUNT_MAX, DAY_MS};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Limits of concurrent requests: a part of the section `[http]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AdmissionLimits {
    /// Maximum number of concurrent requests; excess requests get 503.
    #[schemars(range(min = 1, max = COUNT_MAX))]
    pub max_requests: usize,
    /// Maximum number of concurrent requests for one path; excess requests get 503.
    #[schemars(range(min = 1, max = COUNT_MAX))]
    pub max_requests_per_path: usize,
    /// Maximum estimated wait for a response, in milliseconds, based on the recent response rate;
    /// excess requests get 503.
    #[schemars(range(min = 0, max = DAY_MS))]
    pub max_wait_ms: u64,
    /// Number of concurrent requests for one path that are accepted regardless of the estimated
    /// wait.
    #[schemars(range(min = 1, max = COUNT_MAX))]
    pub min_requests_per_path: usize,
}

impl Default for AdmissionLimits {
    fn default() -> Self {
        Self {
            max_requests: 1024,
            max_requests_per_path: 512,
            max_wait_ms: 3000,
            min_requests_per_path: 64,
        }
    }
}

/// Requests under way.
pub(crate) struct Admission {
    limits: AdmissionLimits,
    all: Mutex<All>,
}

#[derive(Default)]
struct All {
    under_way: usize,
    paths: HashMap<Arc<str>, Path>,
}

struct Path {
    under_way: usize,
    /// Answers lately, each counting less the longer it is ago.
    answers: f64,
    /// The time in which they came, in seconds, without the time in which nothing was under way;
    /// fading likewise.
    busy: f64,
    /// The last answer, or the first request after a time without any.
    since: Instant,
}

/// A request that is taken. Dropping it means that it has its answer.
pub(crate) struct Admitted {
    admission: Arc<Admission>,
    path: Arc<str>,
}

/// What is this long ago, in seconds of being busy, counts a third.
const FADE_SECONDS: f64 = 1.0;
/// What came in less than this time, in seconds, says nothing of the rate.
const LEAST_SECONDS: f64 = 0.1;

impl Path {
    /// How many requests there may be.
    fn limit(&self, limits: &AdmissionLimits, now: Instant) -> usize {
        let wait = Duration::from_millis(limits.max_wait_ms);
        let is_stalled = self.under_way > 0 && now - self.since > wait;
        let rate = if is_stalled { 0.0 } else { self.answers / self.busy.max(LEAST_SECONDS) };
        // From a float it is the nearest that there is.
        let by_rate = (rate * wait.as_secs_f64()) as usize;
        by_rate.max(limits.min_requests_per_path).min(limits.max_requests_per_path)
    }

    fn answered(&mut self, now: Instant) {
        let seconds = (now - self.since).as_secs_f64();
        let fade = (-seconds / FADE_SECONDS).exp();
        self.answers = self.answers * fade + 1.0;
        self.busy = self.busy * fade + seconds;
        self.since = now;
        self.under_way -= 1;
    }
}

impl Admission {
    pub(crate) fn new(limits: AdmissionLimits) -> Arc<Self> {
        Arc::new(Self { limits, all: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request of a path would be taken now: asked before there is any work for it.
    pub(crate) fn has_room(&self, path: &str) -> bool {
        let all = self.lock();
        let has_path_room = |path: &Path| path.under_way < path.limit(&self.limits, Instant::now());
        all.under_way < self.limits.max_requests && all.paths.get(path).is_none_or(has_path_room)
    }

    /// Takes a request of a path, or does not. The paths are those of the route table, so that no
    /// client can make them.
    pub(crate) fn take(self: &Arc<Self>, path: &str) -> Option<Admitted> {
        let now = Instant::now();
        let mut all = self.lock();
        if all.under_way >= self.limits.max_requests {
            return None;
        }
        let name: Arc<str> = match all.paths.get_key_value(path) {
            Some((name, _)) => name.clone(),
            None => path.into(),
        };
        let path = all.paths.entry(name.clone()).or_insert(Path {
            under_way: 0,
            answers: 0.0,
            busy: 0.0,
            since: now,
        });
        if path.under_way >= path.limit(&self.limits, now) {
            return None;
        }
        if path.under_way == 0 {
            path.since = now;
        }
        path.under_way += 1;
        all.under_way += 1;
        Some(Admitted { admission: self.clone(), path: name })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut all = self.admission.lock();
        all.under_way -= 1;
        if let Some(path) = all.paths.get_mut(&self.path) {
            path.answered(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    fn admission(min: usize) -> Arc<Admission> {
        Admission::new(AdmissionLimits {
            max_requests: 1000,
            max_requests_per_path: 500,
            max_wait_ms: 2000,
            min_requests_per_path: min,
        })
    }

    /// Sends `rate` requests a second to a path that answers 100 a second, in order. How many were
    /// taken, and the longest wait of those in milliseconds.
    async fn flood(admission: &Arc<Admission>, rate: u64, seconds: u64) -> (u64, u64) {
        let (mut queue, mut taken, mut longest) = (VecDeque::new(), 0, Duration::ZERO);
        for ms in 0.. {
            let is_over = ms >= seconds * 1000;
            if is_over && queue.is_empty() {
                break;
            }
            let rate = if is_over { 0 } else { rate };
            for _ in 0..(ms + 1) * rate / 1000 - ms * rate / 1000 {
                if let Some(request) = admission.take("/login") {
                    taken += 1;
                    queue.push_back((request, Instant::now()));
                }
            }
            if ms % 10 == 0
                && let Some((request, since)) = queue.pop_front()
            {
                longest = longest.max(since.elapsed());
                drop(request);
            }
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        (taken, u64::try_from(longest.as_millis()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_taken_at_the_rate_of_answers_and_nobody_waits_much_longer_than_is_allowed()
    {
        for rate in [50, 100, 200, 1000, 5000] {
            let admission = admission(20);
            let (taken, longest_ms) = flood(&admission, rate, 30).await;
            let (most, least) = (rate.min(100) * 30 + 250, rate.min(100) * 30 - 30);
            assert!((least..most).contains(&taken), "{rate}: {taken}");
            assert!(longest_ms <= 2200, "{rate}: {longest_ms}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn when_the_flood_is_over_the_next_request_is_taken_and_another_path_never_noticed() {
        let admission = admission(20);
        flood(&admission, 5000, 5).await;
        assert!(admission.take("/login").is_some(), "what was under way has gone");
        let held: Vec<_> = std::iter::from_fn(|| admission.take("/login")).collect();
        assert!(held.len() < 250, "{}", held.len());
        assert!(admission.take("/login").is_none());
        assert!(!admission.has_room("/login") && admission.has_room("/logout"));
        let others: Vec<_> = (0..20).map(|_| admission.take("/logout")).collect();
        assert!(others.iter().all(Option::is_some));
    }

    #[tokio::test(start_paused = true)]
    async fn a_path_that_answers_nothing_any_more_takes_few() {
        let admission = admission(20);
        flood(&admission, 100, 5).await;
        let held: Vec<_> = (0..150).filter_map(|_| admission.take("/login")).collect();
        assert_eq!(held.len(), 150);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(admission.take("/login").is_none());
        drop(held);
        assert!(admission.take("/login").is_some());
    }
}
