//! Measures the work of an action, and the parts that other systems do. The log stores it with the
//! completion, so a trace separates the queue, the work and the database.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use concert_wire::work::{MAX_PARTS, Part, Work, micros};

tokio::task_local! {
    static RUNNING: Stopwatch;
}

/// Starts when a worker starts an action.
#[derive(Debug, Clone)]
pub(crate) struct Stopwatch {
    began: Instant,
    parts: Arc<Mutex<Vec<Part>>>,
}

impl Stopwatch {
    pub(crate) fn begin() -> Self {
        Self { began: Instant::now(), parts: Arc::default() }
    }

    /// Runs a handler and records its [`part`]s.
    pub(crate) async fn over<T>(self, handler: impl Future<Output = T>) -> T {
        RUNNING.scope(self, handler).await
    }

    /// The work so far.
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

/// Awaits an operation of another system, such as `mongodb.find`, and records its duration. Outside
/// of a handler, or on a task that a handler spawned, it only awaits.
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
    async fn only_parts_of_the_handler_are_recorded_in_order() {
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
