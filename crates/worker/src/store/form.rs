//! Stored form of a document: the author's fields and the stamps.

use concert_wire::id::ActionId;
use mongodb::bson::{self, Bson, DateTime, Document, RawDocument, RawDocumentBuf, doc};
use mongodb::options::UpdateModifications;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::id::{Id, Key};
use super::operation::unfit;
use super::stamp::{Retention, stamp};
use crate::call::{Call, Stop, derived_id};

/// Remaining fields of a deleted document, until no redelivery can refer to it.
#[derive(Debug, Clone)]
pub(super) enum Tombstone {
    /// `deleted_by`, the stamps and these fields; all others are removed.
    Emptied(Document),
    /// All fields, and in this field the action and the time: `{ by, at }`.
    Kept(String),
}

/// The names of fields and collections.
#[derive(Debug, Clone)]
pub(super) struct Form {
    pub(super) collection: String,
    pub(super) unique: Vec<String>,
    pub(super) tombstone: Tombstone,
    /// A date field of the document. The document is removed one retention period after this date.
    pub(super) expires: Option<String>,
    pub(super) retention: Retention,
    pub(super) forgets_stamps: bool,
}

const DELETED_BY: &str = "deleted_by";
/// A placeholder for a missing action id.
const NO_ACTION: ActionId = ActionId::new(Uuid::nil());

impl Form {
    /// The field that only deleted documents have.
    pub(super) fn tombstone_field(&self) -> &str {
        match &self.tombstone {
            Tombstone::Emptied(_) => DELETED_BY,
            Tombstone::Kept(field) => field,
        }
    }

    /// The filter of documents that are not deleted. A condition on `$exists` would read each
    /// document, where this one can do with the index.
    pub(super) fn live(&self) -> Document {
        doc! { self.tombstone_field(): Bson::Null }
    }

    /// The stored form of a document that an action creates.
    pub(super) fn created(
        &self,
        id: &Key,
        mut document: Document,
        action: ActionId,
        now: DateTime,
    ) -> Document {
        if let Some(expires) =
            self.expires.as_ref().and_then(|field| document.get_datetime(field).ok())
        {
            document.insert("purge_at", self.retention.until(*expires));
        }
        document.insert("_id", id.bson());
        document.insert("created_by", stamp(action));
        document.insert("created_at", now);
        document
    }

    /// The `changes` of a document with one more stamp, without expired ones.
    pub(super) fn stamped(&self, action: ActionId, now: DateTime) -> Document {
        let age_ms = i64::try_from(self.retention.length().as_millis()).unwrap_or(i64::MAX);
        let oldest = DateTime::from_millis(now.timestamp_millis().saturating_sub(age_ms));
        let young = doc! { "$gte": ["$$this.at", oldest] };
        let kept = doc! { "$filter": { "input": { "$ifNull": ["$changes", []] }, "cond": young } };
        doc! { "changes": { "$concatArrays": [kept, [{ "action": stamp(action), "at": now }]] } }
    }

    /// The update that deletes a document.
    pub(super) fn deletion(&self, action: ActionId, now: DateTime) -> UpdateModifications {
        let purge_at = self.retention.until(now);
        match &self.tombstone {
            Tombstone::Kept(field) => {
                let ended = doc! { "by": stamp(action), "at": now };
                doc! { "$set": { field: ended, "purge_at": purge_at } }.into()
            }
            Tombstone::Emptied(left) => {
                let mut rest = doc! {
                    "_id": "$_id", "created_by": "$created_by", "created_at": "$created_at",
                };
                rest.extend(self.stamped(action, now));
                rest.insert(DELETED_BY, stamp(action));
                rest.insert("purge_at", purge_at);
                let merged = doc! { "$mergeObjects": [{ "$literal": left.clone() }, rest] };
                vec![doc! { "$replaceWith": merged }].into()
            }
        }
    }

    /// The filter that excludes documents that the action changed before.
    pub(super) fn unstamped(&self, action: ActionId) -> Document {
        if self.forgets_stamps {
            Document::new()
        } else {
            doc! { "changes.action": { "$ne": stamp(action) } }
        }
    }

    /// The filter of documents that the action changed or deleted before.
    pub(super) fn done(&self, action: ActionId) -> Document {
        let deleted_by = match &self.tombstone {
            Tombstone::Emptied(_) => DELETED_BY.to_owned(),
            Tombstone::Kept(field) => format!("{field}.by"),
        };
        doc! { "$or": [{ "changes.action": stamp(action) }, { deleted_by: stamp(action) }] }
    }

    pub(super) fn read(&self, raw: RawDocumentBuf) -> Stored<'_> {
        Stored { form: self, raw }
    }
}

/// A stored document, deleted or not.
pub(super) struct Stored<'a> {
    form: &'a Form,
    raw: RawDocumentBuf,
}

impl Stored<'_> {
    fn text(&self, field: &str) -> Option<&str> {
        self.raw.get_str(field).ok()
    }

    /// Its id, if it is text.
    pub(super) fn id(&self) -> Option<String> {
        self.text("_id").map(str::to_owned)
    }

    /// Returns whether this action created, changed or deleted the document.
    pub(super) fn is_done_by(&self, action: ActionId) -> bool {
        let action = action.to_string();
        let is_it = |text: Option<&str>| text == Some(action.as_str());
        !self.form.forgets_stamps
            && (is_it(self.text("created_by"))
                || is_it(self.deleted_by())
                || self.changed_by(&action))
    }

    /// Returns whether this action created the document.
    pub(super) fn is_created_by(&self, action: ActionId) -> bool {
        !self.form.forgets_stamps && self.text("created_by") == Some(&action.to_string())
    }

    fn changed_by(&self, action: &str) -> bool {
        let changes = self.raw.get_array("changes").into_iter().flatten().flatten();
        let mut actions = changes.filter_map(|change| change.as_document()?.get_str("action").ok());
        actions.any(|by| by == action)
    }

    fn deleted_by(&self) -> Option<&str> {
        match &self.form.tombstone {
            Tombstone::Emptied(_) => self.text(DELETED_BY),
            Tombstone::Kept(field) => {
                let ended: Option<&RawDocument> = self.raw.get_document(field).ok();
                ended.and_then(|ended| ended.get_str("by").ok())
            }
        }
    }

    /// Returns whether the document is not deleted.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.raw.get(self.form.tombstone_field()), Ok(None))
    }

    /// The document, if it is not deleted.
    pub(super) fn live<T: DeserializeOwned, I: Id>(self) -> Result<Option<Found<T, I>>, Stop> {
        if !self.is_live() {
            return Ok(None);
        }
        let value =
            bson::deserialize_from_slice(self.raw.as_bytes()).map_err(|error| unfit(&error))?;
        let id = self.raw.get("_id").ok().flatten().and_then(Key::of);
        let id = id.as_ref().and_then(I::read);
        let id = id.ok_or_else(|| unfit(&"its id has another type"))?;
        Ok(Some(Found {
            id,
            value,
            created_at: self.raw.get_datetime("created_at").unwrap_or(DateTime::MIN),
            // A document that no action created, such as one of an upsert, has no action id.
            created_by: self.text("created_by").and_then(|by| by.parse().ok()).unwrap_or(NO_ACTION),
            forgets_stamps: self.form.forgets_stamps,
        }))
    }
}

/// A document that is not deleted.
#[derive(Debug, Clone)]
pub struct Found<T, I = String> {
    /// Its id.
    pub id: I,
    /// The author's fields.
    pub value: T,
    /// The time at which it was created.
    pub created_at: DateTime,
    created_by: ActionId,
    forgets_stamps: bool,
}

impl<T, I> Found<T, I> {
    /// Returns whether an earlier delivery of this action created the document.
    pub fn is_created_by<J>(&self, call: &Call<J>) -> bool {
        !self.forgets_stamps && self.created_by == call.id
    }

    /// An id derived from the action that created the document, different for each kind. Neither
    /// the document's id nor the action's id can be computed from it.
    pub fn public_id(&self, kind: &str) -> String {
        derived_id(self.created_by, kind)
    }
}
