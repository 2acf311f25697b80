//! Limits the log lines about events that repeat: the first is logged, and further ones together.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Time in which further events of one kind are only counted.
const INTERVAL: Duration = Duration::from_secs(10);

/// Counts events by kind.
#[derive(Debug, Clone)]
pub struct Repetitions<K>(Arc<Mutex<HashMap<K, u64>>>);

impl<K> Default for Repetitions<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Clone + Eq + Hash + Send + 'static> Repetitions<K> {
    /// Returns whether an event is the first of its kind in ten seconds, so that the caller logs
    /// it. Otherwise counts it. After the ten seconds, `log` gets the number of counted events,
    /// unless there are none.
    pub fn is_first(&self, kind: K, log: impl FnOnce(u64) + Send + 'static) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&kind) {
            *count += 1;
            return false;
        }
        counts.insert(kind.clone(), 0);
        let counts = self.0.clone();
        tokio::spawn(async move {
            tokio::time::sleep(INTERVAL).await;
            let count = counts.lock().unwrap_or_else(PoisonError::into_inner).remove(&kind);
            if let Some(count @ 1..) = count {
                log(count);
            }
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn first_event_of_a_kind_is_logged_and_further_ones_are_counted() {
        let (repetitions, lines) = (Repetitions::default(), Arc::new(Mutex::new(Vec::new())));
        let happens = |kind: &'static str| {
            let lines = lines.clone();
            repetitions.is_first(kind, move |count| lines.lock().unwrap().push((kind, count)))
        };
        assert!(happens("a") && happens("b"));
        assert!(!happens("a") && !happens("a"));
        tokio::time::sleep(INTERVAL * 2).await;
        assert_eq!(*lines.lock().unwrap(), [("a", 2)]);
        assert!(happens("a"), "the interval has ended");
        tokio::time::sleep(INTERVAL * 2).await;
        assert_eq!(lines.lock().unwrap().len(), 1);
    }
}
