use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;
use crate::Stop;

const SPEC: &str = "concept Library [User]
purpose keep books
actions
    add (title: String) : ()
    remove (title: String) : ()
queries
    _count () : (count: Number)
    _titles () : (title: String)*
";

#[derive(Deserialize)]
struct Title {
    #[expect(dead_code, reason = "only its type matters")]
    title: String,
}

#[derive(Deserialize)]
struct Nothing {}

#[derive(Serialize)]
struct Count {
    count: u32,
}

struct Library;

impl Library {
    async fn open(_: Start<NoSettings>) -> Result<Self, StartError> {
        Ok(Self)
    }

    async fn act(&self, _: Call<Title>) -> Result<(), Stop> {
        Ok(())
    }

    async fn count(&self, _: Query<Nothing>) -> Result<One<Count>, Stop> {
        Ok(One(Count { count: 0 }))
    }

    async fn titles(&self, _: Query<Nothing>) -> Result<Vec<Count>, Stop> {
        Ok(Vec::new())
    }
}

fn library(spec: &str) -> Handlers<NoSettings, Library> {
    concept(spec).open(Library::open)
}

#[test]
fn spec_and_handlers_match() {
    let worker = library(SPEC)
        .action("add", Library::act)
        .action("remove", Library::act)
        .query("_count", Library::count)
        .query("_titles", Library::titles)
        .build();
    assert_eq!(worker.check(), Ok(()));
    assert_eq!((worker.concept(), worker.spec()), ("Library", SPEC));
    assert_eq!(worker.check_settings(&json!({})), Ok(()));
    let unknown = worker.check_settings(&json!({ "shelves": 1 })).unwrap_err();
    assert!(unknown.contains("shelves"), "{unknown}");
}

#[test]
fn mismatch_reports_every_difference() {
    let worker = library(SPEC)
        .action("add", Library::act)
        .action("ad", Library::act)
        .action("add", Library::act)
        .query("_count", Library::titles)
        .query("_names", Library::titles)
        .build();
    assert_eq!(
        worker.check().unwrap_err().to_string(),
        "the spec Library.concept and the handlers of Library differ:
  action `remove` has no handler; register one with .action(\"remove\", …)
  query `_count` returns exactly one row in the spec, but its handler returns Vec<…>
  query `_titles` has no handler; register one with .query(\"_titles\", …)
  handler `ad` has no action in the spec
  handler `_names` has no query in the spec
  `add` has two handlers"
    );
}

#[test]
fn invalid_spec_is_reported_with_its_position() {
    let worker = library("concept Library [User]\nactions\n    add (title String) : ()\n").build();
    assert_eq!(worker.concept(), "Library");
    let why = worker.check().unwrap_err().to_string();
    assert!(why.contains("Library.concept:3"), "{why}");
    assert_eq!(library("").build().concept(), "(unnamed)");
}

#[test]
fn absent_key_and_null_are_read_apart() {
    #[derive(Deserialize)]
    struct Update {
        #[serde(default, deserialize_with = "given")]
        bio: Option<Option<String>>,
    }
    let read = |input| serde_json::from_value::<Update>(input).unwrap().bio;
    assert_eq!(read(json!({})), None);
    assert_eq!(read(json!({ "bio": null })), Some(None));
    assert_eq!(read(json!({ "bio": "x" })), Some(Some("x".to_owned())));
}
