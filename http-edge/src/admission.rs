//! Admission control: limits concurrent requests, so that admitted requests get a response in time.
//!
//! An unbounded queue is useless under overload: every request times out, and its work is wasted.
//! So the limit of a path is its recent response rate times the allowed wait (Little's law). Excess
//! requests are rejected immediately. Each path has its own limit. By default it is below the limit
//! of the edge, so no path can use all slots.

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

/// Admission control of an edge.
pub(crate) struct Admission {
    limits: AdmissionLimits,
    all: Mutex<All>,
}

#[derive(Default)]
struct All {
    in_flight: usize,
    paths: HashMap<Arc<str>, Path>,
}

struct Path {
    in_flight: usize,
    /// Number of recent responses, as a decaying sum: older responses count less.
    responses: f64,
    /// Seconds in which these responses were made, with the same decay. Time without a request in
    /// flight does not count.
    busy: f64,
    /// Time of the last response, or of the first request after an idle period.
    since: Instant,
}

/// An admitted request. Dropping it means that it has its response.
pub(crate) struct Admitted {
    admission: Arc<Admission>,
    path: Arc<str>,
}

/// Time constant of the decay, in seconds of busy time.
const DECAY_SECONDS: f64 = 1.0;
/// Minimum busy time for a rate, in seconds.
const MIN_BUSY_SECONDS: f64 = 0.1;

impl Path {
    /// Maximum number of concurrent requests now.
    fn limit(&self, limits: &AdmissionLimits, now: Instant) -> usize {
        let wait = Duration::from_millis(limits.max_wait_ms);
        let is_stalled = self.in_flight > 0 && now - self.since > wait;
        let rate = if is_stalled { 0.0 } else { self.responses / self.busy.max(MIN_BUSY_SECONDS) };
        // `as` saturates.
        let by_rate = (rate * wait.as_secs_f64()) as usize;
        by_rate.max(limits.min_requests_per_path).min(limits.max_requests_per_path)
    }

    fn responded(&mut self, now: Instant) {
        let seconds = (now - self.since).as_secs_f64();
        let decay = (-seconds / DECAY_SECONDS).exp();
        self.responses = self.responses * decay + 1.0;
        self.busy = self.busy * decay + seconds;
        self.since = now;
        self.in_flight -= 1;
    }
}

impl Admission {
    pub(crate) fn new(limits: AdmissionLimits) -> Arc<Self> {
        Arc::new(Self { limits, all: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if [`take`](Self::take) would succeed now. For an early rejection, before any work.
    pub(crate) fn has_room(&self, path: &str) -> bool {
        let all = self.lock();
        let has_path_room = |path: &Path| path.in_flight < path.limit(&self.limits, Instant::now());
        all.in_flight < self.limits.max_requests && all.paths.get(path).is_none_or(has_path_room)
    }

    /// Admits a request of a path, if the limits allow it. Paths are those of the route table, so
    /// clients cannot create entries.
    pub(crate) fn take(self: &Arc<Self>, path: &str) -> Option<Admitted> {
        let now = Instant::now();
        let mut all = self.lock();
        if all.in_flight >= self.limits.max_requests {
            return None;
        }
        let name: Arc<str> = match all.paths.get_key_value(path) {
            Some((name, _)) => name.clone(),
            None => path.into(),
        };
        let path = all.paths.entry(name.clone()).or_insert(Path {
            in_flight: 0,
            responses: 0.0,
            busy: 0.0,
            since: now,
        });
        if path.in_flight >= path.limit(&self.limits, now) {
            return None;
        }
        if path.in_flight == 0 {
            path.since = now;
        }
        path.in_flight += 1;
        all.in_flight += 1;
        Some(Admitted { admission: self.clone(), path: name })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut all = self.admission.lock();
        all.in_flight -= 1;
        if let Some(path) = all.paths.get_mut(&self.path) {
            path.responded(Instant::now());
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

    /// Sends `rate` requests a second to a path that serves 100 a second, in order. Returns the
    /// number of admitted requests and their longest wait in milliseconds.
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
    async fn flood_is_admitted_at_the_response_rate() {
        for rate in [50, 100, 200, 1000, 5000] {
            let admission = admission(20);
            let (taken, longest_ms) = flood(&admission, rate, 30).await;
            let (most, least) = (rate.min(100) * 30 + 250, rate.min(100) * 30 - 30);
            assert!((least..most).contains(&taken), "{rate}: {taken}");
            assert!(longest_ms <= 2200, "{rate}: {longest_ms}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn flood_of_one_path_does_not_affect_another() {
        let admission = admission(20);
        flood(&admission, 5000, 5).await;
        assert!(admission.take("/login").is_some(), "no request is in flight");
        let held: Vec<_> = std::iter::from_fn(|| admission.take("/login")).collect();
        assert!(held.len() < 250, "{}", held.len());
        assert!(admission.take("/login").is_none());
        assert!(!admission.has_room("/login") && admission.has_room("/logout"));
        let others: Vec<_> = (0..20).map(|_| admission.take("/logout")).collect();
        assert!(others.iter().all(Option::is_some));
    }

    #[tokio::test(start_paused = true)]
    async fn stalled_path_admits_only_the_minimum() {
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
