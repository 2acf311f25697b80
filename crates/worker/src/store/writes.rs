//! Inserts or updates documents, many with one command.
//!
//! The driver can send many updates with one command only to servers from version 8.0 on. The
//! command itself is older, so it is written here.

use concert_runtime::mongodb::{DUPLICATE_KEY, LiveDatabase};
use mongodb::bson::raw::{CStr, RawArrayBuf, cstr};
use mongodb::bson::{RawDocumentBuf, deserialize_from_document, doc};
use mongodb::error::Error;
use serde::Deserialize;

use super::operation::because;
use super::shared::{Operation, Shared};
use crate::boxed::Boxed;

/// Writes to a collection. Each write is atomic and durable by itself; one that fails affects no
/// other.
pub(super) type Writes = Shared<Write>;

/// A write of many documents.
pub(super) struct Write {
    database: LiveDatabase,
    collection: String,
    command: &'static str,
    /// The name of the command's list of writes.
    list: &'static CStr,
}

/// The result of one write.
pub(super) enum Written {
    /// The document was inserted or changed.
    Done,
    /// Not known: at least one update of the command matched no document. Read the document.
    Unknown,
    /// Another document has the value of a unique field. The message names the field's index.
    Duplicate(String),
    /// The server rejected the write.
    Failed(String),
}

impl Write {
    /// Inserts documents into this collection.
    pub(super) fn inserts(database: LiveDatabase, collection: &str) -> Self {
        Self::new(database, collection, "insert", cstr!("documents"))
    }

    /// Updates documents of this collection.
    pub(super) fn updates(database: LiveDatabase, collection: &str) -> Self {
        Self::new(database, collection, "update", cstr!("updates"))
    }

    fn new(
        database: LiveDatabase,
        collection: &str,
        command: &'static str,
        list: &'static CStr,
    ) -> Self {
        Self { database, collection: collection.to_owned(), command, list }
    }

    async fn replied(&self, writes: &[RawDocumentBuf]) -> Result<Reply, Error> {
        let command = doc! {
            self.command: &self.collection,
            "ordered": false,
            // A command does not take it from the connection.
            "writeConcern": { "w": "majority", "j": true },
        };
        let mut command = RawDocumentBuf::try_from(&command)?;
        command.append(self.list, writes.iter().collect::<RawArrayBuf>());
        let reply = self.database.now().run_raw_command(command).await?;
        Ok(deserialize_from_document(reply)?)
    }
}

impl Operation for Write {
    type Item = RawDocumentBuf;
    type Answer = Written;

    fn bytes(write: &RawDocumentBuf) -> usize {
        write.as_bytes().len()
    }

    fn run<'a>(&'a self, writes: &'a [RawDocumentBuf]) -> Boxed<'a, Result<Vec<Written>, String>> {
        Box::pin(async move {
            self.replied(writes).await.map_err(because)?.written(writes.len()).map_err(because)
        })
    }
}

/// The server's reply.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reply {
    /// The number of documents that were inserted, or that updates matched.
    n: usize,
    #[serde(default)]
    write_errors: Vec<WriteError>,
    write_concern_error: Option<WriteConcernError>,
}

#[derive(Debug, Deserialize)]
struct WriteError {
    index: usize,
    code: i32,
    errmsg: String,
}

#[derive(Debug, Deserialize)]
struct WriteConcernError {
    errmsg: String,
}

impl Reply {
    /// The result of each of the writes. An error means that none of them is known to be durable.
    fn written(self, writes: usize) -> Result<Vec<Written>, String> {
        if let Some(error) = self.write_concern_error {
            return Err(error.errmsg);
        }
        let all_matched = self.n + self.write_errors.len() == writes;
        let result = || if all_matched { Written::Done } else { Written::Unknown };
        let mut written: Vec<Written> = (0..writes).map(|_| result()).collect();
        for WriteError { index, code, errmsg } in self.write_errors {
            if let Some(result) = written.get_mut(index) {
                *result = match code {
                    DUPLICATE_KEY => Written::Duplicate(errmsg),
                    _ => Written::Failed(errmsg),
                };
            }
        }
        Ok(written)
    }
}
