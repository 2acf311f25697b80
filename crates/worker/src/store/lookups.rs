//! Looks up or counts documents by a value, many with one operation.

use std::collections::HashMap;

use concert_runtime::mongodb::LiveDatabase;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::error::Error;

use super::id::Key;
use super::operation::because;
use super::shared::{Operation, Shared};
use crate::boxed::Boxed;

/// Looks up documents of a collection by a field whose values are unique, or counts the documents
/// of each value. The answer is the document with this value, or `{_id, count}` with the number of
/// documents that have it, as of some time during the call.
pub(super) type Lookups = Shared<Lookup>;

/// A lookup of many values.
pub(super) struct Lookup {
    field: String,
    database: LiveDatabase,
    collection: String,
    /// The filter of the documents to count; `None` if they are looked up.
    counted: Option<Document>,
}

impl Lookup {
    /// Looks up documents of this collection by this field.
    pub(super) fn new(database: LiveDatabase, collection: &str, field: &str) -> Self {
        Self { field: field.to_owned(), database, collection: collection.to_owned(), counted: None }
    }

    /// Counts the documents of this collection that match the filter, by the value of this field.
    pub(super) fn counting(
        database: LiveDatabase,
        collection: &str,
        field: &str,
        filter: Document,
    ) -> Self {
        Self { counted: Some(filter), ..Self::new(database, collection, field) }
    }

    async fn found(&self, keys: &[Key]) -> Result<Vec<Option<RawDocumentBuf>>, Error> {
        let values = match keys {
            [key] => key.bson(),
            several => {
                Bson::from(doc! { "$in": several.iter().map(Key::bson).collect::<Vec<_>>() })
            }
        };
        // All documents in the first batch.
        let size = u32::try_from(keys.len()).unwrap_or(u32::MAX).saturating_add(1);
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
        let mut found = HashMap::with_capacity(keys.len());
        while cursor.advance().await? {
            let document = cursor.current();
            if let Some(key) = document.get(field).ok().flatten().and_then(Key::of) {
                found.insert(key, document.to_owned());
            }
        }
        // A key can be there twice.
        Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
    }
}

impl Operation for Lookup {
    type Item = Key;
    type Answer = Option<RawDocumentBuf>;

    fn bytes(key: &Key) -> usize {
        key.bytes()
    }

    fn run<'a>(&'a self, keys: &'a [Key]) -> Boxed<'a, Result<Vec<Self::Answer>, String>> {
        Box::pin(async move { self.found(keys).await.map_err(because) })
    }
}
