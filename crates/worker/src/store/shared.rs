//! Database operations that several callers share.
//!
//! The cost of an operation hardly depends on the number of its items. So while one is in progress,
//! further callers share the next one. With no load, a caller does not wait (ADR 19).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::operation::because;
use crate::boxed::Boxed;
use crate::call::{Stop, retry};

/// Maximum number of concurrent operations. One begins beside others only if they are slow, so that
/// a slow one does not block all callers.
const CONCURRENT: usize = 2;
/// An operation that takes longer is slow: most take a few milliseconds, also those that wait for
/// the disk.
const SLOW: Duration = Duration::from_millis(50);
/// Maximum number of items in one operation.
const ITEMS_MAX: usize = 256;
/// An operation has at most this many bytes, unless it has only one item.
const BYTES_MAX: usize = 4 << 20;
/// Timeout of an operation: longer than the driver's server selection, so that its error is
/// reported.
const TIMEOUT: Duration = Duration::from_secs(7);

/// An operation for many items.
pub(super) trait Operation: Send + Sync + 'static {
    /// What one caller asks for.
    type Item: Send + Sync;
    /// The result for one item.
    type Answer: Send;

    /// The size of an item in the operation's message.
    fn bytes(item: &Self::Item) -> usize;

    /// Runs the operation, and returns the answers in the order of the items; or why it failed.
    fn run<'a>(&'a self, items: &'a [Self::Item]) -> Boxed<'a, Result<Vec<Self::Answer>, String>>;
}

/// An operation, and the callers that wait for it.
pub(super) struct Shared<O: Operation>(Arc<Inner<O>>);

struct Inner<O: Operation> {
    operation: O,
    timeout: Duration,
    queue: Mutex<Queue<O>>,
}

struct Queue<O: Operation> {
    asked: VecDeque<Asked<O>>,
    /// The times at which the operations in progress began.
    slots: [Option<Instant>; CONCURRENT],
}

struct Asked<O: Operation> {
    item: O::Item,
    answer: oneshot::Sender<Result<O::Answer, String>>,
}

type Answered<O> = oneshot::Receiver<Result<<O as Operation>::Answer, String>>;

/// One of the concurrent operations. Dropping it frees its slot.
struct Slot<O: Operation> {
    inner: Arc<Inner<O>>,
    number: usize,
    ended: bool,
}

impl<O: Operation> Shared<O> {
    pub(super) fn new(operation: O) -> Self {
        Self::within(operation, TIMEOUT)
    }

    fn within(operation: O, timeout: Duration) -> Self {
        let queue = Mutex::new(Queue { asked: VecDeque::new(), slots: [None; CONCURRENT] });
        Self(Arc::new(Inner { operation, timeout, queue }))
    }

    /// The operation's answer for this item. The operation begins during the call.
    ///
    /// # Errors
    /// The database fails.
    pub(super) async fn ask(&self, item: O::Item) -> Result<O::Answer, Stop> {
        let answered = self.0.queue().push(item);
        self.answer(answered).await
    }

    /// As [`Self::ask`], for several items. They share an operation.
    ///
    /// # Errors
    /// The database fails.
    pub(super) async fn ask_all(
        &self,
        items: impl IntoIterator<Item = O::Item>,
    ) -> Result<Vec<O::Answer>, Stop> {
        let all: Vec<_> = {
            let mut queue = self.0.queue();
            items.into_iter().map(|item| queue.push(item)).collect()
        };
        let mut answers = Vec::with_capacity(all.len());
        for answered in all {
            answers.push(self.answer(answered).await?);
        }
        Ok(answers)
    }

    async fn answer(&self, mut answered: Answered<O>) -> Result<O::Answer, Stop> {
        let answer = loop {
            self.begin();
            if let Ok(answer) = tokio::time::timeout(SLOW, &mut answered).await {
                break answer;
            }
        };
        answer.map_err(|_| retry(because("the operation ended without a result")))?.map_err(retry)
    }

    /// Begins an operation for the callers in the queue, unless they can share the next one.
    fn begin(&self) {
        if let Some(number) = self.0.queue().take_slot() {
            // On a separate task: the caller may be cancelled while others wait for the same
            // operation.
            let slot = Slot { inner: self.0.clone(), number, ended: false };
            tokio::spawn(slot.run());
        }
    }
}

impl<O: Operation> Queue<O> {
    fn push(&mut self, item: O::Item) -> Answered<O> {
        let (answer, answered) = oneshot::channel();
        self.asked.push_back(Asked { item, answer });
        answered
    }

    /// The number of a free slot, if all operations in progress are slow.
    fn take_slot(&mut self) -> Option<usize> {
        let now = Instant::now();
        let is_slow = |began: &Instant| now.duration_since(*began) >= SLOW;
        if self.asked.is_empty() || !self.slots.iter().flatten().all(is_slow) {
            return None;
        }
        let number = self.slots.iter().position(Option::is_none)?;
        self.set_slot(number, Some(now));
        Some(number)
    }

    fn set_slot(&mut self, number: usize, began: Option<Instant>) {
        if let Some(slot) = self.slots.get_mut(number) {
            *slot = began;
        }
    }
}

impl<O: Operation> Slot<O> {
    /// Runs operations until the queue is empty.
    async fn run(mut self) {
        while let Some(asked) = self.next() {
            let (items, waiting): (Vec<_>, Vec<_>) =
                asked.into_iter().map(|Asked { item, answer }| (item, answer)).unzip();
            let running = self.inner.operation.run(&items);
            let answers = match tokio::time::timeout(self.inner.timeout, running).await {
                Ok(answers) => answers,
                Err(_) => Err(because("the server did not respond in time")),
            };
            match answers {
                Ok(answers) => {
                    for (caller, answer) in waiting.into_iter().zip(answers) {
                        // Fails if the caller was cancelled.
                        caller.send(Ok(answer)).unwrap_or_default();
                    }
                }
                Err(why) => {
                    for caller in waiting {
                        caller.send(Err(why.clone())).unwrap_or_default();
                    }
                }
            }
        }
    }

    /// The items of the next operation. If there are none, the next caller starts an operation.
    fn next(&mut self) -> Option<Vec<Asked<O>>> {
        let mut queue = self.inner.queue();
        queue.asked.retain(|asked| !asked.answer.is_closed());
        if queue.asked.is_empty() {
            queue.set_slot(self.number, None);
            self.ended = true;
            return None;
        }
        queue.set_slot(self.number, Some(Instant::now()));
        let mut bytes = 0;
        let fits = |asked: &&Asked<O>| {
            bytes += O::bytes(&asked.item);
            bytes <= BYTES_MAX
        };
        let count = queue.asked.iter().take(ITEMS_MAX).take_while(fits).count().max(1);
        Some(queue.asked.drain(..count).collect())
    }
}

impl<O: Operation> Drop for Slot<O> {
    fn drop(&mut self) {
        if !self.ended {
            self.inner.queue().set_slot(self.number, None);
        }
    }
}

impl<O: Operation> Inner<O> {
    fn queue(&self) -> MutexGuard<'_, Queue<O>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
