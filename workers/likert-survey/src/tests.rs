use concert_worker::trial::{Act, Trial, TrialError};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::*;

fn error(text: &str) -> Value {
    json!({ "error": text })
}

async fn survey(trial: &Trial, author: &str) -> Result<(Value, Value), TrialError> {
    let input = json!({ "author": author, "title": "How was it?", "scaleMin": 1, "scaleMax": 5 });
    let survey = trial.act("createSurvey", input).await?.output["survey"].clone();
    let input = json!({ "survey": survey, "text": "I liked it" });
    let question = trial.act("addQuestion", input).await?;
    assert_eq!(trial.redeliver_uncompleted(&question).await?, question.output);
    Ok((survey, question.output["question"].clone()))
}

fn answer(respondent: &str, question: &Value, value: f64) -> Value {
    json!({ "respondent": respondent, "question": question, "value": value })
}

#[tokio::test]
async fn question_is_answered_once_and_the_answer_can_change() -> Result<(), TrialError> {
    let trial = Trial::of(worker()).await?;
    let (survey, question) = survey(&trial, "ada").await?;
    let questions = trial.ask("_getSurveyQuestions", json!({ "survey": survey })).await?;
    let expected = json!([{ "_id": question, "survey": survey, "text": "I liked it" }]);
    assert_eq!(questions[0]["questions"], expected);

    let answers =
        join_all((0..12).map(|_| trial.act("submitResponse", answer("bob", &question, 4.0)))).await;
    let answers: Vec<Act> = answers.into_iter().collect::<Result<_, _>>()?;
    let won: Vec<&Act> = answers.iter().filter(|act| act.output == json!({})).collect();
    assert_eq!(won.len(), 1);
    assert_eq!(trial.redeliver_uncompleted(won[0]).await?, json!({}));
    let again = trial.act("submitResponse", answer("bob", &question, 5.0)).await?.output;
    assert_eq!(again, error(ANSWERED));

    let change = trial.act("updateResponse", answer("bob", &question, 2.0)).await?;
    assert_eq!(change.output, json!({}));
    assert_eq!(trial.redeliver_uncompleted(&change).await?, json!({}));
    let responses = trial.ask("_getSurveyResponses", json!({ "survey": survey })).await?;
    let response = &responses[0]["responses"][0];
    assert_eq!((&response["respondent"], response["value"].as_f64()), (&json!("bob"), Some(2.0)));
    let own = trial.ask("_getRespondentAnswers", json!({ "respondent": "bob" })).await?;
    assert_eq!(own[0]["answers"], responses[0]["responses"]);

    // A response is removed with its respondent, and with the author of the survey.
    let (others, question) = self::survey(&trial, "bob").await?;
    trial.act("submitResponse", answer("ada", &question, 3.0)).await?;
    let deleted = trial.act("deleteAll", json!({ "user": "bob" })).await?;
    assert_eq!(trial.redeliver_uncompleted(&deleted).await?, json!({}));
    assert_eq!(trial.ask("_getSurveyQuestions", json!({ "survey": others })).await?, json!([]));
    assert_eq!(trial.ask("_getAuthor", json!({ "survey": others })).await?, json!([]));
    for person in ["ada", "bob"] {
        let own = trial.ask("_getRespondentAnswers", json!({ "respondent": person })).await?;
        assert_eq!(own, json!([{ "answers": [] }]), "{person}");
    }
    let author = trial.ask("_getAuthor", json!({ "survey": survey })).await?;
    assert_eq!(author, json!([{ "author": "ada" }]));
    Ok(())
}

#[tokio::test]
async fn unusable_input_is_refused() -> Result<(), TrialError> {
    let trial = Trial::of(worker()).await?;
    let input = json!({ "author": "ada", "title": "x", "scaleMin": 5, "scaleMax": 1 });
    let output = trial.act("createSurvey", input).await?.output;
    assert_eq!(output, error("scaleMin must be less than scaleMax."));
    let input = json!({ "survey": "nothing", "text": "x" });
    let output = trial.act("addQuestion", input).await?.output;
    assert_eq!(output, error("Survey with ID nothing not found."));
    let (_, question) = survey(&trial, "ada").await?;
    let nothing = json!("nothing");
    for action in ["submitResponse", "updateResponse"] {
        let output = trial.act(action, answer("bob", &nothing, 3.0)).await?.output;
        assert_eq!(output, error("Question with ID nothing not found."), "{action}");
        let output = trial.act(action, answer("bob", &question, 6.0)).await?.output;
        let outside = "Response value 6.0 is outside the survey's scale [1, 5].";
        assert_eq!(output, error(outside), "{action}");
    }
    let output = trial.act("updateResponse", answer("bob", &question, 3.0)).await?.output;
    let none = "No existing response found to update. Use submitResponse to create one.";
    assert_eq!(output, error(none));
    Ok(())
}
