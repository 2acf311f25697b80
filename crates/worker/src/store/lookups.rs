//! Looks up or counts documents by a value, many with one operation.

use std::collections::{BTreeMap, HashMap};

use concert_runtime::mongodb::LiveDatabase;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use mongodb::error::Error;

use super::id::Key;
use super::operation::because;
use super::shared::{Operation, Shared};
use crate::boxed::Boxed;

/// Looks up documents of a collection by their ids, or by unique fields. The answer is the document
/// with this value, as of some time during the call.
pub(super) type Lookups = Shared<Lookup>;
/// Counts documents of a collection by the value of a field. The answer is the number of documents
/// that have it, as of some time during the call.
pub(super) type Counts = Shared<Count>;

/// A lookup of many values.
pub(super) struct Lookup {
    database: LiveDatabase,
    collection: String,
}

/// The document that one caller looks up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    /// `_id`, or a unique field.
    field: String,
    /// The field's value.
    value: Key,
}

/// A count for many values.
pub(super) struct Count {
    database: LiveDatabase,
    collection: String,
    field: String,
    /// Selects the documents to count.
    filter: Document,
}

impl Wanted {
    /// The document with this id.
    pub(super) fn id(value: Key) -> Self {
        Self { field: "_id".to_owned(), value }
    }

    /// The document with this value of a unique field.
    pub(super) fn value(field: &str, value: &str) -> Self {
        Self { field: field.to_owned(), value: Key::Text(value.to_owned()) }
    }
}

impl Lookup {
    /// Looks up documents of this collection.
    pub(super) fn new(database: LiveDatabase, collection: &str) -> Self {
        Self { database, collection: collection.to_owned() }
    }

    async fn found(&self, all: &[Wanted]) -> Result<Vec<Option<RawDocumentBuf>>, Error> {
        let mut fields: BTreeMap<&str, Vec<&Key>> = BTreeMap::new();
        for Wanted { field, value } in all {
            fields.entry(field).or_default().push(value);
        }
        let filters: Vec<Document> =
            fields.iter().map(|(field, keys)| doc! { *field: one_of(keys) }).collect();
        let filter = match <[Document; 1]>::try_from(filters) {
            Ok([only]) => only,
            Err(several) => doc! { "$or": several },
        };
        let collection = self.database.collection::<RawDocumentBuf>(&self.collection);
        let mut cursor = collection.find(filter).batch_size(first_batch(all.len())).await?;
        let mut found = HashMap::with_capacity(all.len());
        while cursor.advance().await? {
            let document = cursor.current();
            for field in fields.keys() {
                if let Some(value) = document.get(field).ok().flatten().and_then(Key::of) {
                    let field = (*field).to_owned();
                    found.insert(Wanted { field, value }, document.to_owned());
                }
            }
        }
        // Several callers can want the same document.
        Ok(all.iter().map(|wanted| found.get(wanted).cloned()).collect())
    }
}

impl Count {
    /// Counts the documents of this collection that match the filter, by the value of this field.
    pub(super) fn new(
        database: LiveDatabase,
        collection: &str,
        field: &str,
        filter: Document,
    ) -> Self {
        Self { database, collection: collection.to_owned(), field: field.to_owned(), filter }
    }

    async fn counted(&self, keys: &[Key]) -> Result<Vec<u64>, Error> {
        let mut filter = doc! { self.field.as_str(): one_of(&keys.iter().collect::<Vec<_>>()) };
        filter.extend(self.filter.clone());
        let group = doc! { "_id": format!("${}", self.field), "count": { "$sum": 1 } };
        let stages = [doc! { "$match": filter }, doc! { "$group": group }];
        let collection = self.database.collection::<Document>(&self.collection);
        let counts = collection.aggregate(stages).batch_size(first_batch(keys.len()));
        let mut cursor = counts.with_type::<RawDocumentBuf>().await?;
        let mut counted = HashMap::with_capacity(keys.len());
        while cursor.advance().await? {
            let group = cursor.current();
            let count = group.get_i32("count").ok().and_then(|count| u64::try_from(count).ok());
            if let Some(key) = group.get("_id").ok().flatten().and_then(Key::of) {
                counted.insert(key, count.unwrap_or(0));
            }
        }
        Ok(keys.iter().map(|key| counted.get(key).copied().unwrap_or(0)).collect())
    }
}

/// The condition that a value is one of these.
fn one_of(keys: &[&Key]) -> Bson {
    match keys {
        [key] => key.bson(),
        several => doc! { "$in": several.iter().map(|key| key.bson()).collect::<Vec<_>>() }.into(),
    }
}

/// The size of a first batch that has all documents.
fn first_batch(most: usize) -> u32 {
    u32::try_from(most).unwrap_or(u32::MAX).saturating_add(1)
}

impl Operation for Lookup {
    type Item = Wanted;
    type Answer = Option<RawDocumentBuf>;

    fn bytes(wanted: &Wanted) -> usize {
        wanted.value.bytes()
    }

    fn run<'a>(&'a self, all: &'a [Wanted]) -> Boxed<'a, Result<Vec<Self::Answer>, String>> {
        Box::pin(async move { self.found(all).await.map_err(because) })
    }
}

impl Operation for Count {
    type Item = Key;
    type Answer = u64;

    fn bytes(key: &Key) -> usize {
        key.bytes()
    }

    fn run<'a>(&'a self, keys: &'a [Key]) -> Boxed<'a, Result<Vec<u64>, String>> {
        Box::pin(async move { self.counted(keys).await.map_err(because) })
    }
}
