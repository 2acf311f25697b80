//! A rate of requests per client (ADR 33). A response below 400 gives its request back, so the rate
//! limits requests that fail.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use concert_runtime::setting::COUNT_MAX;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::client::Holder;

/// Limits of the request rate of one client: a part of the section `[http]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RateLimits {
    /// Failed requests (status 400 or higher) per second that one client address (per /64 for IPv6)
    /// may send; further requests get 429. A failed request counts once more for every 4 KiB of its
    /// body. 0 disables the limit.
    #[schemars(range(min = 0, max = COUNT_MAX))]
    pub client_requests_per_second: u32,
    /// Failed requests that a client may send in a burst before `http.client_requests_per_second`
    /// applies.
    #[schemars(range(min = 1, max = COUNT_MAX))]
    pub client_burst: u32,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self { client_requests_per_second: 20, client_burst: 1000 }
    }
}

/// Body bytes that count as one request.
const BYTES_PER_REQUEST: usize = 4096;
/// Number of requests after which clients with a full budget are forgotten.
const SWEEP_EVERY: u32 = 4096;

/// The budgets of all clients.
pub(crate) struct Rates {
    limits: RateLimits,
    budgets: Mutex<Budgets>,
}

#[derive(Default)]
struct Budgets {
    by_client: HashMap<Holder, Budget>,
    since_sweep: u32,
}

/// Requests that a client may send; missing clients have the full burst.
struct Budget {
    requests: f64,
    at: Instant,
}

/// A request that counts, unless [`give_back`](Self::give_back) is called.
pub(crate) struct Counted {
    rates: Arc<Rates>,
    client: Holder,
    cost: f64,
}

impl Rates {
    pub(crate) fn new(limits: &RateLimits) -> Arc<Self> {
        Arc::new(Self { limits: limits.clone(), budgets: Mutex::default() })
    }

    fn budgets(&self) -> MutexGuard<'_, Budgets> {
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request with a body of this size. `None` if there is no limit.
    ///
    /// # Errors
    /// The budget of the client is used up; the time until it suffices.
    pub(crate) fn take(
        self: &Arc<Self>,
        client: Holder,
        body_bytes: usize,
    ) -> Result<Option<Counted>, Duration> {
        let rate = f64::from(self.limits.client_requests_per_second);
        if rate == 0.0 {
            return Ok(None);
        }
        let burst = f64::from(self.limits.client_burst);
        // A request that exceeds the burst must still be possible.
        let cost = (1.0 + (body_bytes / BYTES_PER_REQUEST) as f64).min(burst);
        let now = Instant::now();
        let mut budgets = self.budgets();
        budgets.since_sweep += 1;
        if budgets.since_sweep >= SWEEP_EVERY {
            budgets.since_sweep = 0;
            budgets.by_client.retain(|_, budget| budget.now(now, rate) < burst);
        }
        let budget = budgets.by_client.entry(client).or_insert(Budget { requests: burst, at: now });
        budget.requests = budget.now(now, rate).min(burst);
        budget.at = now;
        if budget.requests < cost {
            return Err(Duration::from_secs_f64((cost - budget.requests) / rate));
        }
        budget.requests -= cost;
        Ok(Some(Counted { rates: self.clone(), client, cost }))
    }
}

impl Budget {
    fn now(&self, now: Instant, rate: f64) -> f64 {
        self.requests + (now - self.at).as_secs_f64() * rate
    }
}

impl Counted {
    /// Returns the request to the budget of its client.
    pub(crate) fn give_back(self) {
        if let Some(budget) = self.rates.budgets().by_client.get_mut(&self.client) {
            budget.requests += self.cost;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Holder = Holder::V4([192, 0, 2, 1]);
    const OTHER: Holder = Holder::V4([192, 0, 2, 2]);

    fn rates(client_requests_per_second: u32) -> Arc<Rates> {
        Rates::new(&RateLimits { client_requests_per_second, client_burst: 10 })
    }

    /// Number of requests of this size that are accepted now.
    fn accepted(rates: &Arc<Rates>, client: Holder, bytes: usize) -> usize {
        std::iter::from_fn(|| rates.take(client, bytes).ok()).take(1000).count()
    }

    #[tokio::test(start_paused = true)]
    async fn failing_client_is_limited_and_others_are_not() {
        let rates = rates(2);
        assert_eq!(accepted(&rates, ONE, 100), 10);
        assert_eq!(rates.take(ONE, 100).err(), Some(Duration::from_millis(500)));
        assert_eq!(accepted(&rates, OTHER, 100), 10);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(accepted(&rates, ONE, 100), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn large_bodies_count_more() {
        assert_eq!(accepted(&rates(2), ONE, 4 * BYTES_PER_REQUEST), 2);
        assert_eq!(accepted(&rates(2), ONE, 1 << 20), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn returned_requests_do_not_count() {
        let rates = rates(2);
        for _ in 0..100 {
            rates.take(ONE, 100).unwrap().unwrap().give_back();
        }
        assert_eq!(accepted(&rates, ONE, 100), 10);
        assert_eq!(accepted(&self::rates(0), ONE, 100), 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn clients_with_a_full_budget_are_forgotten() {
        let rates = rates(2);
        for number in 0..200_u8 {
            assert!(rates.take(Holder::V4([10, 0, 0, number]), 1).is_ok());
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        for _ in 0..SWEEP_EVERY {
            rates.take(ONE, 1).unwrap().unwrap().give_back();
        }
        assert!(rates.budgets().by_client.len() <= 2);
    }
}
