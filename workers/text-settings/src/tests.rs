use concert_worker::trial::{Act, Trial, TrialError};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::*;

fn style(font: &str, size: f64, line: f64, of: &Value) -> Value {
    let mut style = json!({ "font": font, "fontSize": size, "lineHeight": line });
    style.as_object_mut().unwrap().extend(of.as_object().unwrap().clone());
    style
}

fn error(text: &str) -> Value {
    json!({ "error": text })
}

async fn first(trial: &Trial, query: &str, input: Value) -> Result<Value, TrialError> {
    Ok(trial.ask(query, input).await?[0]["settings"].clone())
}

#[tokio::test]
async fn settings_of_a_document_begin_with_the_defaults() -> Result<(), TrialError> {
    let trial = Trial::of(worker()).await?;
    let ada = json!({ "user": "ada" });
    let defaults =
        json!({ "font": "Arial, sans-serif", "fontSize": 16, "lineHeight": 24, "user": "ada" });
    let made = trial.act("createUserSettings", defaults).await?;
    assert_eq!(trial.redeliver_uncompleted(&made).await?, made.output);
    let record = first(&trial, "_getUserDefaultSettings", ada.clone()).await?;
    let id = made.output["settings"].clone();
    let expected =
        json!({ "_id": id, "font": "Arial, sans-serif", "fontSize": 16, "lineHeight": 24 });
    assert_eq!(record, expected);

    let document = json!({ "document": "emma", "owner": "ada" });
    let input = style("Arial, sans-serif", 16.0, 24.0, &document);
    let of_document = trial.act("createDocumentSettings", input).await?.output["settings"].clone();
    let edit = style("Georgia", 17.5, 17.5, &json!({ "textSettings": of_document }));
    let edited = trial.act("editSettings", edit).await?;
    assert_eq!(edited.output, json!({}));
    assert_eq!(trial.redeliver_uncompleted(&edited).await?, json!({}));
    let emma = json!({ "document": "emma" });
    let record = first(&trial, "_getDocumentCurrentSettings", emma.clone()).await?;
    let expected =
        json!({ "_id": of_document, "font": "Georgia", "fontSize": 17.5, "lineHeight": 17.5 });
    assert_eq!(record, expected);
    let by_id = json!({ "textSettingsId": of_document });
    assert_eq!(first(&trial, "_getTextSettings", by_id).await?, expected);
    let unchanged = first(&trial, "_getUserDefaultSettings", ada.clone()).await?;
    assert_eq!(unchanged["fontSize"], json!(16));
    let owner = trial.ask("_getOwner", json!({ "textSettings": of_document })).await?;
    assert_eq!(owner, json!([ada]));

    let deleted = trial.act("deleteDocumentSettings", emma.clone()).await?;
    assert_eq!(trial.redeliver_uncompleted(&deleted).await?, json!({}));
    assert_eq!(trial.ask("_getDocumentCurrentSettings", emma).await?, json!([]));
    let input = style("serif", 16.0, 24.0, &document);
    trial.act("createDocumentSettings", input).await?;
    let deleted = trial.act("deleteAll", ada.clone()).await?;
    assert_eq!(trial.redeliver_uncompleted(&deleted).await?, json!({}));
    for (query, of) in [("_getUserDefaultSettings", ada), ("_getDocumentCurrentSettings", document)]
    {
        let of = if query.contains("User") { of } else { json!({ "document": of["document"] }) };
        assert_eq!(trial.ask(query, of).await?, json!([]));
    }
    Ok(())
}

#[tokio::test]
async fn unusable_values_are_refused_and_one_of_twelve_wins() -> Result<(), TrialError> {
    let trial = Trial::of(worker()).await?;
    let (ada, emma) = (json!({ "user": "ada" }), json!({ "document": "emma" }));
    let input = style("serif", 16.0, 24.0, &emma);
    let all = join_all((0..12).map(|_| trial.act("createDocumentSettings", input.clone()))).await;
    let all: Vec<Act> = all.into_iter().collect::<Result<_, _>>()?;
    let (won, lost): (Vec<Value>, Vec<Value>) =
        all.into_iter().map(|act| act.output).partition(|output| output.get("error").is_none());
    assert_eq!((won.len(), &lost[0]), (1, &error("There are already settings.")));

    let of_id = json!({ "textSettings": won[0]["settings"] });
    let bad = [
        ("", 16.0, 24.0, "Invalid font string."),
        ("x};body{display:none", 16.0, 24.0, "Invalid font string."),
        ("serif", 0.0, 24.0, "Font size must be a positive number."),
        ("serif", -3.0, 24.0, "Font size must be a positive number."),
        ("serif", 20.0, 10.0, "Line height must be greater than or equal to font size."),
    ];
    for (font, size, line, why) in bad {
        for (action, of) in [
            ("createUserSettings", &ada),
            ("createDocumentSettings", &emma),
            ("editSettings", &of_id),
        ] {
            let output = trial.act(action, style(font, size, line, of)).await?.output;
            assert_eq!(output, error(why), "{action} {font} {size} {line}");
        }
    }
    let nothing = style("", 0.0, 0.0, &json!({ "textSettings": "nothing" }));
    let missing = error("TextSettings with ID nothing not found.");
    assert_eq!(trial.act("editSettings", nothing).await?.output, missing);
    assert_eq!(trial.ask("_getTextSettings", json!({ "textSettingsId": "x" })).await?, json!([]));
    Ok(())
}
