//! Looks up or counts documents by a value, many with one operation.
//!
//! The cost of an operation hardly depends on the number of ids. So while two operations are in
//! progress, further callers share the next one. With no load, a caller does not wait (ADR 19).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use concert_runtime::mongodb::LiveDatabase;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::error::Error;
use tokio::sync::oneshot;

use super::id::Key;
use super::operation::because;
use crate::call::{Stop, retry};

/// Maximum number of concurrent operations. With two, one slow operation does not block all
/// callers.
const CONCURRENT: usize = 2;
/// Maximum number of ids in one operation.
const IDS_MAX: usize = 256;
/// Timeout of an operation: longer than the driver's server selection, so that its error is
/// reported.
const TIMEOUT: Duration = Duration::from_secs(7);

/// Looks up documents of a collection by a field whose values are unique, or counts the documents
/// of each value.
pub(super) struct Lookups {
    shared: Arc<Shared>,
}

struct Shared {
    field: String,
    database: LiveDatabase,
    collection: String,
    timeout: Duration,
    /// The filter of the documents to count; `None` if they are looked up.
    counted: Option<Document>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    asked: VecDeque<Asked>,
    in_progress: usize,
}

struct Asked {
    key: Key,
    answer: oneshot::Sender<Result<Option<RawDocumentBuf>, String>>,
}

/// One of the concurrent operations. Dropping it frees its slot.
struct Operation {
    shared: Arc<Shared>,
    ended: bool,
}

impl Lookups {
    /// Looks up documents of this collection by this field.
    pub(super) fn new(database: LiveDatabase, collection: &str, field: &str) -> Self {
        Self::within(database, collection, field, None, TIMEOUT)
    }

    /// Counts the documents of this collection that match the filter, by the value of this field.
    pub(super) fn counting(
        database: LiveDatabase,
        collection: &str,
        field: &str,
        filter: Document,
    ) -> Self {
        Self::within(database, collection, field, Some(filter), TIMEOUT)
    }

    fn within(
        database: LiveDatabase,
        collection: &str,
        field: &str,
        counted: Option<Document>,
        timeout: Duration,
    ) -> Self {
        let shared = Shared {
            field: field.to_owned(),
            database,
            collection: collection.to_owned(),
            timeout,
            counted,
            queue: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The document with this value, or `{_id, count}` with the number of documents that have it,
    /// as of some time during the call.
    ///
    /// # Errors
    /// The database fails.
    pub(super) async fn find(&self, key: Key) -> Result<Option<RawDocumentBuf>, Stop> {
        let (answer, answered) = oneshot::channel();
        let begins = {
            let mut queue = self.shared.queue();
            queue.asked.push_back(Asked { key, answer });
            let begins = queue.in_progress < CONCURRENT;
            queue.in_progress += usize::from(begins);
            begins
        };
        if begins {
            let operation = Operation { shared: self.shared.clone(), ended: false };
            // On a separate task: the caller may be cancelled while others wait for the same
            // operation.
            tokio::spawn(operation.run());
        }
        let ended = |_| retry(because("the lookup ended without a result"));
        answered.await.map_err(ended)?.map_err(retry)
    }
}

impl Operation {
    /// Runs operations until the queue is empty.
    async fn run(mut self) {
        while let Some(asked) = self.next() {
            let found = tokio::time::timeout(self.shared.timeout, self.shared.found(&asked)).await;
            let found = match found {
                Ok(found) => found.map_err(because),
                Err(_) => Err(because("the server did not respond in time")),
            };
            for Asked { key, answer } in asked {
                let found = match &found {
                    Ok(found) => Ok(found.get(&key).cloned()),
                    Err(why) => Err(why.clone()),
                };
                // The caller was cancelled.
                answer.send(found).unwrap_or_default();
            }
        }
    }

    /// The ids for the next operation. If there are none, the next caller starts an operation.
    fn next(&mut self) -> Option<Vec<Asked>> {
        let mut queue = self.shared.queue();
        queue.asked.retain(|asked| !asked.answer.is_closed());
        if queue.asked.is_empty() {
            queue.in_progress -= 1;
            self.ended = true;
            return None;
        }
        let count = queue.asked.len().min(IDS_MAX);
        Some(queue.asked.drain(..count).collect())
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if !self.ended {
            self.shared.queue().in_progress -= 1;
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
        // All documents in the first batch.
        let size = u32::try_from(asked.len()).unwrap_or(u32::MAX).saturating_add(1);
        let collection = self.database.collection::<RawDocumentBuf>(&self.collection);
        let mut filter = doc! { self.field.as_str(): values };
        let (mut cursor, field) = match &self.counted {
            None => (collection.find(filter).batch_size(size).await?, self.field.as_str()),
            Some(counted) => {
                filter.extend(counted.clone());
                let group = doc! { "_id": format!("${}", self.field), "count": { "$sum": 1 } };
                let stages = [doc! { "$match": filter }, doc! { "$group": group }];
                let counts = collection.aggregate(stages).batch_size(size);
                (counts.with_type::<RawDocumentBuf>().await?, "_id")
            }
        };
        let mut found = HashMap::with_capacity(asked.len());
        while cursor.advance().await? {
            let document = cursor.current();
            if let Some(key) = document.get(field).ok().flatten().and_then(Key::of) {
                found.insert(key, document.to_owned());
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
