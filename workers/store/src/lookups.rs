//! Documents by their ids, many with one operation.
//!
//! An operation costs a round trip and both sides some work, whatever it asks for; under load that is more than a quarter of what an action costs that only looks. So those who ask while a look is under way
//! wait for the next, which looks for all of them. Whoever asks alone waits for nobody (ADR 19).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use concert_host::Failure;
use mongodb::Collection;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, doc};
use mongodb::error::Error;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use crate::unavailable;

/// Looks under way at once; one that the server is slow with does not hold up all who ask.
const LOOKS: usize = 2;
/// Ids in one look at most.
const IDS: usize = 256;

/// Looks for documents of a collection whose ids are bytes.
pub struct Lookups<T: Send + Sync> {
    shared: Arc<Shared<T>>,
}

struct Shared<T: Send + Sync> {
    collection: Collection<T>,
    id: fn(&T) -> &Binary,
    queue: Mutex<Queue<T>>,
}

struct Queue<T> {
    asked: Vec<Asked<T>>,
    under_way: usize,
}

struct Asked<T> {
    id: Vec<u8>,
    answer: oneshot::Sender<Result<Option<T>, Error>>,
}

impl<T: Clone + DeserializeOwned + Send + Sync + 'static> Lookups<T> {
    /// Looks in this collection, whose documents have this as their id.
    pub fn new(collection: Collection<T>, id: fn(&T) -> &Binary) -> Self {
        let queue = Mutex::new(Queue {
            asked: Vec::new(),
            under_way: 0,
        });
        let shared = Shared { collection, id, queue };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The document with this id, as it is at some moment between the call and its end.
    ///
    /// # Errors
    /// See [`unavailable`].
    pub async fn find(&self, id: &Binary) -> Result<Option<T>, Failure> {
        let (answer, answered) = oneshot::channel();
        let id = id.bytes.clone();
        let begins = {
            let mut queue = self.shared.queue();
            queue.asked.push(Asked { id, answer });
            let begins = queue.under_way < LOOKS;
            queue.under_way += usize::from(begins);
            begins
        };
        if begins {
            // On a task of its own, since whoever asked may give up, and others wait for the same look.
            tokio::spawn(self.shared.clone().look());
        }
        let ended = |_| Failure::retry("the look for a document ended without an answer");
        answered.await.map_err(ended)?.map_err(unavailable)
    }
}

impl<T: Clone + DeserializeOwned + Send + Sync + 'static> Shared<T> {
    fn queue(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks until nobody asks any more.
    async fn look(self: Arc<Self>) {
        loop {
            let asked = {
                let mut queue = self.queue();
                if queue.asked.is_empty() {
                    queue.under_way -= 1;
                    return;
                }
                let count = queue.asked.len().min(IDS);
                queue.asked.drain(..count).collect::<Vec<_>>()
            };
            match self.found(&asked).await {
                Ok(found) => {
                    for Asked { id, answer } in asked {
                        // Whoever does not listen any more has given up.
                        answer.send(Ok(found.get(&id).cloned())).unwrap_or_default();
                    }
                }
                Err(error) => {
                    for Asked { answer, .. } in asked {
                        answer.send(Err(error.clone())).unwrap_or_default();
                    }
                }
            }
        }
    }

    async fn found(&self, asked: &[Asked<T>]) -> Result<HashMap<Vec<u8>, T>, Error> {
        let mut ids = asked.iter().map(|asked| Binary {
            subtype: BinarySubtype::Generic,
            bytes: asked.id.clone(),
        });
        let by_id = match (ids.next(), ids.len()) {
            (Some(id), 0) => Bson::from(id),
            (first, _) => Bson::from(doc! { "$in": first.into_iter().chain(ids).collect::<Vec<_>>() }),
        };
        let size = u32::try_from(asked.len()).unwrap_or(u32::MAX);
        let mut cursor = self
            .collection
            .find(doc! { "_id": by_id })
            .batch_size(size.saturating_add(1))
            .await?;
        let mut found = HashMap::new();
        while cursor.advance().await? {
            let document = cursor.deserialize_current()?;
            found.insert((self.id)(&document).bytes.clone(), document);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
