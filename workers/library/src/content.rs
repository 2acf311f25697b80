//! Contents of documents, in parts: MongoDB stores at most 16 MB in one document.

use std::time::Instant;

use concert_worker::store::{Change, Documents, Inserted, Page};
use concert_worker::{Call, NoSettings, Start, StartError, Stop, pause_after, retry};
use serde::{Deserialize, Serialize};

/// Maximum size of a part, in bytes. MongoDB writes it to its journal at once, and all other writes
/// wait for that.
const PART_BYTES: usize = 1024 * 1024;

#[derive(Serialize, Deserialize)]
struct Part {
    document: String,
    user: String,
    text: String,
}

/// The contents of all documents. A removed part keeps only its stamps.
pub(crate) struct Contents {
    parts: Documents<Part>,
}

impl Contents {
    pub(crate) async fn open(start: &Start<NoSettings>) -> Result<Self, StartError> {
        let parts = start.documents("contents").lookup("document").lookup("user");
        Ok(Self { parts: parts.open().await? })
    }

    /// Stores the content of a document; returns the number of its parts.
    pub(crate) async fn store(
        &self,
        call: &Call<()>,
        document: &str,
        user: &str,
        content: String,
    ) -> Result<i64, Stop> {
        let mut count = 0;
        let mut rest = content.as_str();
        while !rest.is_empty() {
            let (text, left) = rest.split_at(rest.floor_char_boundary(PART_BYTES));
            let part = Part {
                document: document.to_owned(),
                user: user.to_owned(),
                text: text.to_owned(),
            };
            let began = Instant::now();
            // The ids sort like the parts.
            let id = format!("{document}/{count:06}");
            match self.parts.insert(call.permit().await?, &id, &part).await? {
                Inserted::Done => {}
                Inserted::Taken(_) => return Err(retry("another action stored this content")),
            }
            rest = left;
            count += 1;
            // Other writes wait for the journal.
            if !rest.is_empty() {
                pause_after(began).await;
            }
        }
        Ok(count)
    }

    /// `None` if parts are missing, because the document was removed in the meantime.
    pub(crate) async fn read(
        &self,
        document: &str,
        count: Option<i64>,
    ) -> Result<Option<String>, Stop> {
        let parts = self.parts.page(Page::of("document", document)).await?;
        if i64::try_from(parts.len()).ok() != count {
            return Ok(None);
        }
        let mut content = String::with_capacity(parts.iter().map(|of| of.value.text.len()).sum());
        parts.into_iter().for_each(|part| content.push_str(&part.value.text));
        Ok(Some(content))
    }

    /// Removes the content of a document.
    pub(crate) async fn remove(&self, call: &Call<()>, document: &str) -> Result<(), Stop> {
        let parts = Page::of("document", document);
        self.parts.for_each(call, &parts, &Change::deletion()).await.map(drop)
    }

    /// Removes the contents of a user's documents.
    pub(crate) async fn remove_all(&self, call: &Call<()>, user: &str) -> Result<(), Stop> {
        let parts = Page::of("user", user);
        self.parts.for_each(call, &parts, &Change::deletion()).await.map(drop)
    }
}
