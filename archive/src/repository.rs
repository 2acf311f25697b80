//! MongoDB reads and writes of the archive: flows, their rules, and dead letters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use concert_engine::provenance::{DeadLetter, Flow, Outcome, Stored, Summary};
use concert_runtime::mongodb::{DUPLICATE_KEY, Index, LiveDatabase, StoreError, index};
use concert_wire::id::FlowId;
use concert_wire::{REQUEST, REQUESTING, RESPOND, RESPOND_WITH};
use futures_util::TryStreamExt as _;
use mongodb::bson::{self, Binary, Bson, DateTime, Document, doc, spec::BinarySubtype};
use mongodb::error::{Error, ErrorKind, WriteFailure};
use mongodb::{Collection, IndexModel};
use serde::Deserialize;

use crate::messages::{self, number};
use crate::redaction::Markers;

/// Error codes for a document that exceeds the size limit.
const TOO_LARGE: [i32; 2] = [17419, 10334];
/// Timeout of a list query. It is shorter than the console's timeout (`console.timeout_ms`), so the
/// console receives the reason.
const LIST_TIMEOUT: Duration = Duration::from_secs(3);
/// Error code for an exceeded time limit.
const MAX_TIME_EXPIRED: i32 = 50;
/// Maximum size of the messages of one flow; a document has at most 16 MiB.
const MAX_FLOW_BYTES: usize = 12 * 1024 * 1024;

/// Messages of a flow that are collected so far.
pub(crate) struct PartialFlow {
    pub(crate) flow: FlowId,
    pub(crate) messages: Vec<Stored>,
}

/// Entry of a flow in lists: its summary, and the fields that filters compare.
pub(crate) struct Row {
    pub(crate) summary: Summary,
    pub(crate) actions: Vec<String>,
    /// The flow, without near misses.
    pub(crate) flow: Flow,
    /// Trace context of the root.
    pub(crate) traceparent: Option<String>,
}

/// Filter of a list of flows.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    pub(crate) path: Option<String>,
    pub(crate) concept: Option<String>,
    /// `Concept.action`, or the action name only.
    pub(crate) action: Option<String>,
    pub(crate) outcome: Option<Outcomes>,
    /// Text that occurs in the summary, ignoring case.
    pub(crate) text: Option<String>,
    pub(crate) since_us: Option<u64>,
    pub(crate) until_us: Option<u64>,
    /// Cursor of a row.
    pub(crate) before: Option<String>,
    pub(crate) limit: Option<usize>,
}

/// One outcome or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Outcomes {
    One(Outcome),
    Any(Vec<Outcome>),
}

/// Collections of the archive.
#[derive(Clone)]
pub(crate) struct Archive {
    database: LiveDatabase,
    keep: Duration,
}

/// Name of an outcome in documents, the same as in JSON.
fn word(outcome: Outcome) -> Bson {
    bson::serialize_to_bson(&outcome).unwrap_or(Bson::Null)
}

impl Archive {
    /// The archive in a database, for changes of existing documents.
    pub(crate) fn of(database: LiveDatabase) -> Self {
        Self { database, keep: Duration::ZERO }
    }

    /// Opens the archive, and creates missing indexes.
    pub(crate) async fn open(database: LiveDatabase, keep: Duration) -> Result<Self, StoreError> {
        let archive = Self { database, keep };
        index(&archive.flows(), "expires", Index::Expiry).await?;
        index(&archive.dead_letters(), "expires", Index::Expiry).await?;
        index(&archive.dead_letters(), "flow", Index::Lookup).await?;
        // Lists are sorted by time, for each filter.
        for field in ["", "path", "concepts", "actions", "outcome"] {
            let mut keys = Document::new();
            if !field.is_empty() {
                keys.insert(field, 1);
            }
            keys.insert("began", -1);
            keys.insert("_id", -1);
            let model = IndexModel::builder().keys(keys).build();
            let made = archive.flows().create_index(model).await;
            made.map_err(|source| StoreError::Index {
                name: format!("flows.{field} began"),
                source,
            })?;
        }
        Ok(archive)
    }

    pub(crate) fn flows(&self) -> Collection<Document> {
        self.database.collection("flows")
    }

    fn versions(&self) -> Collection<Document> {
        self.database.collection("rules")
    }

    fn activations(&self) -> Collection<Document> {
        self.database.collection("in_force")
    }

    pub(crate) fn dead_letters(&self) -> Collection<Document> {
        self.database.collection("dead")
    }

    /// Progress of changes to documents of earlier versions.
    pub(crate) fn progress(&self) -> Collection<Document> {
        self.database.collection("progress")
    }

    fn expires(&self, from_us: u64) -> DateTime {
        let millis = i64::try_from(from_us / 1000).unwrap_or(i64::MAX);
        DateTime::from_millis(millis).saturating_add_duration(self.keep)
    }

    fn document(&self, partial: &PartialFlow, row: &Row) -> Document {
        let mut document = self.row(row);
        document.insert("_id", partial.flow.to_string());
        document.insert("messages", fitting(partial));
        document
    }

    fn row(&self, Row { summary, actions, .. }: &Row) -> Document {
        let concepts = summary.concepts.iter().filter(|name| *name != REQUESTING);
        let concepts: Vec<String> = concepts.cloned().collect();
        let mut document = doc! {
            "began": number(summary.began_us),
            "expires": self.expires(summary.began_us),
            "outcome": word(summary.outcome),
            // Every request has Requesting, so an index of it would be useless.
            "concepts": concepts,
            "actions": actions,
            "searched": summary.searched(),
            // The summary as returned by lists; not searched.
            "row": serde_json::to_string(summary).unwrap_or_default(),
        };
        if let Some(path) = &summary.path {
            document.insert("path", path);
        }
        document
    }

    /// Inserts flows that are probably new. Leaves flows that exist unchanged, and returns their
    /// positions.
    pub(crate) async fn insert(&self, flows: &[(PartialFlow, Row)]) -> Result<Vec<usize>, Error> {
        let documents = flows.iter().map(|(partial, row)| self.document(partial, row));
        let written = self.flows().insert_many(documents.collect::<Vec<_>>()).ordered(false).await;
        let Err(error) = written else {
            return Ok(Vec::new());
        };
        match &*error.kind {
            ErrorKind::InsertMany(failed) if failed.write_concern_error.is_none() => {
                let errors = failed.write_errors.as_deref().unwrap_or_default();
                if errors.iter().all(|error| error.code == DUPLICATE_KEY) {
                    return Ok(errors.iter().map(|error| error.index).collect());
                }
                Err(error)
            }
            _ => Err(error),
        }
    }

    /// Adds the messages that a stored flow lacks. Creates the flow if it is missing.
    pub(crate) async fn add(&self, partial: &PartialFlow) -> Result<(), Error> {
        let messages = fitting(partial);
        let first_us = partial.messages.iter().map(|message| message.time_us).min();
        let existing = doc! { "$ifNull": ["$messages", []] };
        let is_new =
            doc! { "$not": [{ "$in": ["$$new.seq", { "$ifNull": ["$messages.seq", []] }] }] };
        let new = doc! { "$filter": {
            "input": { "$literal": messages },
            "as": "new",
            "cond": is_new,
        } };
        let expires = self.expires(first_us.unwrap_or_default());
        let change = vec![doc! { "$set": {
            "messages": { "$concatArrays": [existing, new] },
            "expires": { "$ifNull": ["$expires", expires] },
        } }];
        let id = doc! { "_id": partial.flow.to_string() };
        match self.flows().update_one(id, change).upsert(true).await {
            Err(error) if is_too_large(&error) => {
                tracing::warn!(
                    flow = %partial.flow,
                    "a flow exceeds the size of one document; its later messages are not archived"
                );
                Ok(())
            }
            changed => changed.map(drop),
        }
    }

    /// Reads the stored messages of a flow.
    pub(crate) async fn flow(&self, flow: FlowId) -> Result<Vec<Stored>, Error> {
        let found = self.flows().find_one(doc! { "_id": flow.to_string() }).await?;
        let messages = found.as_ref().and_then(|found| found.get_array("messages").ok());
        let messages = messages.into_iter().flatten().filter_map(Bson::as_document);
        Ok(messages.filter_map(messages::of_document).collect())
    }

    /// Replaces the summary row of a flow. If the flow has another number of messages by now,
    /// changes nothing and returns `false`.
    pub(crate) async fn update_summary(
        &self,
        flow: FlowId,
        messages: usize,
        row: &Row,
    ) -> Result<bool, Error> {
        let count = i32::try_from(messages).unwrap_or(i32::MAX);
        let id = doc! { "_id": flow.to_string(), "messages": { "$size": count } };
        let change = doc! { "$set": self.row(row) };
        Ok(self.flows().update_one(id, change).await?.matched_count > 0)
    }

    /// Lists flows, newest first.
    pub(crate) async fn list(&self, filter: &Filter, limit: usize) -> Result<Vec<Summary>, Error> {
        let mut wanted = doc! { "row": { "$exists": true } };
        if let Some(concept) = &filter.concept {
            if concept == REQUESTING {
                wanted.insert("path", doc! { "$exists": true });
            } else {
                wanted.insert("concepts", concept);
            }
        }
        if let Some(action) = &filter.action {
            let of_requests = action.strip_prefix("Requesting.").unwrap_or(action);
            if [REQUEST, RESPOND, RESPOND_WITH].contains(&of_requests) {
                wanted.insert("path", doc! { "$exists": true });
            } else {
                wanted.insert("actions", action);
            }
        }
        if let Some(path) = &filter.path {
            wanted.insert("path", path);
        }
        match &filter.outcome {
            None => {}
            Some(Outcomes::One(outcome)) => drop(wanted.insert("outcome", word(*outcome))),
            Some(Outcomes::Any(outcomes)) => {
                let words: Vec<Bson> = outcomes.iter().map(|outcome| word(*outcome)).collect();
                wanted.insert("outcome", doc! { "$in": words });
            }
        }
        if let Some(text) = &filter.text {
            let pattern = regex_of(&text.to_lowercase());
            wanted.insert("searched", doc! { "$regex": pattern });
        }
        let mut began = Document::new();
        if let Some(since) = filter.since_us {
            began.insert("$gte", number(since));
        }
        if let Some(until) = filter.until_us {
            began.insert("$lte", number(until));
        }
        if !began.is_empty() {
            wanted.insert("began", began);
        }
        if let Some((time, id)) = filter.before.as_deref().and_then(cursor) {
            let earlier = doc! { "began": { "$lt": number(time) } };
            let same_time = doc! { "began": number(time), "_id": { "$lt": id } };
            wanted.insert("$or", vec![earlier, same_time]);
        }
        let found = self
            .flows()
            .find(wanted)
            .projection(doc! { "row": 1 })
            .sort(doc! { "began": -1, "_id": -1 })
            .limit(i64::try_from(limit).unwrap_or(i64::MAX))
            .max_time(LIST_TIMEOUT)
            .await?;
        let rows: Vec<Document> = found.try_collect().await?;
        let rows = rows.iter().filter_map(|row| {
            let mut summary: Summary = serde_json::from_str(row.get_str("row").ok()?).ok()?;
            summary.cursor = format!("{}-{}", summary.began_us, summary.flow);
            Some(summary)
        });
        Ok(rows.collect())
    }

    /// Counts the flows with an outcome that began since a time.
    pub(crate) async fn count(&self, outcome: Outcome, since_us: u64) -> Result<u64, Error> {
        let wanted = doc! { "outcome": word(outcome), "began": { "$gte": number(since_us) } };
        self.flows().count_documents(wanted).await
    }

    /// Reads the activations of rule versions: the log sequence of each, and its version.
    pub(crate) async fn history(&self) -> Result<BTreeMap<u64, Arc<str>>, Error> {
        let found: Vec<Document> = self.activations().find(doc! {}).await?.try_collect().await?;
        let found = found.iter().filter_map(|since| {
            let seq = u64::try_from(since.get_i64("_id").ok()?).ok()?;
            Some((seq, since.get_str("version").ok()?.into()))
        });
        Ok(found.collect())
    }

    /// Stores activations of rule versions.
    pub(crate) async fn keep_history(
        &self,
        history: impl Iterator<Item = (&u64, &Arc<str>)>,
    ) -> Result<(), Error> {
        for (seq, version) in history {
            let change = doc! { "$set": { "version": &**version } };
            let id = doc! { "_id": number(*seq) };
            self.activations().update_one(id, change).upsert(true).await?;
        }
        Ok(())
    }

    /// Reads the specs and rules of a version, as JSON.
    pub(crate) async fn texts(&self, version: &str) -> Result<Option<Vec<u8>>, Error> {
        let found = self.versions().find_one(doc! { "_id": version }).await?;
        Ok(found.and_then(|found| found.get_binary_generic("texts").ok().cloned()))
    }

    /// Stores the specs and rules of a version.
    pub(crate) async fn keep_texts(&self, version: &str, texts: &[u8]) -> Result<(), Error> {
        let texts = Binary { subtype: BinarySubtype::Generic, bytes: texts.to_vec() };
        let change = doc! { "$set": { "texts": texts } };
        let versions = self.versions();
        let changed = versions.update_one(doc! { "_id": version }, change);
        changed.upsert(true).await.map(drop)
    }

    /// Stores a dead letter of a flow under its sequence number in the stream.
    pub(crate) async fn keep_letter(
        &self,
        seq: u64,
        flow: FlowId,
        letter: &DeadLetter,
    ) -> Result<(), Error> {
        let redacted = Markers::default().redacted_text(&letter.reason);
        let mut kept = doc! {
            "flow": flow.to_string(),
            "action": letter.action.to_string(),
            "reason": redacted.as_deref().unwrap_or(&letter.reason),
            "at": number(letter.at_us),
            "expires": self.expires(letter.at_us),
        };
        if let Some(attempts) = letter.attempts {
            kept.insert("attempts", number(attempts));
        }
        let id = doc! { "_id": number(seq) };
        let dead_letters = self.dead_letters();
        let changed = dead_letters.update_one(id, doc! { "$set": kept });
        changed.upsert(true).await.map(drop)
    }

    /// Reads the dead letters of a flow.
    pub(crate) async fn letters(&self, flow: FlowId) -> Result<Vec<DeadLetter>, Error> {
        let found = self.dead_letters().find(doc! { "flow": flow.to_string() }).await?;
        let found: Vec<Document> = found.try_collect().await?;
        let found = found.iter().filter_map(|letter| {
            let number =
                |name| letter.get_i64(name).ok().and_then(|number| u64::try_from(number).ok());
            Some(DeadLetter {
                action: letter.get_str("action").ok()?.parse().ok()?,
                reason: letter.get_str("reason").ok()?.to_owned(),
                attempts: number("attempts"),
                at_us: number("at")?,
            })
        });
        Ok(found.collect())
    }
}

/// The messages of a flow that fit into one document.
fn fitting(partial: &PartialFlow) -> Vec<Document> {
    let mut bytes = 0;
    let fit = partial.messages.iter().take_while(|message| {
        bytes += message.body.len() + message.subject.len();
        bytes <= MAX_FLOW_BYTES
    });
    let fit: Vec<Document> = fit.map(messages::to_document).collect();
    if fit.len() < partial.messages.len() {
        tracing::warn!(
            flow = %partial.flow,
            "a flow exceeds the size of one document; its end is not archived"
        );
    }
    fit
}

fn is_too_large(error: &Error) -> bool {
    let code = match &*error.kind {
        ErrorKind::Write(WriteFailure::WriteError(error)) => error.code,
        ErrorKind::Command(error) => error.code,
        _ => return false,
    };
    TOO_LARGE.contains(&code)
}

/// Regular expression that matches exactly this text.
fn regex_of(text: &str) -> String {
    let escaped = |letter: char| {
        let is_special = letter.is_ascii_punctuation();
        is_special.then_some('\\').into_iter().chain([letter])
    };
    text.chars().flat_map(escaped).collect()
}

/// Returns whether a list query exceeded its time limit.
pub(crate) fn took_too_long(error: &Error) -> bool {
    matches!(&*error.kind, ErrorKind::Command(error) if error.code == MAX_TIME_EXPIRED)
}

impl Filter {
    /// Returns whether a text is a valid cursor.
    pub(crate) fn is_cursor(text: &str) -> bool {
        cursor(text).is_some()
    }
}

/// `<microseconds>-<flow>`
fn cursor(text: &str) -> Option<(u64, String)> {
    let (time, flow) = text.split_once('-')?;
    Some((time.parse().ok()?, flow.parse::<FlowId>().ok()?.to_string()))
}
