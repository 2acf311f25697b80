//! Documents by their ids, many with one operation.
//!
//! An operation costs a round trip and both sides some work, whatever it asks for; under load that is more than a quarter of what an action costs that only looks. So whoever asks while two looks are under way
//! waits for the next, which looks for all that was asked meanwhile. Whoever asks alone waits for nobody (ADR 19).

use std::collections::{HashMap, VecDeque};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::Failure;
use mongodb::Collection;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{self, Binary, Bson, RawDocumentBuf, doc};
use mongodb::error::Error;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::because;

/// Looks under way at once; one that the server is slow with does not hold up all who ask.
const LOOKS: usize = 2;
/// Ids in one look at most.
const IDS: usize = 256;
/// How long a look may take: longer than the driver looks for a server, so that it is told when there is none.
const TIMEOUT: Duration = Duration::from_secs(7);

/// Looks for documents of a collection whose ids are bytes.
pub struct Lookups<T> {
    shared: Arc<Shared>,
    documents: PhantomData<fn() -> T>,
}

struct Shared {
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
    id: Binary,
    answer: oneshot::Sender<Result<Option<RawDocumentBuf>, String>>,
}

/// One of the looks under way. It gives its place back whatever becomes of it.
struct Look {
    shared: Arc<Shared>,
    ended: bool,
}

impl<T: DeserializeOwned> Lookups<T> {
    /// Looks in this collection.
    pub fn new<U: Send + Sync>(collection: &Collection<U>) -> Self {
        Self::within(collection, TIMEOUT)
    }

    fn within<U: Send + Sync>(collection: &Collection<U>, timeout: Duration) -> Self {
        let shared = Shared {
            collection: collection.clone_with_type(),
            timeout,
            queue: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
            documents: PhantomData,
        }
    }

    /// The document with this id, as it is at some moment between the call and its end.
    ///
    /// # Errors
    /// The database does not answer well, or the document is none of these. Either may be otherwise later.
    pub async fn find(&self, id: &[u8]) -> Result<Option<T>, Failure> {
        let (answer, answered) = oneshot::channel();
        let id = Binary {
            subtype: BinarySubtype::Generic,
            bytes: id.to_vec(),
        };
        let begins = {
            let mut queue = self.shared.queue();
            queue.asked.push_back(Asked { id, answer });
            let begins = queue.under_way < LOOKS;
            queue.under_way += usize::from(begins);
            begins
        };
        if begins {
            let look = Look {
                shared: self.shared.clone(),
                ended: false,
            };
            // On a task of its own, since whoever asked may give up, and others wait for the same look.
            tokio::spawn(look.go_on());
        }
        let ended = |_| Failure::retry(because("the look ended without an answer"));
        let found = answered.await.map_err(ended)?.map_err(Failure::retry)?;
        let read = |found: RawDocumentBuf| bson::deserialize_from_slice(found.as_bytes());
        found
            .map(read)
            .transpose()
            .map_err(|error| Failure::retry(because(error)))
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
            for Asked { id, answer } in asked {
                let found = match &found {
                    Ok(found) => Ok(found.get(&id).cloned()),
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

    async fn found(&self, asked: &[Asked]) -> Result<HashMap<Binary, RawDocumentBuf>, Error> {
        let by_id = match asked {
            [one] => Bson::from(one.id.clone()),
            several => Bson::from(doc! { "$in": several.iter().map(|asked| asked.id.clone()).collect::<Vec<_>>() }),
        };
        // All of them in the first answer.
        let size = u32::try_from(asked.len()).unwrap_or(u32::MAX).saturating_add(1);
        let mut cursor = self.collection.find(doc! { "_id": by_id }).batch_size(size).await?;
        let mut found = HashMap::with_capacity(asked.len());
        while cursor.advance().await? {
            let document = cursor.current();
            if let Ok(id) = document.get_binary("_id") {
                found.insert(id.to_binary(), document.to_owned());
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
