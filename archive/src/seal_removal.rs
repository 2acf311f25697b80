//! Removes the encrypted secrets (seals) that earlier versions archived.

use std::time::Duration;

use concert_runtime::process::Shutdown;
use concert_runtime::retry::Backoff;
use futures_util::TryStreamExt as _;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};
use mongodb::error::Error;

use crate::redaction::Markers;
use crate::repository::Archive;

/// Flows between two records of the progress.
const BATCH: usize = 100;
/// Maximum number of attempts to replace a flow that changes in the meantime.
const ATTEMPTS: usize = 5;
/// Id of the document that records the progress.
const PROGRESS: &str = "seals";

/// Removes all seals in batches, and retries until it is done or shutdown begins.
pub(crate) async fn run(archive: Archive, shutdown: Shutdown) {
    let backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(60) };
    let mut failures = 0;
    let finish = async {
        while let Err(error) = remove(&archive).await {
            failures += 1;
            tracing::warn!(%error, "cannot remove archived secrets yet; retrying");
            tokio::time::sleep(backoff.delay(failures)).await;
        }
    };
    tokio::select! {
        () = finish => {}
        () = shutdown.requested() => {}
    }
}

/// Continues after the recorded progress. New flows have no seals, so their ids do not matter.
async fn remove(archive: &Archive) -> Result<(), Error> {
    let id = doc! { "_id": PROGRESS };
    let progress = archive.progress().find_one(id.clone()).await?.unwrap_or_default();
    if progress.get_bool("done").unwrap_or(false) {
        return Ok(());
    }
    let record = async |set: Document| {
        let change = doc! { "$set": set };
        archive.progress().update_one(id.clone(), change).upsert(true).await.map(drop)
    };
    let left = match progress.get("after") {
        Some(after) => doc! { "_id": { "$gt": after } },
        None => doc! {},
    };
    let (mut seen, mut changed) = (0_usize, 0_usize);
    let mut flows = archive.flows().find(left).sort(doc! { "_id": 1 }).await?;
    while let Some(flow) = flows.try_next().await? {
        let after = flow.get("_id").cloned();
        changed += usize::from(replace(archive, flow).await?);
        seen += 1;
        if seen.is_multiple_of(BATCH) {
            record(doc! { "after": after }).await?;
        }
    }
    let letters = archive.dead_letters().find(doc! { "reason": { "$regex": "sealed:" } }).await?;
    for letter in letters.try_collect::<Vec<Document>>().await? {
        let reason = letter.get_str("reason").ok();
        if let (Some(id), Some(reason)) =
            (letter.get("_id"), reason.and_then(|text| Markers::default().redacted_text(text)))
        {
            let change = doc! { "$set": { "reason": reason } };
            archive.dead_letters().update_one(doc! { "_id": id }, change).await?;
        }
    }
    record(doc! { "done": true }).await?;
    if changed > 0 {
        tracing::info!(flows = changed, "removed the encrypted secrets of archived flows");
    }
    Ok(())
}

/// Replaces the seals of one flow. Returns whether it had any.
async fn replace(archive: &Archive, mut flow: Document) -> Result<bool, Error> {
    let Some(id) = flow.get("_id").cloned() else { return Ok(false) };
    for _ in 0..ATTEMPTS {
        let Some(set) = redacted(&flow) else { return Ok(false) };
        let count = flow.get_array("messages").map_or(0, Vec::len);
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        let unchanged = doc! { "_id": &id, "messages": { "$size": count } };
        let replaced = archive.flows().update_one(unchanged, doc! { "$set": set }).await?;
        if replaced.matched_count > 0 {
            return Ok(true);
        }
        match archive.flows().find_one(doc! { "_id": &id }).await? {
            Some(newer) => flow = newer,
            None => return Ok(false),
        }
    }
    Err(Error::custom("a flow keeps changing"))
}

/// The fields of a flow with markers instead of seals; `None` if it has no seal.
fn redacted(flow: &Document) -> Option<Document> {
    let mut markers = Markers::default();
    let mut is_changed = false;
    let mut messages: Vec<Bson> = flow.get_array("messages").cloned().unwrap_or_default();
    messages.sort_by_key(|message| message.as_document().and_then(|of| of.get_i64("seq").ok()));
    for message in messages.iter_mut().filter_map(Bson::as_document_mut) {
        let body = message.get_binary_generic("body").ok();
        if let Some(bytes) = body.and_then(|body| markers.redacted(body)) {
            message.insert("body", Binary { subtype: BinarySubtype::Generic, bytes });
            is_changed = true;
        }
    }
    let mut set = Document::new();
    for field in ["row", "searched"] {
        let text = flow.get_str(field).ok();
        if let Some(text) = text.and_then(|text| markers.redacted_text(text)) {
            set.insert(field, text);
        }
    }
    if is_changed {
        set.insert("messages", messages);
    }
    (!set.is_empty()).then_some(set)
}
