//! How long an action takes, and what of it others do. It goes into the log with the completion, so
//! that a trace can tell the wait in the queue from the work, and the work from the database.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use concert_wire::work::{MAX_PARTS, Part, Work, micros};

tokio::task_local! {
    static RUNNING: Stopwatch;
}

/// Runs from when a worker takes an action up.
#[derive(Debug, Clone)]
pub(crate) struct Stopwatch {
    began: Instant,
    parts: Arc<Mutex<Vec<Part>>>,
}

impl Stopwatch {
    pub(crate) fn begin() -> Self {
        Self { began: Instant::now(), parts: Arc::default() }
    }

    /// Runs a handler, whose [`part`]s are noted.
    pub(crate) async fn over<T>(self, handler: impl Future<Output = T>) -> T {
        RUNNING.scope(self, handler).await
    }

    /// What there was until now.
    pub(crate) fn work(&self) -> Work {
        Work {
            took_us: micros(self.began.elapsed()),
            parts: self.parts.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    fn note(&self, name: &str, began: Instant) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if parts.len() < MAX_PARTS {
            parts.push(Part {
                name: name.to_owned(),
                at_us: micros(began.duration_since(self.began)),
                took_us: micros(began.elapsed()),
            });
        }
    }
}

/// Waits for what somebody else does for an action, such as `mongodb.find`, and notes how long that
/// took. Elsewhere than in a handler, or on a task that a handler started, it only waits.
pub async fn part<T>(name: &'static str, doing: impl IntoFuture<Output = T>) -> T {
    let began = Instant::now();
    let done = doing.await;
    match RUNNING.try_with(|watch| watch.note(name, began)) {
        // Without a handler there is no watch.
        Ok(()) | Err(_) => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_parts_of_a_handler_are_noted_in_order_and_no_others() {
        let watch = Stopwatch::begin();
        part("before", async {}).await;
        let handler = async {
            part("one", tokio::task::yield_now()).await;
            let both = tokio::join!(part("two", async { 2 }), part("three", async { 3 }));
            let elsewhere = tokio::spawn(part("elsewhere", async { 4 }));
            assert_eq!((both, elsewhere.await.unwrap()), ((2, 3), 4));
        };
        watch.clone().over(handler).await;
        let work = watch.work();
        let names: Vec<&str> = work.parts.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, ["one", "two", "three"]);
        assert!(work.parts.iter().all(|part| part.at_us + part.took_us <= work.took_us));
    }
}
