//! Documents whose writes take effect once, even if their action is redelivered.

use std::marker::PhantomData;

use concert_runtime::mongodb::now;
use mongodb::bson::{self, Bson, DateTime, Document};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::change::Change;
use super::form::{Found, Stored};
use super::id::Id;
use super::operation::unfit;
use super::page::Page;
use super::stamped::Stamped;
use crate::call::{Call, Stop};
use crate::permit::WritePermit;

/// The documents of one collection.
///
/// Each write is one atomic operation on one document, which also adds a *stamp* to it: the id of
/// the action. A redelivered action finds its stamp, so its write changes nothing and has the same
/// result. Later actions add their own stamps. A deleted document keeps its stamps as long as a
/// redelivery is possible. Methods that write no stamp say so.
pub struct Documents<T, I = String> {
    pub(super) untyped: Stamped,
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
        self.untyped.get(I::key(id)).await?.map_or(Ok(None), Stored::live)
    }

    /// Reads the document with this id for an action that is about to change it. This detects an
    /// earlier write before expensive work.
    ///
    /// # Errors
    /// The database fails.
    pub async fn target<In>(&self, call: &Call<In>, id: &I::Ref) -> Result<Target<T, I>, Stop> {
        match self.untyped.get(I::key(id)).await? {
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
        self.find_first(&[(field, value)]).await
    }

    /// Finds the document with the first of these values of unique fields that a document has, with
    /// one operation.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub async fn find_first(&self, values: &[(&str, &str)]) -> Result<Option<Found<T, I>>, Stop> {
        let stored = self.untyped.find(values).await?;
        stored.into_iter().find_map(|stored| stored.live().transpose()).transpose()
    }

    /// Reads the documents of a page. An invalid document fails the page, because incomplete rows
    /// would be wrong.
    ///
    /// # Errors
    /// The database fails.
    pub async fn page(&self, page: Page) -> Result<Vec<Found<T, I>>, Stop> {
        let stored = self.untyped.page(page).await?;
        stored.into_iter().filter_map(|stored| stored.live().transpose()).collect()
    }

    /// Counts the documents of a page, up to its limit.
    ///
    /// # Errors
    /// The database fails.
    pub async fn count(&self, page: &Page) -> Result<u64, Stop> {
        self.untyped.count(page).await
    }

    /// Counts the documents whose field has this value. Concurrent calls share an operation.
    ///
    /// # Errors
    /// The database fails, or the documents were opened without
    /// [`lookup`](super::OpenDocuments::lookup) for the field.
    pub async fn count_of(&self, field: &str, value: &str) -> Result<u64, Stop> {
        self.untyped.count_of(field, value).await
    }

    /// The distinct texts of a field, or in its lists, in ascending order.
    ///
    /// # Errors
    /// The database fails.
    pub async fn values(&self, field: &str) -> Result<Vec<String>, Stop> {
        self.untyped.values(field).await
    }

    /// Reads the documents with these ids, in their order; missing ones are omitted. Concurrent
    /// calls share an operation.
    ///
    /// # Errors
    /// The database fails.
    pub async fn many<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a I::Ref>,
    ) -> Result<Vec<Found<T, I>>, Stop> {
        let stored = self.untyped.many(ids.into_iter().map(I::key).collect()).await?;
        stored.into_iter().filter_map(|stored| stored.live().transpose()).collect()
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
        let value = bson::serialize_to_document(value).map_err(|error| unfit(&error))?;
        self.untyped.insert(permit.action(), I::key(id), value, now()).await
    }

    /// Changes a document.
    ///
    /// An action that creates a document or else changes it must [`insert`](Self::insert) first, and
    /// update if the document exists. The other way round, its redelivery would find the document
    /// that it has created, and change it again over a later change.
    ///
    /// # Errors
    /// The database fails, or a condition of the change does not hold.
    pub async fn update(
        &self,
        permit: WritePermit<'_>,
        id: &I::Ref,
        change: Change,
    ) -> Result<Changed, Stop> {
        self.untyped.update(permit.action(), I::key(id), change).await
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
        self.untyped.replace(I::key(id), field, from.into(), to.into()).await
    }

    /// Sets a field to the greater of its value and this one. Writes no stamp and needs no permit:
    /// a repetition changes nothing, so queries may call it, too.
    ///
    /// # Errors
    /// The database fails.
    pub async fn raise(
        &self,
        id: &I::Ref,
        field: &str,
        value: impl Into<Bson>,
    ) -> Result<(), Stop> {
        self.untyped.raise(I::key(id), field, value.into()).await
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
        self.untyped.upsert(I::key(id), stages).await
    }

    /// Returns whether an earlier delivery of this action changed or deleted a document of the
    /// page. A page matches a deleted document only by its id and the fields that
    /// [`deleted_with`](super::OpenDocuments::deleted_with) or
    /// [`deleted_in`](super::OpenDocuments::deleted_in) keeps.
    ///
    /// # Errors
    /// The database fails.
    pub async fn is_done<In>(&self, call: &Call<In>, page: &Page) -> Result<bool, Stop> {
        self.untyped.is_done(call.id, page).await
    }

    /// Value of the field `purge_at` for a document without another expiry. It is removed when its
    /// stamps would be: 25 hours after the log has lost the actions that it has now.
    pub fn kept_until(&self) -> DateTime {
        self.untyped.form.retention.until(now())
    }

    /// Value of the field `purge_at` for a document that only redeliveries read, and that should go
    /// early, such as an encrypted token: when the log has lost the actions that it has now.
    pub fn until_log_lost(&self) -> DateTime {
        self.untyped.form.retention.until_log_lost(now())
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
        self.untyped.for_each(call.writer(), page, change).await
    }
}
