//! `conformance-worker`: the Rust worker that `concert conform` checks.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use concert_lang::spec::Rows;
use concert_worker::store::{Change, Changed, Deleted, Documents, Found, Inserted, Page};
use concert_worker::{
    Call, IntoRows, NoSettings, Query, Secret, Start, StartError, Stop, Worker, concept, refused,
    retry, reveal,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Serialize, Deserialize)]
struct Entry {
    name: String,
    entry: String,
}

#[derive(Serialize)]
struct EntryRow {
    entry: String,
}

#[derive(Serialize, Deserialize)]
struct Claim {
    name: String,
    owner: String,
}

#[derive(Serialize, Deserialize)]
struct Owner {
    owner: String,
}

#[derive(Deserialize)]
struct Put {
    name: String,
    value: String,
}

#[derive(Serialize, Deserialize)]
struct Text {
    value: String,
}

#[derive(Serialize, Deserialize)]
struct Name {
    name: String,
}

#[derive(Deserialize)]
struct Wait {
    milliseconds: u64,
    #[serde(flatten)]
    entry: Entry,
}

#[derive(Deserialize)]
struct Fail {
    name: String,
    times: u32,
}

#[derive(Serialize, Deserialize)]
struct Word {
    #[serde(serialize_with = "reveal")]
    word: Secret,
}

#[derive(Serialize)]
struct Measured {
    #[serde(flatten)]
    word: Word,
    length: usize,
}

#[derive(Deserialize)]
struct Misbehave {
    kind: String,
}

#[derive(Deserialize)]
struct Count {
    count: u32,
}

#[derive(Serialize)]
struct Row {
    row: u32,
}

/// Rows of a query that should have at most one.
struct TooMany(u32);

impl IntoRows for TooMany {
    const ROWS: Rows = Rows::AtMostOne;
    type Row = Row;

    fn into_rows(self) -> impl Iterator<Item = Row> {
        (0..self.0).map(|row| Row { row })
    }
}

struct Conformance {
    entries: Documents<Entry>,
    owners: Documents<Owner>,
    values: Documents<Text>,
    /// Failed attempts of this process, by name.
    failures: Mutex<HashMap<String, u32>>,
}

impl Conformance {
    async fn open(start: Start<NoSettings>) -> Result<Self, StartError> {
        Ok(Self {
            entries: start.documents("entries").lookup("name").open().await?,
            owners: start.documents("owners").open().await?,
            values: start.documents("values").open().await?,
            failures: Mutex::default(),
        })
    }

    async fn add(&self, call: Call<Entry>) -> Result<EntryRow, Stop> {
        if call.input.entry.is_empty() {
            return Err(refused("An entry is not empty"));
        }
        self.store(&call, &call.input).await?;
        Ok(EntryRow { entry: call.input.entry })
    }

    /// Stores one more entry.
    async fn store<I>(&self, call: &Call<I>, entry: &Entry) -> Result<(), Stop> {
        let id = call.new_id("entry");
        match self.entries.insert(call.permit().await?, &id, entry).await? {
            Inserted::Done => Ok(()),
            Inserted::Taken(_) => Err(retry("the ID is in use")),
        }
    }

    async fn claim(&self, call: Call<Claim>) -> Result<Owner, Stop> {
        let owner = Owner { owner: call.input.owner.clone() };
        match self.owners.insert(call.permit().await?, &call.input.name, &owner).await? {
            Inserted::Done => Ok(owner),
            Inserted::Taken(_) => Err(refused("The name has an owner")),
        }
    }

    async fn release(&self, call: Call<Name>) -> Result<(), Stop> {
        match self.owners.delete(call.permit().await?, &call.input.name).await? {
            Deleted::Done | Deleted::NotThere => Ok(()),
        }
    }

    async fn put(&self, call: Call<Put>) -> Result<Text, Stop> {
        let value = Text { value: call.input.value.clone() };
        // First the insert: it recognizes a document that this action has created.
        match self.values.insert(call.permit().await?, &call.input.name, &value).await? {
            Inserted::Done => return Ok(value),
            Inserted::Taken(_) => {}
        }
        let change = Change::set("value", value.value.as_str());
        match self.values.update(call.permit().await?, &call.input.name, change).await? {
            Changed::Done => Ok(value),
            Changed::NotThere | Changed::Taken(_) => Err(retry("the value cannot be stored")),
        }
    }

    async fn wait(&self, call: Call<Wait>) -> Result<EntryRow, Stop> {
        tokio::time::sleep(Duration::from_millis(call.input.milliseconds)).await;
        self.store(&call, &call.input.entry).await?;
        Ok(EntryRow { entry: call.input.entry.entry })
    }

    async fn fail(&self, call: Call<Fail>) -> Result<Name, Stop> {
        let Fail { name, times } = &call.input;
        let attempt = {
            let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            let attempt = failures.entry(name.clone()).or_default();
            *attempt += 1;
            *attempt
        };
        if attempt <= *times {
            return Err(retry("failing on demand"));
        }
        let entry = Entry { name: name.clone(), entry: "done".to_owned() };
        self.store(&call, &entry).await?;
        Ok(Name { name: name.clone() })
    }

    async fn crash(&self, _: Call<Name>) -> Result<(), Stop> {
        std::process::abort()
    }

    async fn echo(&self, call: Call<Text>) -> Result<Text, Stop> {
        Ok(call.input)
    }

    async fn measure(&self, call: Call<Word>) -> Result<Measured, Stop> {
        let length = call.input.word.expose().chars().count();
        Ok(Measured { word: call.input, length })
    }

    async fn misbehave(&self, call: Call<Misbehave>) -> Result<Value, Stop> {
        match call.input.kind.as_str() {
            "type" => Ok(json!({ "entry": 5 })),
            _ => Err(refused("not in the spec")),
        }
    }

    async fn entries(&self, query: Query<Name>) -> Result<Vec<EntryRow>, Stop> {
        let page = Page::of("name", &query.input.name).limit(100);
        let found = self.entries.page(page).await?;
        Ok(found.into_iter().map(|Found { value, .. }| EntryRow { entry: value.entry }).collect())
    }

    async fn owner(&self, query: Query<Name>) -> Result<Option<Owner>, Stop> {
        Ok(self.owners.get(&query.input.name).await?.map(|found| found.value))
    }

    async fn value(&self, query: Query<Name>) -> Result<Option<Text>, Stop> {
        Ok(self.values.get(&query.input.name).await?.map(|found| found.value))
    }

    async fn rows(&self, query: Query<Count>) -> Result<TooMany, Stop> {
        Ok(TooMany(query.input.count))
    }
}

fn worker() -> Worker {
    concept(include_str!("../../../concert/src/conform/Conformance.concept"))
        .open(Conformance::open)
        .action("add", Conformance::add)
        .action("claim", Conformance::claim)
        .action("release", Conformance::release)
        .action("put", Conformance::put)
        .action("wait", Conformance::wait)
        .action("fail", Conformance::fail)
        .action("crash", Conformance::crash)
        .action("echo", Conformance::echo)
        .action("measure", Conformance::measure)
        .action("misbehave", Conformance::misbehave)
        .query("_entries", Conformance::entries)
        .query("_owner", Conformance::owner)
        .query("_value", Conformance::value)
        .query("_rows", Conformance::rows)
        .build()
}

fn main() -> ExitCode {
    concert_worker::main(&worker())
}
