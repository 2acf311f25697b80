//! A change of one document.

use mongodb::bson::{self, Bson, Document, doc};
use serde::Serialize;

use super::operation::unfit;
use crate::call::Stop;

/// A change of one document: fields that are set and removed, under conditions.
#[derive(Debug, Clone, Default)]
pub struct Change {
    set: Document,
    unset: Vec<String>,
    pub(super) only_if: Document,
    pub(super) deletes: bool,
}

impl Change {
    /// Sets a field.
    pub fn set(field: &str, value: impl Into<Bson>) -> Self {
        Self::default().and_set(field, value)
    }

    /// Sets each field of a value.
    ///
    /// # Errors
    /// The value cannot be stored.
    pub fn fields(value: &impl Serialize) -> Result<Self, Stop> {
        let fields = bson::serialize_to_document(value).map_err(|error| unfit(&error))?;
        Ok(fields
            .iter()
            .fold(Self::default(), |change, (field, value)| change.and_set(field, value.clone())))
    }

    /// Removes a field, which frees its value if it is unique.
    pub fn unset(field: &str) -> Self {
        Self::default().and_unset(field)
    }

    /// Deletes the document.
    pub fn deletion() -> Self {
        Self { deletes: true, ..Self::default() }
    }

    /// Sets a further field.
    #[must_use]
    pub fn and_set(mut self, field: &str, value: impl Into<Bson>) -> Self {
        // A literal, so a text that begins with `$` is not an expression.
        self.set.insert(field, doc! { "$literal": value.into() });
        self
    }

    /// Removes a further field.
    #[must_use]
    pub fn and_unset(mut self, field: &str) -> Self {
        self.unset.push(field.to_owned());
        self
    }

    /// Applies only while the field has this value. Otherwise the action is retried with the new
    /// value.
    #[must_use]
    pub fn only_if(mut self, field: &str, value: impl Into<Bson>) -> Self {
        self.only_if.insert(field, doc! { "$eq": value.into() });
        self
    }

    /// The stages of the update, the stamp among them.
    pub(super) fn stages(&self, stamp: Document) -> Vec<Document> {
        let mut set = stamp;
        set.extend(self.set.clone());
        let mut stages = vec![doc! { "$set": set }];
        if !self.unset.is_empty() {
            stages.push(doc! { "$unset": self.unset.clone() });
        }
        stages
    }
}
