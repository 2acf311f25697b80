//! Completions whose query has no result: how many wait, and how often they are retried.

use std::collections::HashMap;
use std::time::Duration;

/// Maximum number of retries per second for one concept. If thousands of completions wait for a
/// worker, their retries must not delay the flows of other concepts.
const RETRIES_PER_SECOND: u32 = 200;
/// Interval between removals of completions that another router has received.
const CLEANUP_MS: u64 = 1000;

/// The waiting completions of one concept, with the time until which they are retried, in
/// milliseconds since 1970.
#[derive(Debug)]
pub(crate) struct Unanswered {
    waiting: HashMap<u64, u64>,
    max: usize,
    cleaned_ms: u64,
}

/// Whether a completion waits for its query.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Yes,
    /// The time until which it is retried has passed.
    CallerHasLeft,
    /// This number of completions waits already, the maximum of the concept.
    TooMany(usize),
}

impl Unanswered {
    /// At most `max` completions wait.
    pub(crate) fn new(max: usize) -> Self {
        Self { waiting: HashMap::new(), max, cleaned_ms: 0 }
    }

    pub(crate) fn keep(&mut self, seq: u64, give_up_ms: u64, now_ms: u64) -> Kept {
        if now_ms >= give_up_ms {
            self.remove(seq);
            return Kept::CallerHasLeft;
        }
        if now_ms >= self.cleaned_ms + CLEANUP_MS {
            self.cleaned_ms = now_ms;
            self.waiting.retain(|_, give_up_ms| now_ms < *give_up_ms);
        }
        if self.waiting.len() >= self.max && !self.waiting.contains_key(&seq) {
            return Kept::TooMany(self.max);
        }
        self.waiting.insert(seq, give_up_ms);
        Kept::Yes
    }

    pub(crate) fn remove(&mut self, seq: u64) {
        self.waiting.remove(&seq);
    }

    /// Delay of the next retry of a waiting completion with which the retries of all waiting
    /// completions stay below the maximum rate.
    pub(crate) fn delay(&self, seq: u64) -> Option<Duration> {
        let number = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        let delay = Duration::from_secs(1).saturating_mul(number) / RETRIES_PER_SECOND;
        self.waiting.contains_key(&seq).then_some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_without_a_result_are_limited() {
        let mut unanswered = Unanswered::new(3);
        for seq in 0..3 {
            assert_eq!(unanswered.keep(seq, 10_000, 5000), Kept::Yes);
        }
        assert_eq!(unanswered.keep(3, 20_000, 5000), Kept::TooMany(3));
        assert_eq!(unanswered.keep(0, 10_000, 5000), Kept::Yes, "a redelivery");
        assert_eq!(unanswered.keep(0, 10_000, 10_000), Kept::CallerHasLeft);
        assert_eq!(unanswered.keep(3, 20_000, 5000), Kept::Yes);
        // The others were delivered to another router.
        assert_eq!(unanswered.keep(4, 20_000, 15_000), Kept::Yes);
        assert_eq!(unanswered.waiting.len(), 2);
        unanswered.remove(3);
        assert_eq!(unanswered.waiting.len(), 1);
    }

    #[test]
    fn retries_of_many_completions_stay_below_a_rate() {
        let mut unanswered = Unanswered::new(2000);
        assert_eq!(unanswered.delay(0), None);
        for (seq, delay_ms) in (1..=2000).map(|number| (number - 1, number * 5)) {
            unanswered.keep(seq, 10_000, 5000);
            assert_eq!(unanswered.delay(seq), Some(Duration::from_millis(delay_ms)));
        }
    }
}
