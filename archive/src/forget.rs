//! Deletes the archived flows of a deleted account.

use concert_runtime::mongodb::{StoreArgs, StoreError};
use futures_util::TryStreamExt as _;
use mongodb::bson::{Bson, Document, doc};
use serde_json::Value;

use crate::NAME;
use crate::repository::Archive;

/// Number of flows in one operation.
const BATCH: usize = 500;

/// Number of deleted documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forgotten {
    /// Flows.
    pub flows: u64,
    /// Dead letters of these flows.
    pub dead_letters: u64,
}

/// Error of the deletion. Another attempt continues it.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// The database is not available.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An operation fails.
    #[error("cannot read or delete archived flows: {0}; try again")]
    Database(#[from] mongodb::error::Error),
}

/// Deletes all flows in which an input or an output has one of these texts as a value, such as a
/// user's id and name, and their dead letters.
///
/// # Errors
/// See [`ForgetError`].
pub async fn forget(store: &StoreArgs, texts: &[String]) -> Result<Forgotten, ForgetError> {
    let database = concert_runtime::mongodb::connect(store, NAME).await?;
    let archive = Archive::of(database.into());
    let mut forgotten = Forgotten { flows: 0, dead_letters: 0 };
    let mut found = Vec::new();
    let collection = archive.flows();
    let mut flows = collection.find(doc! {}).projection(doc! { "messages.body": 1 }).await?;
    while let Some(flow) = flows.try_next().await? {
        if mentions(&flow, texts) {
            found.extend(flow.get("_id").cloned());
        }
        if found.len() == BATCH {
            delete(&archive, std::mem::take(&mut found), &mut forgotten).await?;
        }
    }
    delete(&archive, found, &mut forgotten).await?;
    Ok(forgotten)
}

async fn delete(
    archive: &Archive,
    flows: Vec<Bson>,
    forgotten: &mut Forgotten,
) -> Result<(), ForgetError> {
    let letters = doc! { "flow": { "$in": &flows } };
    forgotten.dead_letters += archive.dead_letters().delete_many(letters).await?.deleted_count;
    let flows = doc! { "_id": { "$in": flows } };
    forgotten.flows += archive.flows().delete_many(flows).await?.deleted_count;
    Ok(())
}

fn mentions(flow: &Document, texts: &[String]) -> bool {
    let messages = flow.get_array("messages").into_iter().flatten();
    let bodies =
        messages.filter_map(|message| message.as_document()?.get_binary_generic("body").ok());
    let mut bodies = bodies.filter_map(|body| serde_json::from_slice(body).ok());
    bodies.any(|body| has(&body, texts))
}

fn has(value: &Value, texts: &[String]) -> bool {
    match value {
        Value::String(text) => texts.contains(text),
        Value::Array(items) => items.iter().any(|item| has(item, texts)),
        Value::Object(fields) => fields.values().any(|item| has(item, texts)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_values_of_inputs_and_outputs_count() {
        let texts = ["ada".to_owned(), "u1".to_owned()];
        for (body, expected) in [
            (r#"{"input":{"username":"ada"},"output":{}}"#, true),
            (r#"{"input":{},"output":{"rows":[{"user":"u1"}]}}"#, true),
            (r#"{"input":{"username":"adam"},"output":{"user":"u11"}}"#, false),
            (r#"{"input":{"ada":1},"output":{}}"#, false),
        ] {
            assert_eq!(has(&serde_json::from_str(body).unwrap(), &texts), expected, "{body}");
        }
    }
}
