//! Options for opening documents: names of collections and fields, and their indexes.

use std::marker::PhantomData;

use concert_runtime::mongodb::{Index, compound_index, index};
use mongodb::bson::{Bson, Document, doc};
use tokio::sync::OnceCell;

use super::documents::Documents;
use super::form::{Form, Tombstone};
use super::id::Id;
use super::lists::{Lists, PART};
use super::lookups::{Count, Lookup};
use super::shared::Shared;
use super::stamped::Stamped;
use super::writes::Write;
use crate::boxed::Boxed;
use crate::start::{Environment, StartError};

/// Options for opening documents.
pub struct OpenDocuments<'a, T, I = String> {
    environment: &'a Environment,
    form: Form,
    lookups: Vec<String>,
    newest: Vec<String>,
    is_newest_first: bool,
    /// The collection of lists and the name of their id field, if actions change many documents.
    lists: Option<(String, String)>,
    types: PhantomData<fn() -> (T, I)>,
}

impl<'a, T, I> OpenDocuments<'a, T, I> {
    pub(crate) fn new(environment: &'a Environment, collection: &str) -> Self {
        Self {
            environment,
            form: Form {
                collection: collection.to_owned(),
                unique: Vec::new(),
                tombstone: Tombstone::Emptied(Document::new()),
                expires: None,
                retention: environment.retention,
                forgets_stamps: environment.forgets_stamps,
            },
            lookups: Vec::new(),
            newest: Vec::new(),
            is_newest_first: false,
            lists: None,
            types: PhantomData,
        }
    }

    /// Makes a text field unique; [`Documents::find`] finds by it.
    #[must_use]
    pub fn unique(mut self, field: &str) -> Self {
        self.form.unique.push(field.to_owned());
        self
    }

    /// Creates an index for pages that are selected by this field.
    #[must_use]
    pub fn lookup(mut self, field: &str) -> Self {
        self.lookups.push(field.to_owned());
        self
    }

    /// Creates an index for pages that are selected by this field and have the newest document
    /// first. Deleted documents do not slow them down.
    #[must_use]
    pub fn lookup_newest(mut self, field: &str) -> Self {
        self.newest.push(field.to_owned());
        self
    }

    /// Creates an index for pages of all documents that have the newest one first.
    #[must_use]
    pub fn newest_first(mut self) -> Self {
        self.is_newest_first = true;
        self
    }

    /// Removes documents after the date in this field, when no redelivery can refer to them.
    #[must_use]
    pub fn expires(mut self, field: &str) -> Self {
        self.form.expires = Some(field.to_owned());
        self
    }

    /// A deleted document keeps all of its fields, and gets this one: `{ by, at }`. By default, it
    /// keeps only its stamps.
    #[must_use]
    pub fn deleted_in(mut self, field: &str) -> Self {
        self.form.tombstone = Tombstone::Kept(field.to_owned());
        self
    }

    /// A deleted document keeps only its stamps, and has this value in a field.
    #[must_use]
    pub fn deleted_with(mut self, field: &str, value: impl Into<Bson>) -> Self {
        let mut left = match self.form.tombstone {
            Tombstone::Emptied(left) => left,
            Tombstone::Kept(_) => Document::new(),
        };
        left.insert(field, value);
        self.form.tombstone = Tombstone::Emptied(left);
        self
    }

    /// The collection and the field in which [`Documents::for_each`] stores its lists. Default: the
    /// collection's name with `_lists`, and `ids`.
    #[must_use]
    pub fn lists(mut self, collection: &str, field: &str) -> Self {
        self.lists = Some((collection.to_owned(), field.to_owned()));
        self
    }

    /// Connects to the database and creates missing indexes.
    ///
    /// # Errors
    /// The database cannot be used.
    pub async fn open(self) -> Result<Documents<T, I>, StartError>
    where
        I: Id,
    {
        let Self { environment, form, lookups, newest, is_newest_first, lists, types } = self;
        let untyped = open(environment, form, &lookups, &newest, is_newest_first, lists).await?;
        Ok(Documents { untyped, types })
    }
}

/// The part of [`OpenDocuments::open`] that does not depend on types.
fn open<'a>(
    environment: &'a Environment,
    form: Form,
    lookups: &'a [String],
    newest: &'a [String],
    is_newest_first: bool,
    lists: Option<(String, String)>,
) -> Boxed<'a, Result<Stamped, StartError>> {
    Box::pin(async move {
        let database = environment.database().await?.clone();
        let collection = database.collection::<Document>(&form.collection);
        let (name, ids) =
            lists.unwrap_or_else(|| (format!("{}_lists", form.collection), "ids".to_owned()));
        let lists = Lists {
            database: database.clone(),
            collection: name,
            ids,
            retention: form.retention,
            indexed: OnceCell::new(),
            part: PART,
        };
        index(&collection, "purge_at", Index::Expiry).await?;
        for field in &form.unique {
            index(&collection, field, Index::Unique).await?;
        }
        for field in lookups {
            index(&collection, field, Index::Lookup).await?;
        }
        if is_newest_first {
            let keys = doc! { form.tombstone_field(): 1, "created_at": -1, "_id": 1 };
            compound_index(&collection, keys).await?;
        }
        for field in newest {
            let keys = doc! { field: 1, form.tombstone_field(): 1, "created_at": -1 };
            compound_index(&collection, keys).await?;
        }
        let (name, live) = (form.collection.as_str(), form.live());
        let count =
            |field: &str| Shared::new(Count::new(database.clone(), name, field, live.clone()));
        let inserts = Shared::new(Write::inserts(database.clone(), name));
        let updates = Shared::new(Write::updates(database.clone(), name));
        let counts = lookups.iter().map(|field| (field.clone(), count(field))).collect();
        let lookups = Shared::new(Lookup::new(database.clone(), name));
        Ok(Stamped { lookups, counts, lists, inserts, updates, database, form })
    })
}
