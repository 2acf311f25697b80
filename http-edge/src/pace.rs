//! Uploads pause while other requests are in progress. An upload needs NATS, MongoDB and the
//! processors for much longer than another request, and without a pause all of them would wait
//! behind it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use concert_runtime::background::PAUSE_MAX;

/// Length of a pause, as a multiple of the step before it.
const PAUSE: u32 = 2;

/// Paces the uploads of an edge.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Number of requests without large values in progress.
    others: AtomicUsize,
    turn: Mutex<()>,
}

/// A request without large values. It is in progress until this is dropped.
#[derive(Debug)]
pub(crate) struct Other(Arc<Pace>);

impl Pace {
    /// Starts a request without large values.
    pub(crate) fn other(self: &Arc<Self>) -> Other {
        self.others.fetch_add(1, Ordering::Relaxed);
        Other(self.clone())
    }

    /// Runs a step of an upload. While other requests are in progress, uploads run one step at a
    /// time, and pause after it. Blocks the thread.
    pub(crate) fn step<T>(&self, work: impl FnOnce() -> T) -> T {
        if self.others.load(Ordering::Relaxed) == 0 {
            return work();
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let began = Instant::now();
        let done = work();
        std::thread::sleep((began.elapsed() * PAUSE).min(PAUSE_MAX));
        done
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.0.others.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn uploads_run_at_the_same_time_without_other_requests() {
        let pace = Arc::new(Pace::default());
        drop(pace.other());
        let begun = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    pace.step(|| {
                        begun.fetch_add(1, Ordering::SeqCst);
                        let until = Instant::now() + Duration::from_secs(10);
                        while begun.load(Ordering::SeqCst) < 2 {
                            assert!(Instant::now() < until, "the other step has not begun");
                            thread::yield_now();
                        }
                    });
                });
            }
        });
    }

    #[test]
    fn uploads_take_turns_and_pause_beside_other_requests() {
        let pace = Arc::new(Pace::default());
        let _others = [pace.other(), pace.other()];
        drop(pace.other());
        let (running, step) = (AtomicUsize::new(0), Duration::from_millis(10));
        let began = Instant::now();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    pace.step(|| {
                        assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0);
                        thread::sleep(step);
                        running.fetch_sub(1, Ordering::SeqCst);
                    });
                });
            }
        });
        assert!(began.elapsed() >= step * 4 * (1 + PAUSE));
    }
}
