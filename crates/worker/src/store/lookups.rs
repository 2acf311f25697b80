//! Documents by their ids, many with one operation.
//!
//! An operation costs a round trip and both sides some work, whatever it asks for; under load that
//! is more than a quarter of what an action costs that only looks. So whoever asks while two looks
//! are under way waits for the next, which looks for all that was asked meanwhile. Whoever asks
//! alone waits for nobody (ADR 19).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mongodb::Collection;
use mongodb::bson::{Bson, RawDocumentBuf, doc};
use mongodb::error::Error;
use tokio::sync::oneshot;

use super::id::Key;
use super::operation::because;
use crate::call::{Stop, retry};

/// Looks under way at once; one that the server is slow with does not hold up all who ask.
const LOOKS: usize = 2;
/// Ids in one look at most.
const IDS: usize = 256;
/// How long a look may take: longer than the driver looks for a server, so that it is told when
/// there is none.
const TIMEOUT: Duration = Duration::from_secs(7);

/// Looks up documents of a collection by a field whose values are unique.
pub(super) struct Lookups {
    shared: Arc<Shared>,
}

struct Shared {
    field: String,
    collection: Collection<RawDocumentBuf>,
    timeout: Duration,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    asked: VecDeque<Asked>,
    under_way: usize,
}

struct Asked {
    key: Key,
    answer: oneshot::Sender<Result<Option<RawDocumentBuf>, String>>,
}

/// One of the looks under way. It gives its place back whatever becomes of it.
struct Look {
    shared: Arc<Shared>,
    ended: bool,
}

impl Lookups {
    /// Looks in this collection, by this field.
    pub(super) fn new<U: Send + Sync>(collection: &Collection<U>, field: &str) -> Self {
        Self::within(collection, field, TIMEOUT)
    }

    fn within<U: Send + Sync>(collection: &Collection<U>, field: &str, timeout: Duration) -> Self {
        let shared = Shared {
            field: field.to_owned(),
            collection: collection.clone_with_type(),
            timeout,
            queue: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The document with this value, as it is at some moment between the call and its end.
    ///
    /// # Errors
    /// The database fails.
    pub(super) async fn find(&self, key: Key) -> Result<Option<RawDocumentBuf>, Stop> {
        let (answer, answered) = oneshot::channel();
        let begins = {
            let mut queue = self.shared.queue();
            queue.asked.push_back(Asked { key, answer });
            let begins = queue.under_way < LOOKS;
            queue.under_way += usize::from(begins);
            begins
        };
        if begins {
            let look = Look { shared: self.shared.clone(), ended: false };
            // On a task of its own, since whoever asked may give up, and others wait for the same
            // look.
            tokio::spawn(look.go_on());
        }
        let ended = |_| retry(because("the look ended without an answer"));
        answered.await.map_err(ended)?.map_err(retry)
    }
}

impl Look {
    /// Looks until nobody asks any more.
    async fn go_on(mut self) {
        while let Some(asked) = self.next() {
            let found = tokio::time::timeout(self.shared.timeout, self.shared.found(&asked)).await;
            let found = match found {
                Ok(found) => found.map_err(because),
                Err(_) => Err(because("the server does not answer in time")),
            };
            for Asked { key, answer } in asked {
                let found = match &found {
                    Ok(found) => Ok(found.get(&key).cloned()),
                    Err(why) => Err(why.clone()),
                };
                // Whoever does not listen any more has given up.
                answer.send(found).unwrap_or_default();
            }
        }
    }

    /// What to look for next. If that is nothing, whoever asks from now on begins a look.
    fn next(&mut self) -> Option<Vec<Asked>> {
        let mut queue = self.shared.queue();
        queue.asked.retain(|asked| !asked.answer.is_closed());
        if queue.asked.is_empty() {
            queue.under_way -= 1;
            self.ended = true;
            return None;
        }
        let count = queue.asked.len().min(IDS);
        Some(queue.asked.drain(..count).collect())
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        if !self.ended {
            self.shared.queue().under_way -= 1;
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn found(&self, asked: &[Asked]) -> Result<HashMap<Key, RawDocumentBuf>, Error> {
        let values = match asked {
            [one] => one.key.bson(),
            several => Bson::from(
                doc! { "$in": several.iter().map(|asked| asked.key.bson()).collect::<Vec<_>>() },
            ),
        };
        // All of them in the first answer.
        let size = u32::try_from(asked.len()).unwrap_or(u32::MAX).saturating_add(1);
        let mut cursor =
            self.collection.find(doc! { self.field.as_str(): values }).batch_size(size).await?;
        let mut found = HashMap::with_capacity(asked.len());
        while cursor.advance().await? {
            let document = cursor.current();
            if let Some(key) = document.get(&self.field).ok().flatten().and_then(Key::of) {
                found.insert(key, document.to_owned());
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
