//! The worker of Note.

use std::process::ExitCode;

use concert_worker::store::{Deleted, Documents, Found, Inserted, Page};
use concert_worker::{Call, NoSettings, Query, Start, StartError, Stop, Worker, concept, refused};
use serde::{Deserialize, Serialize};

fn main() -> ExitCode {
    concert_worker::main(&worker())
}

fn worker() -> Worker {
    concept(include_str!("../../concepts/Note.concept"))
        .open(State::open)
        .action("create", State::create)
        .action("delete", State::delete)
        .query("_byWriter", State::by_writer)
        .build()
}

#[derive(Serialize, Deserialize)]
struct Note {
    writer: String,
    text: String,
}

#[derive(Serialize, Deserialize)]
struct ById {
    #[serde(rename = "note")]
    id: String,
}

#[derive(Deserialize)]
struct ByWriter {
    writer: String,
}

#[derive(Serialize)]
struct Row {
    #[serde(rename = "note")]
    id: String,
    text: String,
}

struct State {
    all: Documents<Note>,
}

impl State {
    async fn open(start: Start<NoSettings>) -> Result<Self, StartError> {
        Ok(Self { all: start.documents("all").lookup("writer").open().await? })
    }

    async fn create(&self, call: Call<Note>) -> Result<ById, Stop> {
        if call.input.text.is_empty() {
            return Err(refused("The text is empty"));
        }
        let id = call.new_id("Note");
        match self.all.insert(call.permit().await?, &id, &call.input).await? {
            Inserted::Done => Ok(ById { id }),
            Inserted::Taken(_) => Err(refused("There is such a Note")),
        }
    }

    async fn delete(&self, call: Call<ById>) -> Result<(), Stop> {
        match self.all.delete(call.permit().await?, &call.input.id).await? {
            Deleted::Done => Ok(()),
            Deleted::NotThere => Err(refused("There is no such Note")),
        }
    }

    async fn by_writer(&self, query: Query<ByWriter>) -> Result<Vec<Row>, Stop> {
        let page = Page::of("writer", &query.input.writer).limit(1000);
        let row = |Found { id, value, .. }: Found<Note>| Row { id, text: value.text };
        Ok(self.all.page(page).await?.into_iter().map(row).collect())
    }
}

#[cfg(test)]
mod tests {
    use concert_worker::trial::{Trial, TrialError};
    use serde_json::json;

    use super::*;

    /// Runs on real servers, which the test starts and stops.
    #[tokio::test]
    async fn is_found_until_it_is_deleted() -> Result<(), TrialError> {
        let trial = Trial::of(worker()).await?;
        let refused = trial.act("create", json!({ "writer": "ada", "text": "" })).await?;
        assert_eq!(refused.output, json!({ "error": "The text is empty" }));
        let created = trial.act("create", json!({ "writer": "ada", "text": "Hello" })).await?;
        // A redelivered action takes effect once.
        assert_eq!(trial.redeliver_uncompleted(&created).await?, created.output);
        let found = trial.ask("_byWriter", json!({ "writer": "ada" })).await?;
        assert_eq!(found, json!([{ "note": created.output["note"], "text": "Hello" }]));
        trial.act("delete", created.output).await?;
        assert_eq!(trial.ask("_byWriter", json!({ "writer": "ada" })).await?, json!([]));
        Ok(())
    }
}
