//! The documents of a collection without their types, so that the code that uses the database is
//! compiled once and not in every worker.

use std::collections::HashMap;

use concert_runtime::mongodb::{LiveDatabase, now};
use concert_wire::id::ActionId;
use mongodb::Collection;
use mongodb::bson::{Bson, DateTime, Document, RawDocumentBuf, doc, serialize_to_raw_document_buf};
use mongodb::options::UpdateModifications;
use serde::Serialize;

use super::change::Change;
use super::documents::{Changed, Inserted};
use super::form::{Form, Stored};
use super::id::Key;
use super::lists::{self, Lists};
use super::lookups::{Counts, Lookups, Wanted};
use super::operation::{COUNT, DISTINCT, FIND, INSERT, UPDATE, because, run, unavailable, unfit};
use super::page::Page;
use super::writes::{Writes, Written};
use crate::boxed::Boxed;
use crate::call::{Stop, Writer, retry};
use crate::part;

pub(super) struct Stamped {
    pub(super) database: LiveDatabase,
    pub(super) form: Form,
    pub(super) lookups: Lookups,
    pub(super) counts: HashMap<String, Counts>,
    pub(super) lists: Lists,
    pub(super) inserts: Writes,
    pub(super) updates: Writes,
}

impl Stamped {
    pub(super) fn collection(&self) -> Collection<RawDocumentBuf> {
        self.database.collection(&self.form.collection)
    }

    /// The document with this id, deleted or not.
    pub(super) fn get<'a>(&'a self, id: Key) -> Boxed<'a, Result<Option<Stored<'a>>, Stop>> {
        Box::pin(async move {
            let found = part(FIND, self.lookups.ask(Wanted::id(id))).await?;
            Ok(found.map(|raw| self.form.read(raw)))
        })
    }

    /// The documents with these ids, deleted or not.
    pub(super) fn many<'a>(&'a self, ids: Vec<Key>) -> Boxed<'a, Result<Vec<Stored<'a>>, Stop>> {
        Box::pin(self.wanted(ids.into_iter().map(Wanted::id).collect()))
    }

    /// The documents with these values of unique fields, deleted or not.
    pub(super) fn find<'a>(
        &'a self,
        values: &'a [(&'a str, &'a str)],
    ) -> Boxed<'a, Result<Vec<Stored<'a>>, Stop>> {
        Box::pin(async move {
            let is_unique = |field: &str| self.form.unique.iter().any(|unique| unique == field);
            if let Some((field, _)) = values.iter().find(|(field, _)| !is_unique(field)) {
                let collection = &self.form.collection;
                return Err(retry(format!(
                    "{collection} has no unique field `{field}`; open it with .unique(\"{field}\")"
                )));
            }
            let all = values.iter().map(|(field, value)| Wanted::value(field, value)).collect();
            self.wanted(all).await
        })
    }

    async fn wanted(&self, all: Vec<Wanted>) -> Result<Vec<Stored<'_>>, Stop> {
        if all.is_empty() {
            // No operation, so none is recorded.
            return Ok(Vec::new());
        }
        let found = part(FIND, self.lookups.ask_all(all)).await?;
        Ok(found.into_iter().flatten().map(|raw| self.form.read(raw)).collect())
    }

    pub(super) fn count<'a>(&'a self, page: &'a Page) -> Boxed<'a, Result<u64, Stop>> {
        Box::pin(async move {
            // Unlike the driver's `count_documents`, this command reads only an index if it can.
            let command = doc! {
                "count": &self.form.collection,
                "query": page.filter(self.form.live()),
                "skip": i64::try_from(page.skip).unwrap_or(0),
                "limit": page.limit,
            };
            let counted = run(COUNT, self.database.now().run_command(command)).await?;
            let count = counted.get_i32("n").map(i64::from).or_else(|_| counted.get_i64("n"));
            let count = count.ok().and_then(|count| u64::try_from(count).ok());
            count.ok_or_else(|| retry(because("a count has no number")))
        })
    }

    pub(super) fn count_of<'a>(
        &'a self,
        field: &'a str,
        value: &'a str,
    ) -> Boxed<'a, Result<u64, Stop>> {
        Box::pin(async move {
            let Some(counts) = self.counts.get(field) else {
                let collection = &self.form.collection;
                return Err(retry(format!(
                    "{collection} has no field `{field}`; open it with .lookup(\"{field}\")"
                )));
            };
            part(COUNT, counts.ask(Key::Text(value.to_owned()))).await
        })
    }

    pub(super) fn values<'a>(&'a self, field: &'a str) -> Boxed<'a, Result<Vec<String>, Stop>> {
        Box::pin(async move {
            let collection = self.collection();
            let values = run(DISTINCT, collection.distinct(field, self.form.live())).await?;
            let mut values: Vec<String> = values
                .into_iter()
                .filter_map(|value| match value {
                    Bson::String(value) => Some(value),
                    _ => None,
                })
                .collect();
            values.sort_unstable();
            Ok(values)
        })
    }

    pub(super) fn page<'a>(&'a self, page: Page) -> Boxed<'a, Result<Vec<Stored<'a>>, Stop>> {
        Box::pin(async move {
            let collection = self.collection();
            let found = collection.find(page.filter(self.form.live())).sort(page.sort());
            let mut cursor = run(FIND, found.skip(page.skip).limit(page.limit)).await?;
            let mut documents = Vec::new();
            while cursor.advance().await.map_err(unavailable)? {
                documents.push(self.form.read(cursor.current().to_owned()));
            }
            Ok(documents)
        })
    }

    pub(super) fn insert<'a>(
        &'a self,
        action: ActionId,
        id: Key,
        value: Document,
        created_at: DateTime,
    ) -> Boxed<'a, Result<Inserted, Stop>> {
        Box::pin(async move {
            let document = self.form.created(&id, value, action, created_at);
            match part(INSERT, self.inserts.ask(raw(&document)?)).await? {
                Written::Done => Ok(Inserted::Done),
                Written::Unknown => Err(retry(because("a document was not inserted"))),
                Written::Duplicate(message) => match self.get(id).await? {
                    Some(stored) if stored.is_created_by(action) => Ok(Inserted::Done),
                    Some(_) => Ok(Inserted::Taken("_id".to_owned())),
                    None => Ok(Inserted::Taken(self.taken(&message))),
                },
                Written::Failed(message) => Err(retry(because(message))),
            }
        })
    }

    pub(super) fn update<'a>(
        &'a self,
        action: ActionId,
        id: Key,
        change: Change,
    ) -> Boxed<'a, Result<Changed, Stop>> {
        Box::pin(async move {
            let mut filter = doc! { "_id": id.bson() };
            filter.extend(self.form.live());
            filter.extend(self.form.unstamped(action));
            filter.extend(change.only_if.clone());
            let update = Update { q: filter, u: self.modifications(&change, action) };
            match part(UPDATE, self.updates.ask(raw(&update)?)).await? {
                Written::Done => Ok(Changed::Done),
                Written::Unknown => match self.get(id).await? {
                    Some(stored) if stored.is_done_by(action) => Ok(Changed::Done),
                    Some(stored) if stored.is_live() => {
                        Err(retry("the document was changed concurrently"))
                    }
                    Some(_) | None => Ok(Changed::NotThere),
                },
                Written::Duplicate(message) => Ok(Changed::Taken(self.taken(&message))),
                Written::Failed(message) => Err(retry(because(message))),
            }
        })
    }

    pub(super) fn replace<'a>(
        &'a self,
        id: Key,
        field: &'a str,
        from: Bson,
        to: Bson,
    ) -> Boxed<'a, Result<bool, Stop>> {
        Box::pin(async move {
            let mut filter = doc! { "_id": id.bson(), field: { "$eq": from } };
            filter.extend(self.form.live());
            let collection = self.collection();
            let update = collection.update_one(filter, doc! { "$set": { field: to } });
            Ok(run(UPDATE, update).await?.matched_count == 1)
        })
    }

    pub(super) fn raise<'a>(
        &'a self,
        id: Key,
        field: &'a str,
        value: Bson,
    ) -> Boxed<'a, Result<(), Stop>> {
        Box::pin(async move {
            let mut filter = doc! { "_id": id.bson() };
            filter.extend(self.form.live());
            let collection = self.collection();
            let update = collection.update_one(filter, doc! { "$max": { field: value } });
            run(UPDATE, update).await.map(drop)
        })
    }

    pub(super) fn upsert<'a>(
        &'a self,
        id: Key,
        stages: Vec<Document>,
    ) -> Boxed<'a, Result<(), Stop>> {
        Box::pin(async move {
            let collection = self.collection();
            let update = collection.update_one(doc! { "_id": id.bson() }, stages);
            run(UPDATE, update.upsert(true)).await.map(drop)
        })
    }

    pub(super) fn is_done<'a>(
        &'a self,
        action: ActionId,
        page: &'a Page,
    ) -> Boxed<'a, Result<bool, Stop>> {
        Box::pin(async move {
            let collection = self.collection();
            let found = collection.find_one(page.filter(self.form.done(action)));
            Ok(!self.form.forgets_stamps && run(FIND, found).await?.is_some())
        })
    }

    pub(super) fn for_each<'a>(
        &'a self,
        writer: Writer<'a>,
        page: &'a Page,
        change: &'a Change,
    ) -> Boxed<'a, Result<usize, Stop>> {
        Box::pin(async move {
            let action = *writer.action;
            let mut count = 0;
            for number in 0.. {
                let ids = match self.lists.of(action, number).await? {
                    Some(ids) => ids,
                    None => {
                        let ids = self.ids(action, page, change).await?;
                        self.lists.store(writer.permit().await?, page, number, ids).await?
                    }
                };
                for batch in ids.chunks(lists::BATCH) {
                    let permit = writer.permit().await?;
                    let filter = self.changeable(doc! { "_id": { "$in": batch } }, action, change);
                    let change = self.modifications(change, permit.action());
                    run(UPDATE, self.collection().update_many(filter, change)).await?;
                }
                count += ids.len();
                if ids.len() < self.lists.part {
                    break;
                }
            }
            Ok(count)
        })
    }

    /// The ids for the next list, up to the length of a list: of documents that the action has not
    /// changed yet.
    async fn ids(&self, action: ActionId, page: &Page, change: &Change) -> Result<Vec<Bson>, Stop> {
        let filter = self.changeable(page.filter(self.form.live()), action, change);
        let part = i64::try_from(self.lists.part).unwrap_or(i64::MAX);
        let collection = self.collection();
        let found = collection.find(filter).sort(page.sort()).skip(page.skip).limit(part);
        let mut cursor = run(FIND, found.projection(doc! { "_id": 1 })).await?;
        let mut ids = Vec::new();
        while cursor.advance().await.map_err(unavailable)? {
            let key = cursor.current().get("_id").ok().flatten().and_then(Key::of);
            ids.extend(key.map(|key| key.bson()));
        }
        Ok(ids)
    }

    fn changeable(&self, mut filter: Document, action: ActionId, change: &Change) -> Document {
        filter.extend(self.form.live());
        filter.extend(self.form.unstamped(action));
        filter.extend(change.only_if.clone());
        filter
    }

    fn modifications(&self, change: &Change, action: ActionId) -> UpdateModifications {
        if change.deletes {
            self.form.deletion(action, now())
        } else {
            change.stages(self.form.stamped(action, now())).into()
        }
    }

    /// The unique field that a write violated. The server names the index only in its message.
    fn taken(&self, message: &str) -> String {
        let is_it = |field: &&String| message.contains(&format!("index: {field}_1 "));
        let field = self.form.unique.iter().find(is_it);
        field.cloned().unwrap_or_else(|| "_id".to_owned())
    }
}

/// An update of the command `update`.
#[derive(Serialize)]
struct Update {
    q: Document,
    u: UpdateModifications,
}

fn raw(document: &impl Serialize) -> Result<RawDocumentBuf, Stop> {
    serialize_to_raw_document_buf(document).map_err(|error| unfit(&error))
}
