//! Documents whose writes take effect once, even if their action is redelivered.

use std::collections::HashMap;
use std::marker::PhantomData;

use concert_runtime::mongodb::{LiveDatabase, is_duplicate, now};
use mongodb::Collection;
use mongodb::bson::{Bson, DateTime, Document, RawDocumentBuf, doc};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::change::Change;
use super::form::{Form, Found, Stored};
use super::id::{Id, Key};
use super::lists::Lists;
use super::lookups::Lookups;
use super::operation::{FIND, INSERT, UPDATE, run, unavailable};
use super::page::Page;
use crate::call::{Call, Stop, retry};
use crate::part;
use crate::permit::WritePermit;

/// The documents of one collection.
///
/// Each write is one atomic operation on one document, which also adds a *stamp* to it: the id of
/// the action. A redelivered action finds its stamp, so its write changes nothing and has the same
/// result. Later actions add their own stamps. A deleted document keeps its stamps as long as a
/// redelivery is possible. Methods that write no stamp say so.
pub struct Documents<T, I = String> {
    pub(super) database: LiveDatabase,
    pub(super) form: Form,
    pub(super) by_id: Lookups,
    pub(super) by_field: HashMap<String, Lookups>,
    pub(super) lists: Lists,
    pub(super) types: PhantomData<fn() -> (T, I)>,
}

/// The result of an insert.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Inserted {
    /// The document exists: by this delivery, or by an earlier one of the same action.
    Done,
    /// Another document has the id (`_id`) or the value of this unique field.
    Taken(String),
}

/// The result of an update.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Changed {
    /// The document was changed: by this delivery, or by an earlier one of the same action.
    Done,
    /// There is no such document.
    NotThere,
    /// Another document has the value of this unique field.
    Taken(String),
}

/// The result of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Deleted {
    /// The document was deleted: by this delivery, or by an earlier one of the same action.
    Done,
    /// There is no such document.
    NotThere,
}

/// The document under an id, before an action changes it.
#[derive(Debug, Clone)]
pub enum Target<T, I = String> {
    /// An earlier delivery of this action has written already.
    Done,
    /// The document.
    Live(Found<T, I>),
    /// There is no such document.
    NotThere,
}

impl<T: Serialize + DeserializeOwned, I: Id> Documents<T, I> {
    /// Reads the document with this id.
    ///
    /// # Errors
    /// The database fails.
    pub async fn get(&self, id: &I::Ref) -> Result<Option<Found<T, I>>, Stop> {
        self.stored(id).await?.map_or(Ok(None), Stored::live)
    }

    /// Reads the document with this id for an action that is about to change it. This detects an
    /// earlier write before expensive work.
    ///
    /// # Errors
    /// The database fails.
    pub async fn target<In>(&self, call: &Call<In>, id: &I::Ref) -> Result<Target<T, I>, Stop> {
        match self.stored(id).await? {
            Some(stored) if stored.is_done_by(call.id) => Ok(Target::Done),
            Some(stored) => Ok(stored.live()?.map_or(Target::NotThere, Target::Live)),
            None => Ok(Target::NotThere),
        }
    }

    /// Finds the document with this value of a unique field.
    ///
    /// # Errors
    /// The database fails, or the documents were opened without
    /// [`unique`](super::OpenDocuments::unique) for the field.
    pub async fn find(&self, field: &str, value: &str) -> Result<Option<Found<T, I>>, Stop> {
        let Some(lookups) = self.by_field.get(field) else {
            let collection = &self.form.collection;
            return Err(retry(format!(
                "{collection} has no unique field `{field}`; open it with .unique(\"{field}\")"
            )));
        };
        let found = part(FIND, lookups.find(Key::Text(value.to_owned()))).await?;
        found.map_or(Ok(None), |raw| self.form.read(raw).live())
    }

    /// Reads the documents of a page. An invalid document fails the page, because incomplete rows
    /// would be wrong.
    ///
    /// # Errors
    /// The database fails.
    pub async fn page(&self, page: Page) -> Result<Vec<Found<T, I>>, Stop> {
        let limit = page.limit.and_then(|limit| i64::try_from(limit).ok()).unwrap_or(0);
        let skip = page.skip.and_then(|skip| u64::try_from(skip).ok()).unwrap_or(0);
        let collection = self.collection();
        let found = collection.find(page.filter(self.form.live())).sort(page.sort());
        let mut cursor = run(FIND, found.skip(skip).limit(limit)).await?;
        let mut documents = Vec::new();
        while cursor.advance().await.map_err(unavailable)? {
            documents.extend(self.form.read(cursor.current().to_owned()).live()?);
        }
        Ok(documents)
    }

    /// Reads the documents with these ids; missing ones are omitted.
    ///
    /// # Errors
    /// The database fails.
    pub async fn many<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a I::Ref>,
    ) -> Result<Vec<Found<T, I>>, Stop> {
        let keys: Vec<Key> = ids.into_iter().map(I::key).collect();
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.page(Page::ids(keys)).await
    }

    /// Inserts a document. Its id must be derived from the action ([`Call::new_id`]), so a
    /// redelivery finds it.
    ///
    /// # Errors
    /// The database fails.
    pub async fn insert(
        &self,
        permit: WritePermit<'_>,
        id: &I::Ref,
        value: &T,
    ) -> Result<Inserted, Stop> {
        let action = permit.action();
        let document = self.form.created(&I::key(id), value, action, now())?;
        let documents = self.collection().clone_with_type::<Document>();
        match part(INSERT, documents.insert_one(document)).await {
            Ok(_) => Ok(Inserted::Done),
            Err(error) if is_duplicate(&error) => match self.stored(id).await? {
                Some(stored) if stored.is_created_by(action) => Ok(Inserted::Done),
                Some(_) => Ok(Inserted::Taken("_id".to_owned())),
                None => Ok(Inserted::Taken(self.taken(&error))),
            },
            Err(error) => Err(unavailable(error)),
        }
    }

    /// Changes a document.
    ///
    /// # Errors
    /// The database fails, or a condition of the change does not hold.
    pub async fn update(
        &self,
        permit: WritePermit<'_>,
        id: &I::Ref,
        change: Change,
    ) -> Result<Changed, Stop> {
        let action = permit.action();
        let mut filter = doc! { "_id": I::key(id).bson() };
        filter.extend(self.form.live());
        filter.extend(self.form.unstamped(action));
        filter.extend(change.only_if.clone());
        let stages = self.stages(&change, &permit);
        match part(UPDATE, self.collection().update_one(filter, stages)).await {
            Ok(updated) if updated.matched_count == 1 => Ok(Changed::Done),
            Ok(_) => match self.stored(id).await? {
                Some(stored) if stored.is_done_by(action) => Ok(Changed::Done),
                Some(stored) if stored.is_live() => {
                    Err(retry("the document was changed concurrently"))
                }
                Some(_) | None => Ok(Changed::NotThere),
            },
            Err(error) if is_duplicate(&error) => Ok(Changed::Taken(self.taken(&error))),
            Err(error) => Err(unavailable(error)),
        }
    }

    /// Deletes a document. Its unique values are free immediately. Its stamps stay until no
    /// redelivery can refer to it.
    ///
    /// # Errors
    /// The database fails.
    pub async fn delete(&self, permit: WritePermit<'_>, id: &I::Ref) -> Result<Deleted, Stop> {
        match self.update(permit, id, Change::deletion()).await? {
            Changed::Done => Ok(Deleted::Done),
            Changed::NotThere | Changed::Taken(_) => Ok(Deleted::NotThere),
        }
    }

    /// Replaces the value of a field if it is still `from`; returns whether it was. Writes no
    /// stamp: for changes that are not part of an action's outcome.
    ///
    /// # Errors
    /// The database fails.
    pub async fn replace(
        &self,
        permit: WritePermit<'_>,
        id: &I::Ref,
        field: &str,
        from: impl Into<Bson>,
        to: impl Into<Bson>,
    ) -> Result<bool, Stop> {
        drop(permit);
        let mut filter = doc! { "_id": I::key(id).bson(), field: { "$eq": from.into() } };
        filter.extend(self.form.live());
        let collection = self.collection();
        let update = collection.update_one(filter, doc! { "$set": { field: to.into() } });
        Ok(run(UPDATE, update).await?.matched_count == 1)
    }

    /// Raises a field to a value, unless it is greater. Idempotent, so it needs no permit and
    /// queries may call it.
    ///
    /// # Errors
    /// The database fails.
    pub async fn raise(
        &self,
        id: &I::Ref,
        field: &str,
        value: impl Into<Bson>,
    ) -> Result<(), Stop> {
        let mut filter = doc! { "_id": I::key(id).bson() };
        filter.extend(self.form.live());
        let collection = self.collection();
        let update = collection.update_one(filter, doc! { "$max": { field: value.into() } });
        run(UPDATE, update).await.map(drop)
    }

    /// Creates or changes a document by the stages of a MongoDB update. Writes no stamp: the stages
    /// themselves must be idempotent.
    ///
    /// # Errors
    /// The database fails.
    pub async fn upsert(
        &self,
        permit: WritePermit<'_>,
        id: &I::Ref,
        stages: Vec<Document>,
    ) -> Result<(), Stop> {
        drop(permit);
        let collection = self.collection();
        let update = collection.update_one(doc! { "_id": I::key(id).bson() }, stages);
        run(UPDATE, update.upsert(true)).await.map(drop)
    }

    /// Returns whether an earlier delivery of this action changed or deleted a document of the
    /// page. It finds a deleted document only by the fields that remain after a deletion.
    ///
    /// # Errors
    /// The database fails.
    pub async fn is_done<In>(&self, call: &Call<In>, page: &Page) -> Result<bool, Stop> {
        let collection = self.collection();
        let found = collection.find_one(page.filter(self.form.done(call.id)));
        Ok(!self.form.forgets_stamps && run(FIND, found).await?.is_some())
    }

    /// Value of the field `purge_at` for a document that has no other expiry: the end of the period
    /// in which a redelivery may need the document.
    pub fn kept_until(&self) -> DateTime {
        self.form.retention.until(now())
    }

    /// The time at which the log has lost the actions that it has now: a value for the field
    /// `purge_at` of a document that only redeliveries read.
    pub fn until_log_lost(&self) -> DateTime {
        self.form.retention.until_log_lost(now())
    }

    /// Changes or deletes all documents of a page, each once; returns their number.
    ///
    /// Works in lists of up to 10,000 documents: it stores the ids of a list, then changes its
    /// documents. A redelivery repeats the stored lists, whatever the page contains by then. It
    /// queries the page again only for a list that is not stored yet.
    ///
    /// # Errors
    /// The database fails, or this delivery must not write.
    pub async fn for_each<In>(
        &self,
        call: &Call<In>,
        page: &Page,
        change: &Change,
    ) -> Result<usize, Stop> {
        let mut count = 0;
        for number in 0.. {
            let ids = match self.lists.of(call.id, number).await? {
                Some(ids) => ids,
                None => {
                    let ids = self.ids(call, page, change).await?;
                    self.lists.store(call.permit().await?, page, number, ids).await?
                }
            };
            for batch in ids.chunks(super::lists::BATCH) {
                let permit = call.permit().await?;
                let filter = self.changeable(doc! { "_id": { "$in": batch } }, call, change);
                let stages = self.stages(change, &permit);
                run(UPDATE, self.collection().update_many(filter, stages)).await?;
            }
            count += ids.len();
            if ids.len() < self.lists.part {
                break;
            }
        }
        Ok(count)
    }

    /// The ids of the next list: of documents that the action has not changed yet.
    async fn ids<In>(
        &self,
        call: &Call<In>,
        page: &Page,
        change: &Change,
    ) -> Result<Vec<Bson>, Stop> {
        let filter = self.changeable(page.filter(self.form.live()), call, change);
        let part = i64::try_from(self.lists.part).unwrap_or(i64::MAX);
        let skip = page.skip.and_then(|skip| u64::try_from(skip).ok()).unwrap_or(0);
        let collection = self.collection();
        let found = collection.find(filter).sort(page.sort()).skip(skip).limit(part);
        let mut cursor = run(FIND, found.projection(doc! { "_id": 1 })).await?;
        let mut ids = Vec::new();
        while cursor.advance().await.map_err(unavailable)? {
            let key = cursor.current().get("_id").ok().flatten().and_then(Key::of);
            ids.extend(key.map(|key| key.bson()));
        }
        Ok(ids)
    }

    fn changeable<In>(&self, mut filter: Document, call: &Call<In>, change: &Change) -> Document {
        filter.extend(self.form.live());
        filter.extend(self.form.unstamped(call.id));
        filter.extend(change.only_if.clone());
        filter
    }

    fn stages(&self, change: &Change, permit: &WritePermit<'_>) -> Vec<Document> {
        if change.deletes {
            self.form.deletion(permit.action(), now())
        } else {
            change.stages(self.form.stamped(permit.action(), now()))
        }
    }

    pub(super) fn collection(&self) -> Collection<RawDocumentBuf> {
        self.database.collection(&self.form.collection)
    }

    async fn stored(&self, id: &I::Ref) -> Result<Option<Stored<'_, T, I>>, Stop> {
        let found = part(FIND, self.by_id.find(I::key(id))).await?;
        Ok(found.map(|raw| self.form.read(raw)))
    }

    /// The unique field that a write violated. The server names the index only in its message.
    fn taken(&self, error: &mongodb::error::Error) -> String {
        let message = error.to_string();
        let is_it = |field: &&String| message.contains(&format!("index: {field}_1 "));
        let field = self.form.unique.iter().find(is_it);
        field.cloned().unwrap_or_else(|| "_id".to_owned())
    }
}
