use concert_worker::store::doc;
use concert_worker::trial::{Act, Point, Trial, TrialError};
use futures_util::future::join_all;
use mongodb::bson::Document;
use mongodb::{Collection, Database};
use serde_json::{Value, json};

use super::*;

async fn documents(trial: &Trial, library: &Value) -> Result<Value, TrialError> {
    let rows = trial.ask("_getDocumentsInLibrary", json!({ "library": library })).await?;
    Ok(rows[0]["documents"].clone())
}

async fn library(trial: &Trial, user: &str) -> Result<Value, TrialError> {
    Ok(trial.act("createLibrary", json!({ "user": user })).await?.output["library"].clone())
}

async fn add(trial: &Trial, library: &Value, name: &str, text: &str) -> Result<Act, TrialError> {
    let input = json!({ "name": name, "epubContent": text, "library": library });
    trial.act("createDocument", input).await
}

fn error(text: &str) -> Value {
    json!({ "error": text })
}

async fn live_parts(trial: &Trial) -> Result<u64, TrialError> {
    let parts = trial.collection("contents").await?;
    Ok(parts.count_documents(doc! { "deleted_by": { "$exists": false } }).await.unwrap())
}

#[tokio::test]
async fn documents_are_in_their_library_until_they_are_removed() -> Result<(), TrialError> {
    let trial = Trial::of(worker()).await?;
    let (ada, bob) = (library(&trial, "ada").await?, library(&trial, "bob").await?);
    let has_one = error("User ada already has a library.");
    assert_eq!(trial.act("createLibrary", json!({ "user": "ada" })).await?.output, has_one);

    let emma = add(&trial, &ada, "Emma", "first").await?.output["document"].clone();
    let other = add(&trial, &ada, "Other", "second").await?.output["document"].clone();
    let bobs = add(&trial, &bob, "Emma", "first").await?.output["document"].clone();
    let record = |id: &Value, name: &str, text: &str| json!({ "document": { "_id": id, "name": name, "epubContent": text } });
    let both = json!([record(&emma, "Emma", "first"), record(&other, "Other", "second")]);
    assert_eq!(documents(&trial, &ada).await?, both);
    let by_user = trial.ask("_getLibraryByUser", json!({ "user": "ada" })).await?;
    let expected = json!({ "_id": ada, "user": "ada", "documents": [emma, other] });
    assert_eq!(by_user[0]["library"], expected);
    let place = trial.ask("_getPlace", json!({ "document": emma })).await?;
    assert_eq!(place, json!([{ "library": ada, "user": "ada" }]));
    let names = trial.ask("_getDocumentNames", json!({ "library": ada })).await?;
    let name = |id: &Value, name: &str| json!({ "document": { "_id": id, "name": name } });
    assert_eq!(names, json!([{ "documents": [name(&emma, "Emma"), name(&other, "Other")] }]));
    let details = trial.ask("_getDocumentDetails", json!({ "document": bobs })).await?;
    assert_eq!(details, json!([record(&bobs, "Emma", "first")]));

    let name = |user: &str, name: &str, id: &Value| {
        let input = json!({ "user": user, "newName": name, "document": id });
        trial.act("renameDocument", input)
    };
    assert_eq!(name("ada", "Emma", &emma).await?.output, json!({ "document": emma }));
    assert_eq!(name("ada", "Persuasion", &emma).await?.output, json!({ "document": emma }));
    let taken =
        error(&format!("Document with name 'Other' already exists in library {}.", text(&ada)));
    assert_eq!(name("ada", "Other", &emma).await?.output, taken);
    assert_eq!(name("ada", " ", &emma).await?.output, error("The name is empty."));
    let missing = error("Document nothing does not exist.");
    assert_eq!(name("ada", "x", &json!("nothing")).await?.output, missing);
    let no_library = error("User carol does not have a library.");
    assert_eq!(name("carol", "x", &emma).await?.output, no_library);
    let not_in = error(&format!("Document {} is not in user ada's library.", text(&bobs)));
    assert_eq!(name("ada", "x", &bobs).await?.output, not_in);
    for action in ["openDocument", "closeDocument"] {
        let act =
            |user: &str, id: &Value| trial.act(action, json!({ "user": user, "document": id }));
        assert_eq!(act("ada", &emma).await?.output, json!({ "document": emma }));
        assert_eq!(act("ada", &bobs).await?.output, not_in);
        assert_eq!(act("ada", &json!("nothing")).await?.output, missing);
        assert_eq!(act("carol", &emma).await?.output, no_library);
    }

    assert_eq!(add(&trial, &ada, "Other", "x").await?.output, taken);
    assert_eq!(add(&trial, &ada, "", "x").await?.output, error("The name is empty."));
    assert_eq!(add(&trial, &ada, "x", "").await?.output, error("The document is empty."));
    let no_such = error("Library nothing does not exist.");
    assert_eq!(add(&trial, &json!("nothing"), "x", "x").await?.output, no_such);
    assert_eq!(trial.ask("_getDocumentsInLibrary", json!({ "library": "x" })).await?, json!([]));

    let remove =
        |id: &Value| trial.act("removeDocument", json!({ "library": ada, "document": id }));
    let removed = remove(&emma).await?;
    assert_eq!(removed.output, json!({}));
    assert_eq!(trial.redeliver_uncompleted(&removed).await?, json!({}));
    let not_in =
        |id: &Value| error(&format!("Document {} is not in library {}.", text(id), text(&ada)));
    assert_eq!(remove(&emma).await?.output, not_in(&emma));
    assert_eq!(remove(&bobs).await?.output, not_in(&bobs));
    assert_eq!(trial.ask("_getDocumentDetails", json!({ "document": emma })).await?, json!([]));
    assert_eq!(live_parts(&trial).await?, 2);

    let deleted = trial.act("deleteAll", json!({ "user": "ada" })).await?;
    assert_eq!(trial.redeliver_uncompleted(&deleted).await?, json!({}));
    assert_eq!(trial.ask("_getOwner", json!({ "library": ada })).await?, json!([]));
    assert_eq!(
        trial.ask("_getOwner", json!({ "library": bob })).await?,
        json!([{ "user": "bob" }])
    );
    assert_eq!(live_parts(&trial).await?, 1);
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[tokio::test]
async fn one_of_twelve_wins_and_a_redelivery_changes_nothing() -> Result<(), TrialError> {
    let mut trial = Trial::of(worker()).await?;
    let both = async {
        let libraries =
            join_all((0..12).map(|_| trial.act("createLibrary", json!({ "user": "ada" }))));
        let libraries: Result<Vec<Act>, _> = libraries.await.into_iter().collect();
        let libraries = libraries?;
        let won = libraries.into_iter().find(|act| act.output.get("library").is_some()).unwrap();
        let id = won.output["library"].clone();
        let documents = join_all((0..12).map(|_| add(&trial, &id, "Emma", "text"))).await;
        let documents: Result<Vec<Act>, TrialError> = documents.into_iter().collect();
        Ok::<_, TrialError>((won, documents?))
    };
    let (won, documents) = both.await?;
    let library = won.output["library"].clone();
    let made: Vec<&Act> =
        documents.iter().filter(|act| act.output.get("document").is_some()).collect();
    assert_eq!(made.len(), 1, "{documents:?}");
    let libraries = trial.collection("libraries").await?;
    assert_eq!(libraries.count_documents(doc! {}).await.unwrap(), 1);
    assert_eq!(live_parts(&trial).await?, 1);
    assert_eq!(trial.redeliver_uncompleted(&won).await?, won.output);
    assert_eq!(trial.redeliver_uncompleted(made[0]).await?, made[0].output);

    let input = json!({ "name": "Crash", "epubContent": "text", "library": library });
    let invoked = trial.crash_at(Point::Written, "createDocument", input).await?;
    trial.restart().await?;
    let act = trial.finished(invoked).await?;
    assert_eq!(self::documents(&trial, &library).await?.as_array().unwrap().len(), 2);
    assert_eq!(live_parts(&trial).await?, 2);
    let rename = json!({ "user": "ada", "newName": "Renamed", "document": act.output["document"] });
    let renamed = trial.act("renameDocument", rename).await?;
    assert_eq!(trial.redeliver_uncompleted(&renamed).await?, renamed.output);
    Ok(())
}

#[tokio::test]
async fn content_of_several_parts_is_joined() -> Result<(), TrialError> {
    let bench = concert_worker::trial::Bench::of("Library").await?;
    let state = Libraries::open(bench.start(NoSettings {})).await?;
    let user = OfUser { user: "ada".to_owned() };
    let library = state.create_library(Call::direct(None, user)).await.unwrap().library;
    // The cut would be inside of a character.
    let content = format!("x{}", "é".repeat(1280 * 1024));
    let new = NewDocument {
        name: "Large".to_owned(),
        epub_content: content.clone(),
        library: library.clone(),
    };
    let made = state.create_document(Call::direct(None, new)).await.unwrap();
    let found = state.visible(&made.document).await.unwrap().unwrap();
    assert_eq!(found.value.parts, Some(3));
    let query = Query::direct(());
    let row = state.row(&query, found).await.unwrap().unwrap();
    assert!(json!(row)["document"]["epubContent"] == json!(content));

    let user = OfUser { user: "ada".to_owned() };
    state.delete_all(Call::direct(None, user)).await.unwrap();
    assert!(state.visible(&made.document).await.unwrap().is_none());
    let left = state.contents.read(&made.document, Some(0)).await.unwrap();
    assert_eq!(left.as_deref(), Some(""));
    Ok(())
}

/// Size of a collection's file and of the free space in it, in bytes.
async fn size(contents: &Collection<Document>, database: &Database) -> (i64, i64) {
    // A checkpoint frees the space of removed contents.
    database.client().database("admin").run_command(doc! { "fsync": 1 }).await.unwrap();
    let stats = doc! { "$collStats": { "storageStats": {} } };
    let mut stats = contents.aggregate([stats]).await.unwrap();
    assert!(stats.advance().await.unwrap());
    let stats = stats.deserialize_current().unwrap();
    let number = |key: &str| {
        let stats = stats.get_document("storageStats").unwrap();
        stats.get_i64(key).or_else(|_| stats.get_i32(key).map(i64::from)).unwrap()
    };
    (number("storageSize"), number("freeStorageSize"))
}

#[tokio::test]
async fn disk_space_of_a_removed_book_is_reused() -> Result<(), TrialError> {
    let bench = concert_worker::trial::Bench::of("Library").await?;
    let state = Libraries::open(bench.start(NoSettings {})).await?;
    let contents = bench.collection("contents").await?;
    let database = contents.client().database(&contents.namespace().db);
    let user = OfUser { user: "ada".to_owned() };
    let library = state.create_library(Call::direct(None, user)).await.unwrap().library;
    // Letters that the database cannot compress much, as those of a book.
    let mut state_of_random = 1_u64;
    let mut letter = || {
        state_of_random = state_of_random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'0' + u8::try_from(state_of_random >> 58).unwrap())
    };
    let epub_content: String = (0..23 * 1024 * 1024).map(|_| letter()).collect();
    let mut sizes = Vec::new();
    for _ in 0..5 {
        let new = NewDocument {
            name: "Large".to_owned(),
            epub_content: epub_content.clone(),
            library: library.clone(),
        };
        let made = state.create_document(Call::direct(None, new)).await.unwrap();
        let found = state.visible(&made.document).await.unwrap().unwrap();
        let row = state.row(&Query::direct(()), found).await.unwrap().unwrap();
        assert!(json!(row)["document"]["epubContent"] == json!(epub_content));
        let stored = size(&contents, &database).await;
        let remove = LibraryDocument { library: library.clone(), document: made.document };
        state.remove_document(Call::direct(None, remove)).await.unwrap();
        sizes.push((stored, size(&contents, &database).await));
    }
    // Without reuse, the file would grow by one book in each round.
    let ((first, _), (last, _)) = (sizes[0].0, sizes[4].0);
    assert!(last < 3 * first, "{sizes:?}");
    let (_, (file, free)) = sizes[4];
    assert!(free > file / 2, "{sizes:?}");
    println!("{sizes:?}");
    Ok(())
}
