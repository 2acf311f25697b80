//! Lists of the documents that an action changes, stored before its first write.

use concert_runtime::mongodb::{Index, LiveDatabase, index, is_duplicate, now};
use concert_wire::id::ActionId;
use mongodb::Collection;
use mongodb::bson::{Bson, Document, doc};
use tokio::sync::OnceCell;

use super::operation::{FIND, INSERT, run, unavailable};
use super::page::Page;
use super::stamp::{Retention, stamp};
use crate::call::{Stop, retry};
use crate::part;
use crate::permit::WritePermit;

/// Maximum number of ids in one stored list; an action on more documents stores several lists.
pub(super) const PART: usize = 10_000;
/// Maximum number of documents in one operation; each operation needs its own permit.
pub(super) const BATCH: usize = 500;

/// The stored lists of a collection.
#[derive(Debug)]
pub(super) struct Lists {
    pub(super) database: LiveDatabase,
    /// Name of their collection.
    pub(super) collection: String,
    /// The field with the ids.
    pub(super) ids: String,
    pub(super) retention: Retention,
    /// Most collections never have a list, so the first one creates the index.
    pub(super) indexed: OnceCell<()>,
    /// Maximum number of ids in one list.
    pub(super) part: usize,
}

/// The id of the n-th list of an action. The first has that of the released version.
fn list_id(action: ActionId, number: usize) -> Bson {
    if number == 0 { stamp(action) } else { format!("{action}/{number}").into() }
}

impl Lists {
    fn collection(&self) -> Collection<Document> {
        self.database.collection(&self.collection)
    }

    /// The n-th list that an earlier delivery of this action stored.
    pub(super) async fn of(
        &self,
        action: ActionId,
        number: usize,
    ) -> Result<Option<Vec<Bson>>, Stop> {
        let id = list_id(action, number);
        let found = run(FIND, self.collection().find_one(doc! { "_id": id })).await?;
        let ids = |list: Document| match list.get_array(&self.ids) {
            Ok(ids) => Ok(ids.clone()),
            Err(error) => Err(retry(format!("cannot read a stored list: {error}"))),
        };
        found.map(ids).transpose()
    }

    /// Stores a list. If another delivery stored one first, returns that one.
    pub(super) async fn store(
        &self,
        permit: WritePermit<'_>,
        page: &Page,
        number: usize,
        ids: Vec<Bson>,
    ) -> Result<Vec<Bson>, Stop> {
        let collection = self.collection();
        let indexed = index(&collection, "purge_at", Index::Expiry);
        self.indexed.get_or_try_init(|| indexed).await.map_err(retry)?;
        let now = now();
        let mut list = page.equal.clone();
        list.insert("_id", list_id(permit.action(), number));
        list.insert(self.ids.as_str(), ids.clone());
        list.insert("at", now);
        list.insert("purge_at", self.retention.until(now));
        match part(INSERT, self.collection().insert_one(list)).await {
            Ok(_) => Ok(ids),
            Err(error) if is_duplicate(&error) => match self.of(permit.action(), number).await? {
                Some(first) => Ok(first),
                None => Err(retry("the stored list was removed")),
            },
            Err(error) => Err(unavailable(error)),
        }
    }
}
