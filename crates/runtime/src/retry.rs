//! Delay before the next attempt.

use std::time::Duration;

/// Exponential backoff: doubles from `first` at each attempt up to `most`, with jitter between half
/// and all of it, so that clients that failed together do not retry together.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// Delay after the first failure.
    pub first: Duration,
    /// Maximum delay.
    pub most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), most: Duration::from_secs(10) }
    }
}

impl Backoff {
    /// Delay after `attempts` failures (at least 1).
    pub fn delay(&self, attempts: u32) -> Duration {
        let doubled =
            self.first.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(self.most);
        doubled.mul_f64(0.5 + 0.5 * random_fraction())
    }
}

fn random_fraction() -> f64 {
    // Without randomness there is no jitter.
    f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_grows_and_stays_within_its_limits() {
        let backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_secs(2) };
        for (attempts, whole_ms) in [(1, 100), (2, 200), (4, 800), (6, 2000), (1000, 2000)] {
            let delay_ms = backoff.delay(attempts).as_millis();
            assert!(delay_ms >= whole_ms / 2 && delay_ms <= whole_ms, "{attempts}: {delay_ms}");
        }
    }
}
