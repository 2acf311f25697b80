//! Selection and order of the documents in a list.

use mongodb::bson::{Bson, Document, doc};

use super::id::Id;

/// Selects live documents, by default in the order of their ids.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Fields with a required value.
    pub(super) equal: Document,
    /// Further conditions.
    conditions: Vec<Document>,
    newest_first: bool,
    /// As MongoDB has them: 0 for none.
    pub(super) skip: u64,
    pub(super) limit: i64,
}

impl Page {
    /// All documents.
    pub fn all() -> Self {
        Self::default()
    }

    /// The documents whose field has this value. Open the documents with
    /// [`lookup`](super::OpenDocuments::lookup) for the field.
    pub fn of(field: &str, value: impl Into<Bson>) -> Self {
        let mut page = Self::default();
        page.equal.insert(field, value);
        page
    }

    /// Only documents whose field is greater than the value.
    #[must_use]
    pub fn greater(mut self, field: &str, value: impl Into<Bson>) -> Self {
        self.conditions.push(doc! { field: { "$gt": value.into() } });
        self
    }

    /// Only documents whose field is less than the value.
    #[must_use]
    pub fn less(mut self, field: &str, value: impl Into<Bson>) -> Self {
        self.conditions.push(doc! { field: { "$lt": value.into() } });
        self
    }

    /// Only documents whose field has the value.
    #[must_use]
    pub fn equal(mut self, field: &str, value: impl Into<Bson>) -> Self {
        self.conditions.push(doc! { field: { "$eq": value.into() } });
        self
    }

    /// Only documents whose field has one of the values; `_id` is a field too.
    #[must_use]
    pub fn one_of(mut self, field: &str, values: &[String]) -> Self {
        self.conditions.push(doc! { field: { "$in": values } });
        self
    }

    /// Excludes this document.
    #[must_use]
    pub fn except<I: Id>(mut self, id: &I::Ref) -> Self {
        self.conditions.push(doc! { "_id": { "$ne": I::key(id).bson() } });
        self
    }

    /// Continues after the last document of the previous page. Only for the order of ids.
    #[must_use]
    pub fn after<I: Id>(mut self, id: &I::Ref) -> Self {
        self.conditions.push(doc! { "_id": { "$gt": I::key(id).bson() } });
        self
    }

    /// Orders the newest document first.
    #[must_use]
    pub fn newest_first(mut self) -> Self {
        self.newest_first = true;
        self
    }

    /// Skips this number of documents.
    #[must_use]
    pub fn skip(mut self, count: usize) -> Self {
        self.skip = u64::try_from(count).unwrap_or(0);
        self
    }

    /// Maximum number of documents.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = i64::try_from(limit).unwrap_or(0);
        self
    }

    /// The filter, without deleted documents.
    pub(super) fn filter(&self, live: Document) -> Document {
        let mut all = vec![live, self.equal.clone()];
        all.extend(self.conditions.iter().cloned());
        doc! { "$and": all }
    }

    pub(super) fn sort(&self) -> Document {
        if self.newest_first {
            doc! { "created_at": -1, "_id": 1 }
        } else {
            doc! { "_id": 1 }
        }
    }
}
