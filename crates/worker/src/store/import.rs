//! Imports the documents of another system into the state of a concept (ADR 51).
//!
//! An imported document is stamped like one that an action created. The action's id is derived from
//! the document's, so a repeated import finds it, deleted or not.

mod old;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use concert_runtime::mongodb::now;
use concert_wire::id::{ActionId, FlowId, uuid_v5};
use mongodb::bson::{self, Bson, DateTime, Document};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use self::old::Reader;
use super::documents::{Documents, Inserted};
use super::id::Id as _;
use crate::call::{Call, Stop, retry};

pub use self::old::{OldData, OldDataError};

/// Namespace of the ids of imports: a UUIDv8 reserved for this purpose.
const IMPORTS: Uuid = Uuid::from_u128(0x636f_6e63_6572_8000_8000_0069_6d70_6f72);

/// What an operator decided about an import.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Only checks and counts; writes nothing.
    pub is_dry_run: bool,
    /// Other names of documents, by id.
    pub renamed: HashMap<String, String>,
    /// Ids of documents that are not imported.
    pub left: HashSet<String>,
}

/// An import into the state of one concept. The concept's importer gets it and returns
/// [`Import::finished`].
pub struct Import {
    old: OldData,
    options: ImportOptions,
    /// The documents with a unique value, by collection, field and value.
    holders: HashMap<(String, String, String), String>,
    report: ImportReport,
}

/// The result of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// The numbers of documents, by the concept's collection.
    pub counts: BTreeMap<String, ImportCounts>,
    /// Documents that were not imported, each with the reason.
    pub rejected: Vec<String>,
    /// Values that were replaced.
    pub notes: Vec<String>,
}

/// The numbers of documents of a collection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportCounts {
    /// Imported by this import.
    pub new: usize,
    /// Imported by an earlier one.
    pub before: usize,
    /// Left out: their user or document no longer exists, or the operator decided so.
    pub left: usize,
}

/// A document of the other system, before it is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    /// Imported before.
    Before,
    /// The operator left it out.
    Left,
}

/// Documents of the other system, which are read one after the other.
pub struct OldDocuments {
    collection: String,
    reader: Reader,
}

impl Import {
    /// An import from this database.
    pub fn new(old: OldData, options: ImportOptions) -> Self {
        Self { old, options, holders: HashMap::new(), report: ImportReport::default() }
    }

    /// Starts to read a collection of the other system. A missing one is empty.
    ///
    /// # Errors
    /// The old database fails.
    pub async fn read(&self, collection: &str) -> Result<OldDocuments, Stop> {
        let reader = self.old.read(collection).await.map_err(retry)?;
        Ok(OldDocuments { collection: collection.to_owned(), reader })
    }

    /// The next document that fits the type. Others are rejected.
    ///
    /// # Errors
    /// The old database fails.
    pub async fn next<T: DeserializeOwned>(
        &mut self,
        documents: &mut OldDocuments,
    ) -> Result<Option<T>, Stop> {
        while let Some(document) = documents.reader.next().await.map_err(retry)? {
            let id = text(&document, "_id");
            match bson::deserialize_from_document(document) {
                Ok(value) => return Ok(Some(value)),
                Err(_) if self.options.left.contains(&id) => {}
                Err(why) => self.reject(&documents.collection, &id, why),
            }
        }
        Ok(None)
    }

    /// The ids of a collection of the other system, without those that are left out.
    ///
    /// # Errors
    /// The collection is empty, or the old database fails.
    pub async fn ids(&self, collection: &str) -> Result<HashSet<String>, Stop> {
        let mut documents = self.read(collection).await?.reader;
        let mut ids = HashSet::new();
        while let Some(document) = documents.next().await.map_err(retry)? {
            ids.insert(text(&document, "_id"));
        }
        if ids.is_empty() {
            let from = &self.old;
            return Err(retry(format!("{from} has no documents in `{collection}`; check --from")));
        }
        ids.retain(|id| !self.options.left.contains(id));
        Ok(ids)
    }

    /// The name that the operator chose for a document.
    pub fn renamed(&self, id: &str) -> Option<&str> {
        self.options.renamed.get(id).map(String::as_str)
    }

    /// Counts a document that is left out, because its user or document no longer exists.
    pub fn leave<T>(&mut self, of: &Documents<T>) {
        self.count(of).left += 1;
    }

    /// Reports a document that cannot be imported.
    pub fn reject(&mut self, collection: &str, id: &str, why: impl fmt::Display) {
        self.report.rejected.push(format!("{collection} {id}: {why}"));
    }

    /// Reports a value that was replaced.
    pub fn note<T>(&mut self, of: &Documents<T>, id: &str, what: impl fmt::Display) {
        self.report.notes.push(format!("{} {id}: {what}", of.untyped.form.collection));
    }

    /// Returns whether a document was imported before or is to be left out, and counts it.
    ///
    /// # Errors
    /// The database fails.
    pub async fn skips<T>(&mut self, to: &Documents<T>, id: &str) -> Result<bool, Stop> {
        Ok(self.state(to, id).await? != State::New)
    }

    async fn state<T>(&mut self, to: &Documents<T>, id: &str) -> Result<State, Stop> {
        if self.options.left.contains(id) {
            self.leave(to);
            return Ok(State::Left);
        }
        let stored = to.untyped.get(String::key(id)).await?;
        if stored.is_some_and(|stored| stored.is_created_by(action(to, id))) {
            self.count(to).before += 1;
            return Ok(State::Before);
        }
        Ok(State::New)
    }

    /// The document that has a value of a unique field: a stored one, or one of this import.
    ///
    /// # Errors
    /// The database fails.
    pub async fn holder<T>(
        &self,
        of: &Documents<T>,
        field: &str,
        value: &str,
    ) -> Result<Option<String>, Stop> {
        let collection = of.untyped.form.collection.clone();
        if let Some(id) = self.holders.get(&(collection, field.to_owned(), value.to_owned())) {
            return Ok(Some(id.clone()));
        }
        let values = [(field, value)];
        let found = of.untyped.find(&values).await?;
        Ok(found.first().and_then(|stored| stored.id()))
    }

    /// Maps each element of a list field of a collection of the other system to another field.
    ///
    /// # Errors
    /// The old database fails.
    pub async fn owners(
        &self,
        collection: &str,
        list: &str,
        field: &str,
    ) -> Result<HashMap<String, String>, Stop> {
        let mut documents = self.read(collection).await?.reader;
        let mut owners = HashMap::new();
        while let Some(document) = documents.next().await.map_err(retry)? {
            let owner = text(&document, field);
            let elements = document.get_array(list).into_iter().flatten();
            owners
                .extend(elements.filter_map(Bson::as_str).map(|of| (of.to_owned(), owner.clone())));
        }
        Ok(owners)
    }

    /// Imports a document, unless its id or a unique value belongs to another one. Returns whether
    /// the document is imported, by this import or an earlier one.
    ///
    /// # Errors
    /// The database fails.
    pub async fn add<T: Serialize>(
        &mut self,
        to: &Documents<T>,
        id: &str,
        value: &T,
    ) -> Result<bool, Stop> {
        match self.state(to, id).await? {
            State::New => self.add_new(to, id, value).await,
            State::Before => Ok(true),
            State::Left => Ok(false),
        }
    }

    /// Imports a document as [`add`](Self::add), after [`skips`](Self::skips) returned `false` for
    /// it.
    ///
    /// # Errors
    /// The database fails.
    pub async fn add_new<T: Serialize>(
        &mut self,
        to: &Documents<T>,
        id: &str,
        value: &T,
    ) -> Result<bool, Stop> {
        let collection = &to.untyped.form.collection;
        let fields = bson::serialize_to_document(value).map_err(retry)?;
        let unique = to.untyped.form.unique.iter();
        let unique = unique.filter_map(|field| Some((field, fields.get_str(field).ok()?)));
        let unique: Vec<(String, String)> =
            unique.map(|(field, value)| (field.clone(), value.to_owned())).collect();
        for (field, value) in &unique {
            if let Some(other) = self.holder(to, field, value).await? {
                self.reject(collection, id, format!("`{field}` {value:?} belongs to {other}"));
                return Ok(false);
            }
        }
        if !self.options.is_dry_run {
            let inserted = to.untyped.insert(action(to, id), String::key(id), fields, created(id));
            if let Inserted::Taken(field) = inserted.await? {
                self.reject(collection, id, format!("its `{field}` belongs to another document"));
                return Ok(false);
            }
        }
        for (field, value) in unique {
            self.holders.insert((collection.clone(), field, value), id.to_owned());
        }
        self.count(to).new += 1;
        Ok(true)
    }

    /// A call for further writes of an imported document, as of the action that created it. `None`
    /// in a dry run.
    pub fn call<T>(&self, of: &Documents<T>, id: &str) -> Option<Call<()>> {
        (!self.options.is_dry_run).then(|| Call::without_log(action(of, id).as_root(), None, ()))
    }

    /// The result.
    pub fn finished(self) -> ImportReport {
        self.report
    }

    fn count<T>(&mut self, of: &Documents<T>) -> &mut ImportCounts {
        self.report.counts.entry(of.untyped.form.collection.clone()).or_default()
    }
}

/// The id of the action that imports a document.
fn action<T>(to: &Documents<T>, id: &str) -> ActionId {
    let name = format!("{}/{id}", to.untyped.form.collection);
    ActionId::new(uuid_v5(&IMPORTS, name.as_bytes()))
}

/// The time at which a document was created, if its id contains that.
fn created(id: &str) -> DateTime {
    let ms = id.parse().ok().and_then(FlowId::created_before_ms);
    let ms = ms.and_then(|ms| i64::try_from(ms).ok());
    ms.map_or_else(now, DateTime::from_millis)
}

fn text(document: &Document, field: &str) -> String {
    match document.get(field) {
        Some(Bson::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "(no id)".to_owned(),
    }
}
