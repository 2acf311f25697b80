//! The concept LikertSurvey: surveys whose questions are answered on a scale.

use concert_worker::store::{Change, Changed, Documents, Found, Inserted, Page, Target};
use concert_worker::{
    Call, NoSettings, One, Query, Start, StartError, Stop, Worker, concept, refused,
};
use serde::{Deserialize, Serialize};
use serde_json::Number;

/// The worker of LikertSurvey.
pub fn worker() -> Worker {
    concept(include_str!("../LikertSurvey.concept"))
        .open(Surveys::open)
        .action("createSurvey", Surveys::create_survey)
        .action("addQuestion", Surveys::add_question)
        .action("submitResponse", Surveys::submit_response)
        .action("updateResponse", Surveys::update_response)
        .action("deleteAll", Surveys::delete_all)
        .query("_getAuthor", Surveys::get_author)
        .query("_getSurveyQuestions", Surveys::get_survey_questions)
        .query("_getSurveyResponses", Surveys::get_survey_responses)
        .query("_getRespondentAnswers", Surveys::get_respondent_answers)
        .build()
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Survey {
    author: String,
    title: String,
    scale_min: Number,
    scale_max: Number,
}

#[derive(Serialize, Deserialize)]
struct Question {
    survey: String,
    /// The author of the survey.
    author: String,
    text: String,
}

#[derive(Serialize, Deserialize)]
struct Response {
    respondent: String,
    question: String,
    survey: String,
    value: Number,
    /// The respondent and the question, which are unique together.
    key: String,
    /// The respondent and the author of the survey: a response goes with either account.
    people: Vec<String>,
}

struct Surveys {
    surveys: Documents<Survey>,
    questions: Documents<Question>,
    responses: Documents<Response>,
}

#[derive(Serialize, Deserialize)]
struct OfSurvey {
    survey: String,
}

#[derive(Deserialize)]
struct NewQuestion {
    survey: String,
    text: String,
}

#[derive(Serialize)]
struct OfQuestion {
    question: String,
}

#[derive(Deserialize)]
struct Answer {
    respondent: String,
    question: String,
    value: Number,
}

#[derive(Deserialize)]
struct OfUser {
    user: String,
}

#[derive(Deserialize)]
struct OfRespondent {
    respondent: String,
}

#[derive(Serialize)]
struct Author {
    author: String,
}

#[derive(Serialize)]
struct Questions {
    questions: Vec<QuestionRecord>,
}

#[derive(Serialize)]
struct QuestionRecord {
    _id: String,
    survey: String,
    text: String,
}

#[derive(Serialize)]
struct Responses {
    responses: Vec<ResponseRecord>,
}

#[derive(Serialize)]
struct Answers {
    answers: Vec<ResponseRecord>,
}

#[derive(Serialize)]
struct ResponseRecord {
    _id: String,
    respondent: String,
    question: String,
    value: Number,
}

impl Surveys {
    async fn open(start: Start<NoSettings>) -> Result<Self, StartError> {
        let questions = start.documents("questions").lookup("author").lookup_newest("survey");
        let responses = start.documents("responses").unique("key").lookup("people");
        let responses = responses.lookup_newest("survey").lookup_newest("respondent");
        Ok(Self {
            surveys: start.documents("surveys").lookup("author").open().await?,
            questions: questions.open().await?,
            responses: responses.open().await?,
        })
    }

    async fn create_survey(&self, call: Call<Survey>) -> Result<OfSurvey, Stop> {
        let Survey { scale_min, scale_max, .. } = &call.input;
        if scale_min.as_f64() >= scale_max.as_f64() {
            return Err(refused("scaleMin must be less than scaleMax."));
        }
        let survey = call.new_id("survey");
        match self.surveys.insert(call.permit().await?, &survey, &call.input).await? {
            Inserted::Done => Ok(OfSurvey { survey }),
            Inserted::Taken(_) => Err(refused("The survey exists.")),
        }
    }

    /// Reads the survey again after it has stored the question. [`Self::delete_all`] removes the
    /// survey, then lists questions. If both run concurrently, at least one of them sees the
    /// other's write and removes the question.
    async fn add_question(&self, call: Call<NewQuestion>) -> Result<OfQuestion, Stop> {
        let (NewQuestion { survey, text }, call) = call.split();
        let question = call.new_id("question");
        if let Some(of) = self.surveys.get(&survey).await? {
            let value = Question { survey: survey.clone(), author: of.value.author, text };
            let stored = self.questions.insert(call.permit().await?, &question, &value).await?;
            if stored == Inserted::Done && self.surveys.get(&survey).await?.is_some() {
                return Ok(OfQuestion { question });
            }
        }
        let _deleted = self.questions.delete(call.permit().await?, &question).await?;
        Err(refused(format!("Survey with ID {survey} not found.")))
    }

    /// Reads the question again after it has stored the response, as [`Self::add_question`] does
    /// with the survey.
    async fn submit_response(&self, call: Call<Answer>) -> Result<(), Stop> {
        let (Answer { respondent, question, value }, call) = call.split();
        let id = call.new_id("response");
        let stop = match self.check(&question, &value).await {
            Ok(Question { survey, author, .. }) => {
                let key = key(&respondent, &question);
                let people = vec![respondent.clone(), author];
                let question = question.clone();
                let response = Response { respondent, question, survey, value, key, people };
                match self.responses.insert(call.permit().await?, &id, &response).await? {
                    Inserted::Done if self.exists(&response.question).await? => return Ok(()),
                    Inserted::Done => no_question(&response.question),
                    Inserted::Taken(_) => return Err(refused(ANSWERED)),
                }
            }
            Err(stop @ Stop::Refused(_)) => stop,
            Err(stop) => return Err(stop),
        };
        let _deleted = self.responses.delete(call.permit().await?, &id).await?;
        Err(stop)
    }

    async fn update_response(&self, call: Call<Answer>) -> Result<(), Stop> {
        let Answer { respondent, question, value } = &call.input;
        self.check(question, value).await?;
        let none =
            || refused("No existing response found to update. Use submitResponse to create one.");
        let found = self.responses.find("key", &key(respondent, question)).await?;
        let found = found.ok_or_else(none)?;
        if let Target::Done = self.responses.target(&call, &found.id).await? {
            return Ok(());
        }
        #[derive(Serialize)]
        struct Value<'a> {
            value: &'a Number,
        }
        let change = Change::fields(&Value { value })?;
        match self.responses.update(call.permit().await?, &found.id, change).await? {
            Changed::Done => Ok(()),
            Changed::NotThere | Changed::Taken(_) => Err(none()),
        }
    }

    /// Checks that the question exists and the value is within its scale.
    async fn check(&self, question: &str, value: &Number) -> Result<Question, Stop> {
        let of = self.questions.get(question).await?.ok_or_else(|| no_question(question))?.value;
        let survey = self.surveys.get(&of.survey).await?.ok_or_else(|| no_question(question))?;
        let Survey { scale_min: min, scale_max: max, .. } = &survey.value;
        if value.as_f64() < min.as_f64() || value.as_f64() > max.as_f64() {
            let why =
                format!("Response value {value} is outside the survey's scale [{min}, {max}].");
            return Err(refused(why));
        }
        Ok(of)
    }

    async fn exists(&self, question: &str) -> Result<bool, Stop> {
        Ok(self.questions.get(question).await?.is_some())
    }

    async fn delete_all(&self, call: Call<OfUser>) -> Result<(), Stop> {
        let (own, deletion) = (Page::of("author", &call.input.user), Change::deletion());
        self.surveys.for_each(&call, &own, &deletion).await?;
        self.questions.for_each(&call, &own, &deletion).await?;
        let responses = Page::of("people", &call.input.user);
        self.responses.for_each(&call, &responses, &deletion).await.map(drop)
    }

    async fn get_author(&self, query: Query<OfSurvey>) -> Result<Option<Author>, Stop> {
        let survey = self.surveys.get(&query.input.survey).await?;
        Ok(survey.map(|survey| Author { author: survey.value.author }))
    }

    async fn get_survey_questions(
        &self,
        query: Query<OfSurvey>,
    ) -> Result<Option<Questions>, Stop> {
        let survey = &query.input.survey;
        if self.surveys.get(survey).await?.is_none() {
            return Ok(None);
        }
        let mut found = self.questions.page(Page::of("survey", survey).newest_first()).await?;
        found.reverse();
        let record = |Found { id, value: Question { survey, text, .. }, .. }| QuestionRecord {
            _id: id,
            survey,
            text,
        };
        Ok(Some(Questions { questions: found.into_iter().map(record).collect() }))
    }

    async fn get_survey_responses(
        &self,
        query: Query<OfSurvey>,
    ) -> Result<Option<Responses>, Stop> {
        let survey = &query.input.survey;
        if self.surveys.get(survey).await?.is_none() {
            return Ok(None);
        }
        Ok(Some(Responses { responses: self.records("survey", survey).await? }))
    }

    async fn get_respondent_answers(
        &self,
        query: Query<OfRespondent>,
    ) -> Result<One<Answers>, Stop> {
        let answers = self.records("respondent", &query.input.respondent).await?;
        Ok(One(Answers { answers }))
    }

    /// Oldest first.
    async fn records(&self, field: &str, value: &str) -> Result<Vec<ResponseRecord>, Stop> {
        let mut found = self.responses.page(Page::of(field, value).newest_first()).await?;
        found.reverse();
        let record = |Found { id, value: Response { respondent, question, value, .. }, .. }| {
            ResponseRecord { _id: id, respondent, question, value }
        };
        Ok(found.into_iter().map(record).collect())
    }
}

const ANSWERED: &str =
    "Respondent has already answered this question. Use updateResponse to change it.";

/// Ids of users have no slash.
fn key(respondent: &str, question: &str) -> String {
    format!("{respondent}/{question}")
}

fn no_question(question: &str) -> Stop {
    refused(format!("Question with ID {question} not found."))
}

#[cfg(test)]
mod tests;
