//! Limits the stored large values of each client, so that no client fills the storage (ADR 38).

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use concert_runtime::streams::LogLimits;
use tokio::time::Instant;

use crate::client::Holder;
use crate::error::EdgeError;

/// Interval in which the values of a client are added up.
const INTERVAL: Duration = Duration::from_secs(3600);

/// Sizes of the large values that the clients of this edge have stored.
pub(crate) struct Quotas {
    /// Maximum size for each client, in bytes.
    max_bytes: u64,
    max_age: Duration,
    stored: Mutex<Stored>,
}

struct Stored {
    /// For each client, the start of each interval and the bytes that it stored then, oldest first.
    by_client: HashMap<Holder, VecDeque<(Instant, u64)>>,
    swept: Instant,
}

impl Quotas {
    /// `percent`: part of the storage that each client may fill.
    pub(crate) fn new(percent: u8, log: &LogLimits) -> Self {
        let all = u64::try_from(log.large_values_max_bytes()).unwrap_or_default();
        let max_bytes = if percent < 100 { all / 100 * u64::from(percent) } else { u64::MAX };
        let stored = Stored { by_client: HashMap::new(), swept: Instant::now() };
        Self { max_bytes, max_age: log.large_values_max_age(), stored: Mutex::new(stored) }
    }

    /// Counts bytes that a client stores.
    ///
    /// # Errors
    /// [`EdgeError::Quota`]: they exceed the client's part.
    pub(crate) fn take(&self, client: Option<Holder>, bytes: u64) -> Result<(), EdgeError> {
        let Some(client) = client else { return Ok(()) };
        let now = Instant::now();
        // The last value of an interval expires one interval after the first one.
        let age = self.max_age + INTERVAL;
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        if now - stored.swept >= INTERVAL {
            stored.swept = now;
            let is_kept = |(began, _): &(Instant, u64)| now - *began < age;
            stored.by_client.retain(|_, intervals| intervals.back().is_some_and(is_kept));
        }
        let intervals = stored.by_client.entry(client).or_default();
        while intervals.pop_front_if(|(began, _)| now - *began >= age).is_some() {}
        let all: u64 = intervals.iter().map(|(_, bytes)| *bytes).sum();
        if all.saturating_add(bytes) > self.max_bytes {
            let oldest = intervals.front().map_or(age, |(began, _)| age - (now - *began));
            return Err(EdgeError::Quota(oldest.as_secs() + 1));
        }
        match intervals.back_mut().filter(|(began, _)| now - *began < INTERVAL) {
            Some((_, sum)) => *sum += bytes,
            None => intervals.push_back((now, bytes)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_S: u64 = 3600;

    fn quotas(percent: u8) -> Quotas {
        Quotas::new(percent, &LogLimits { large_values_max_bytes: 1000, ..LogLimits::default() })
    }

    fn client(number: u8) -> Option<Holder> {
        Some(Holder::V4([192, 0, 2, number]))
    }

    async fn advance(hours: u64) {
        tokio::time::advance(Duration::from_secs(hours * HOUR_S)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn client_stores_its_part_until_its_values_expire() {
        let quotas = quotas(25);
        assert_eq!(quotas.take(client(1), 100), Ok(()));
        advance(10).await;
        assert_eq!(quotas.take(client(1), 150), Ok(()));
        assert_eq!(quotas.take(client(1), 1), Err(EdgeError::Quota(40 * HOUR_S + 1)));
        assert_eq!(quotas.take(client(2), 250), Ok(()));
        advance(40).await;
        assert_eq!(quotas.take(client(1), 100), Ok(()));
        assert_eq!(quotas.take(client(1), 1), Err(EdgeError::Quota(10 * HOUR_S + 1)));
        assert_eq!(quotas.take(None, 1000), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn clients_without_stored_values_are_forgotten() {
        let quotas = quotas(25);
        for number in 0..100 {
            assert_eq!(quotas.take(client(number), 1), Ok(()));
        }
        advance(50).await;
        assert_eq!(quotas.take(client(200), 1), Ok(()));
        assert_eq!(quotas.stored.lock().unwrap().by_client.len(), 1);
        let all = self::quotas(100);
        assert_eq!(all.take(client(1), 1_000_000), Ok(()));
    }
}
