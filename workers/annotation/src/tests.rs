use concert_worker::trial::{Act, Trial, TrialError};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::*;

async fn register(trial: &Trial, document: &str, creator: &str) -> Result<Act, TrialError> {
    let input = json!({ "documentId": document, "creatorId": creator });
    trial.act("registerDocument", input).await
}

async fn annotate(trial: &Trial, document: &str, more: Value) -> Result<Act, TrialError> {
    let mut input = json!({ "creator": "ada", "document": document, "location": "/6/4:0" });
    input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    trial.act("createAnnotation", input).await
}

async fn search(
    trial: &Trial,
    user: &str,
    document: &str,
    words: &str,
) -> Result<Value, TrialError> {
    let input = json!({ "user": user, "document": document, "criteria": words });
    Ok(trial.act("search", input).await?.output)
}

async fn found(trial: &Trial, words: &str) -> Result<Value, TrialError> {
    let output = search(trial, "ada", "emma", words).await?;
    let annotations = output["annotations"].as_array().cloned().unwrap_or_default();
    Ok(annotations.into_iter().map(|annotation| annotation["_id"].clone()).collect())
}

fn error(text: &str) -> Value {
    json!({ "error": text })
}

#[tokio::test]
async fn annotations_are_found_by_their_words_until_they_are_deleted() -> Result<(), TrialError> {
    let trial = Trial::of(worker()).await?;
    register(&trial, "emma", "ada").await?;
    let tag = trial.act("createTag", json!({ "creator": "ada", "title": "Wichtig" })).await?;
    let tag = tag.output["tag"].clone();
    let note = annotate(&trial, "emma", json!({ "content": "A Note (on) foxes" })).await?;
    assert_eq!(trial.redeliver_uncompleted(&note).await?, note.output);
    let note = note.output["annotation"].clone();
    let more = json!({ "color": "#fff176", "tags": [tag, "free text"] });
    let mark = annotate(&trial, "emma", more).await?.output["annotation"].clone();
    let empty =
        annotate(&trial, "emma", json!({ "content": "" })).await?.output["annotation"].clone();

    assert_eq!(found(&trial, "").await?, json!([note, mark, empty]));
    assert_eq!(found(&trial, "NOTE").await?, json!([note]));
    assert_eq!(found(&trial, "(on)").await?, json!([note]));
    assert_eq!(found(&trial, "f.x").await?, json!([]));
    assert_eq!(found(&trial, "wichtig").await?, json!([mark]));
    let all = search(&trial, "ada", "emma", "").await?;
    let expected = json!({
        "_id": mark, "creator": "ada", "document": "emma", "location": "/6/4:0",
        "tags": [tag, "free text"], "color": "#fff176",
    });
    assert_eq!(all["annotations"][1], expected);

    let input =
        json!({ "user": "ada", "annotation": mark, "newContent": "changed", "newTags": [] });
    let changed = trial.act("updateAnnotation", input).await?;
    assert_eq!(trial.redeliver_uncompleted(&changed).await?, changed.output);
    let all = search(&trial, "ada", "emma", "CHANGED").await?;
    let expected = json!({
        "_id": mark, "creator": "ada", "document": "emma", "location": "/6/4:0",
        "tags": [], "color": "#fff176", "content": "changed",
    });
    assert_eq!(all["annotations"], json!([expected]));

    let input = json!({ "user": "ada", "annotation": note });
    let deleted = trial.act("deleteAnnotation", input.clone()).await?;
    assert_eq!(trial.redeliver_uncompleted(&deleted).await?, json!({}));
    assert_eq!(trial.act("deleteAnnotation", input).await?.output, error("Annotation not found."));
    assert_eq!(found(&trial, "").await?, json!([mark, empty]));

    let gone = trial.act("deleteDocumentView", json!({ "documentId": "emma" })).await?;
    assert_eq!(trial.redeliver_uncompleted(&gone).await?, json!({}));
    let unknown = error("Document not found in Annotation concept's view.");
    assert_eq!(search(&trial, "ada", "emma", "").await?, unknown);
    register(&trial, "emma", "ada").await?;
    assert_eq!(found(&trial, "").await?, json!([]));
    annotate(&trial, "emma", json!({ "content": "x" })).await?;
    let deleted = trial.act("deleteAll", json!({ "user": "ada" })).await?;
    assert_eq!(trial.redeliver_uncompleted(&deleted).await?, json!({}));
    register(&trial, "emma", "ada").await?;
    assert_eq!(found(&trial, "").await?, json!([]));
    Ok(())
}

#[tokio::test]
async fn unusable_input_is_refused_and_one_of_twelve_wins() -> Result<(), TrialError> {
    let trial = Trial::of(worker()).await?;
    let all = join_all((0..12).map(|_| register(&trial, "emma", "ada"))).await;
    let all: Vec<Act> = all.into_iter().collect::<Result<_, _>>()?;
    let won: Vec<&Act> = all.iter().filter(|act| act.output == json!({})).collect();
    assert_eq!(won.len(), 1);
    assert_eq!(trial.redeliver_uncompleted(won[0]).await?, json!({}));
    let again = register(&trial, "emma", "bob").await?.output;
    assert_eq!(again, error("Document is already registered."));
    let tag = json!({ "creator": "ada", "title": "x" });
    let made = trial.act("createTag", tag.clone()).await?;
    assert_eq!(trial.redeliver_uncompleted(&made).await?, made.output);
    let taken = error("Tag with this title already exists.");
    assert_eq!(trial.act("createTag", tag).await?.output, taken);
    let empty = json!({ "creator": "ada", "title": " " });
    assert_eq!(trial.act("createTag", empty).await?.output, error("The title is empty."));

    register(&trial, "bobs", "bob").await?;
    let not_registered = error(
        "Document does not exist in Annotation concept's view or is not owned by the creator.",
    );
    for document in ["nothing", "bobs"] {
        let output = annotate(&trial, document, json!({ "content": "x" })).await?.output;
        assert_eq!(output, not_registered);
    }
    for (more, why) in [
        (json!({}), "Either color or content must be provided."),
        (json!({ "color": "no colour" }), "The color is not an HTML color."),
        (json!({ "content": "x", "location": "" }), "The location is empty."),
    ] {
        assert_eq!(annotate(&trial, "emma", more).await?.output, error(why));
    }
    let made = annotate(&trial, "emma", json!({ "content": "x" })).await?;
    let id = made.output["annotation"].clone();
    for (user, id, more, why) in [
        ("ada", &json!("nothing"), json!({ "newContent": "y" }), "Annotation not found."),
        ("bob", &id, json!({ "newContent": "y" }), "User is not the creator of this annotation."),
        ("ada", &id, json!({}), "No fields provided for update."),
        ("ada", &id, json!({ "newColor": "#xyz" }), "The color is not an HTML color."),
        ("ada", &id, json!({ "newLocation": "" }), "The location is empty."),
    ] {
        let mut input = json!({ "user": user, "annotation": id });
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(trial.act("updateAnnotation", input).await?.output, error(why));
    }
    let bobs = json!({ "user": "bob", "annotation": id });
    let not_creator = error("User is not the creator of this annotation.");
    assert_eq!(trial.act("deleteAnnotation", bobs).await?.output, not_creator);
    assert_eq!(search(&trial, "ada", "bobs", "").await?, error(NOT_CREATOR));
    Ok(())
}
