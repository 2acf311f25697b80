use std::fs::write;

use concert_worker::store::{Document, ImportCounts, ImportOptions, OldData, doc};
use concert_worker::trial::{Trial, TrialError};
use futures_util::TryStreamExt as _;
use mongodb::Collection;
use serde_json::json;

use super::*;
use crate::worker;

async fn import(trial: &Trial, from: &str, is_dry_run: bool) -> Result<ImportReport, TrialError> {
    let options = ImportOptions { is_dry_run, ..ImportOptions::default() };
    trial.import(Import::new(OldData::open(from).await.unwrap(), options)).await
}

fn counts(report: &ImportReport) -> [ImportCounts; 2] {
    ["libraries", "documents"].map(|collection| report.counts[collection])
}

/// The stored content of a document.
async fn text_of(contents: &Collection<Document>, document: &str) -> String {
    let parts = contents.find(doc! { "document": document }).sort(doc! { "_id": 1 });
    let parts: Vec<Document> = parts.await.unwrap().try_collect().await.unwrap();
    parts.iter().map(|part| part.get_str("text").unwrap()).collect()
}

#[tokio::test]
async fn interrupted_import_is_completed_and_its_documents_are_stamped() -> Result<(), TrialError> {
    let trial = Trial::of(worker()).await?;
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(format!("{name}.json"));
    // The cut between two parts would be inside of a character.
    let content = format!("x{}", "é".repeat(1280 * 1024));
    let large = json!({ "_id": "d-1", "name": "Large", "epubContent": content });
    let small = json!({ "_id": "d-2", "name": "Small", "epubContent": "text" });
    write(file("Profile.users"), "{ \"_id\": \"ada\" }\n{ \"_id\": \"bob\" }\n").unwrap();
    write(file(DOCUMENTS), format!("{large}\n{small}\n")).unwrap();
    let library = json!([{ "_id": "l-1", "user": "ada", "documents": ["d-1", "d-2"] }]);
    write(file("Library.libraries"), library.to_string()).unwrap();
    let from = dir.path().display().to_string();

    let new = [1, 2].map(|new| ImportCounts { new, ..ImportCounts::default() });
    let before = [1, 2].map(|before| ImportCounts { before, ..ImportCounts::default() });
    let books = trial.collection("documents").await?;
    let contents = trial.collection("contents").await?;
    assert_eq!(counts(&import(&trial, &from, true).await?), new);
    assert_eq!(books.count_documents(doc! {}).await.unwrap(), 0);
    assert_eq!(counts(&import(&trial, &from, false).await?), new);
    assert!(text_of(&contents, "d-1").await == content);

    // As if the import had crashed between the parts.
    let hide = doc! { "$unset": { "parts": "", "changes": "" } };
    books.update_one(doc! { "_id": "d-1" }, hide).await.unwrap();
    contents.delete_one(doc! { "_id": "d-1/000001" }).await.unwrap();
    assert_eq!(counts(&import(&trial, &from, false).await?), before);
    assert!(text_of(&contents, "d-1").await == content);

    let rename = json!({ "user": "ada", "newName": "Renamed", "document": "d-1" });
    let renamed = trial.act("renameDocument", rename).await?;
    assert_eq!(renamed.output, json!({ "document": "d-1" }));
    let remove = json!({ "library": "l-1", "document": "d-2" });
    let removed = trial.act("removeDocument", remove.clone()).await?;
    assert_eq!(removed.output, json!({}));
    for act in [&renamed, &removed] {
        assert_eq!(trial.redeliver_uncompleted(act).await?, act.output);
    }
    assert!(trial.act("removeDocument", remove).await?.output.get("error").is_some());
    assert_eq!(counts(&import(&trial, &from, false).await?), before);
    let names = trial.ask("_getDocumentNames", json!({ "library": "l-1" })).await?;
    let renamed = json!({ "document": { "_id": "d-1", "name": "Renamed" } });
    assert_eq!(names, json!([{ "documents": [renamed] }]));
    let live = doc! { "deleted_by": { "$exists": false } };
    assert_eq!(contents.count_documents(live).await.unwrap(), 3);
    Ok(())
}
