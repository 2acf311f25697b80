//! The reading app over HTTP: all of its paths, concurrent requests, and killed workers.

#![expect(clippy::indexing_slicing, reason = "a response without these members fails the test")]

use std::time::Duration;

use anyhow::Context as _;
use concert_tests::http::{self, Answer};
use concert_tests::{Part, System};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use mongodb::bson::{Document, doc};
use serde_json::{Value, json};

pub(crate) const PASSWORD: &str = "correct horse battery";
/// Time for the server to redeliver what a killed process held.
const PATIENT: [(&str, &str); 1] = [("CONCERT_HTTP__DEADLINE_MS", "40000")];

/// A user with a session and a library.
pub(crate) struct Reader<'a> {
    system: &'a System,
    user: String,
    session: String,
    pub(crate) library: String,
}

impl<'a> Reader<'a> {
    pub(crate) async fn sign_up(system: &'a System, username: &str) -> anyhow::Result<Self> {
        let credentials = json!({ "username": username, "password": PASSWORD });
        let made = system.post("/Profile/createAccount", &credentials).await?;
        assert_eq!(made.status, 200, "{made:?}");
        for key in ["focusStats", "settings"] {
            made.text(key)?;
        }
        let (user, library) = (made.text("user")?.to_owned(), made.text("library")?.to_owned());
        Self::log_in(system, &user, &library, username, PASSWORD).await
    }

    /// The user of an existing account.
    pub(crate) async fn log_in(
        system: &'a System,
        user: &str,
        library: &str,
        username: &str,
        password: &str,
    ) -> anyhow::Result<Self> {
        let session = system.login(username, password).await?;
        Ok(Self { system, user: user.to_owned(), session, library: library.to_owned() })
    }

    /// Posts a body to a path, with the session.
    pub(crate) async fn post(&self, path: &str, body: Value) -> anyhow::Result<Answer> {
        let mut body = body;
        body["session"] = json!(self.session);
        self.system.post(path, &body).await
    }

    /// Posts, and checks that the response has the status 200 and this body.
    pub(crate) async fn gets(
        &self,
        path: &str,
        body: Value,
        expected: Value,
    ) -> anyhow::Result<()> {
        let answer = self.post(path, body).await?;
        assert_eq!((answer.status, answer.body.clone()), (200, expected), "{path}");
        Ok(())
    }

    pub(crate) async fn upload(&self, name: &str) -> anyhow::Result<Answer> {
        self.upload_content(name, "UEsDBA").await
    }

    pub(crate) async fn upload_content(&self, name: &str, text: &str) -> anyhow::Result<Answer> {
        let body = json!({ "name": name, "epubContent": text, "library": self.library });
        self.post("/Library/createDocument", body).await
    }

    pub(crate) async fn sessions(&self) -> anyhow::Result<Vec<Value>> {
        let answer = self.post("/FocusStats/_getSessions", json!({})).await?;
        Ok(answer.body["sessions"].as_array().cloned().unwrap_or_default())
    }
}

/// The number of documents that are not deleted, over all collections of the reading app's
/// concepts.
pub(crate) async fn live(system: &System) -> anyhow::Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    for (database, collections) in [
        ("profile", &["users"][..]),
        ("library", &["libraries", "documents", "contents"]),
        ("focusstats", &["stats", "sessions"]),
        ("textsettings", &["settings"]),
        ("annotation", &["views", "annotations", "tags"]),
        ("likertsurvey", &["surveys", "questions", "responses"]),
    ] {
        let database = system.database(database).await?;
        for name in collections {
            let collection = database.collection::<Document>(name);
            let live = doc! { "deleted_by": { "$exists": false } };
            let count = collection.count_documents(live).await?;
            if count > 0 {
                found.push(((*name).to_owned(), count));
            }
        }
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_path_responds_as_its_user_expects() -> anyhow::Result<()> {
    let system = System::reader(&[]).await?;
    let ada = Reader::sign_up(&system, "ada").await?;
    let bob = Reader::sign_up(&system, "bob").await?;
    let (user, library) = (json!(ada.user), json!(ada.library));
    let taken = json!({ "username": "Ada", "password": PASSWORD });
    assert_eq!(system.post("/Profile/createAccount", &taken).await?.status, 409);
    ada.gets("/Profile/_getUserDetails", json!({}), json!({ "username": "ada" })).await?;

    // Library.
    let of_user = |documents: Value| json!([{ "library": { "_id": library, "user": user, "documents": documents } }]);
    ada.gets("/Library/_getLibraryByUser", json!({ "user": user }), of_user(json!([]))).await?;
    let of_library = json!({ "library": library });
    ada.gets("/Library/_getDocumentsInLibrary", of_library.clone(), json!([])).await?;
    let uploaded = ada.upload("Emma").await?;
    assert_eq!(uploaded.status, 200, "{uploaded:?}");
    let document = json!(uploaded.text("document")?);
    let record = json!({ "_id": document, "name": "Emma", "epubContent": "UEsDBA" });
    let of_document = json!({ "document": document });
    let rows = json!([{ "document": record }]);
    ada.gets("/Library/_getDocumentsInLibrary", of_library.clone(), rows.clone()).await?;
    let names = json!([{ "document": { "_id": document, "name": "Emma" } }]);
    ada.gets("/Library/_getDocumentNames", of_library.clone(), names).await?;
    ada.gets("/Library/_getDocumentDetails", of_document.clone(), rows).await?;
    ada.gets("/Library/_getLibraryByUser", json!({ "user": user }), of_user(json!([document])))
        .await?;
    assert_eq!(ada.upload("Emma").await?.status, 409);
    assert_eq!(ada.upload("").await?.status, 400);
    let rename = json!({ "user": user, "document": document, "newName": "Persuasion" });
    ada.gets("/Library/renameDocument", rename, of_document.clone()).await?;

    // Reading.
    let reading = json!({ "user": user, "document": document });
    for path in ["/Library/openDocument", "/Library/openDocument", "/Library/closeDocument"] {
        ada.gets(path, reading.clone(), of_document.clone()).await?;
    }
    ada.gets("/Library/closeDocument", reading.clone(), of_document.clone()).await?;
    let sessions = ada.sessions().await?;
    assert_eq!(sessions.len(), 2);
    assert!(sessions.iter().all(|session| session["endTime"].is_string()), "{sessions:?}");
    let stats = ada.post("/FocusStats/_viewStats", json!({})).await?;
    let ended = [&sessions[0]["_id"], &sessions[1]["_id"]];
    assert_eq!(stats.body["stats"]["focusSessionIds"], json!(ended));
    let one = json!({ "focusSession": ended[0] });
    ada.gets("/FocusStats/removeSession", one.clone(), json!({ "success": true })).await?;
    assert_eq!(ada.post("/FocusStats/removeSession", one).await?.status, 404);

    // Settings.
    let defaults =
        ada.post("/TextSettings/_getUserDefaultSettings", json!({ "user": user })).await?;
    let defaults = &defaults.body[0]["settings"];
    assert_eq!((&defaults["fontSize"], &defaults["lineHeight"]), (&json!(16), &json!(24)));
    let edit = json!({
        "textSettings": defaults["_id"], "font": "Georgia", "fontSize": 20, "lineHeight": 30,
    });
    ada.gets("/TextSettings/editSettings", edit.clone(), json!({})).await?;
    assert_eq!(bob.post("/TextSettings/editSettings", edit).await?.status, 403);
    let second = json!(ada.upload("Second").await?.text("document")?);
    let second = json!({ "document": second });
    let current = ada.post("/TextSettings/_getDocumentCurrentSettings", second.clone()).await?;
    assert_eq!(current.body[0]["settings"]["font"], json!("Georgia"));

    // Annotations.
    let note = json!({
        "creator": user, "document": document, "location": "/6/4:0", "content": "A Note",
        "color": "#fff176", "tags": [],
    });
    let made = ada.post("/Annotation/createAnnotation", note).await?;
    let annotation = json!(made.text("annotation")?);
    let found = json!({ "annotations": [{
        "_id": annotation, "creator": user, "document": document, "location": "/6/4:0",
        "tags": [], "color": "#fff176", "content": "A Note",
    }] });
    let search = json!({ "user": user, "document": document, "criteria": "NOTE" });
    ada.gets("/Annotation/search", search.clone(), found).await?;
    let change = json!({ "user": user, "annotation": annotation, "newContent": "" });
    let changed = json!({ "annotation": annotation });
    ada.gets("/Annotation/updateAnnotation", change, changed).await?;
    let none = json!({ "annotations": [] });
    ada.gets("/Annotation/search", search.clone(), none).await?;
    let tag = json!({ "creator": user, "title": "Important" });
    ada.post("/Annotation/createTag", tag).await?.text("tag")?;

    // A survey.
    let survey = json!({ "author": user, "title": "x", "scaleMin": 1, "scaleMax": 5 });
    let survey = json!(ada.post("/LikertSurvey/createSurvey", survey).await?.text("survey")?);
    let question = json!({ "survey": survey, "text": "I liked it" });
    let question = json!(ada.post("/LikertSurvey/addQuestion", question).await?.text("question")?);
    let answer = json!({ "respondent": bob.user, "question": question, "value": 4 });
    bob.gets("/LikertSurvey/submitResponse", answer.clone(), json!({})).await?;
    assert_eq!(bob.post("/LikertSurvey/submitResponse", answer.clone()).await?.status, 400);
    bob.gets("/LikertSurvey/updateResponse", answer, json!({})).await?;
    let of_survey = json!({ "survey": survey });
    let responses = ada.post("/LikertSurvey/_getSurveyResponses", of_survey.clone()).await?;
    assert_eq!(responses.body[0]["value"], json!(4));
    assert_eq!(bob.post("/LikertSurvey/_getSurveyResponses", of_survey.clone()).await?.status, 403);
    let questions = bob.post("/LikertSurvey/_getSurveyQuestions", of_survey).await?;
    assert_eq!(questions.body[0]["_id"], question);
    let of_bob = json!({ "respondent": bob.user });
    let answers = bob.post("/LikertSurvey/_getRespondentAnswers", of_bob).await?;
    assert_eq!(answers.body, responses.body);

    // Another user sees and changes nothing, and no one acts for another user.
    for (path, body, expected) in [
        ("/Library/_getLibraryByUser", json!({ "user": user }), 403),
        ("/Library/_getDocumentsInLibrary", of_library.clone(), 404),
        ("/Library/_getDocumentNames", of_library.clone(), 404),
        ("/Library/_getDocumentDetails", of_document.clone(), 404),
        ("/Library/openDocument", reading.clone(), 403),
        ("/Library/openDocument", json!({ "user": bob.user, "document": document }), 404),
        ("/Library/closeDocument", reading, 403),
        ("/Library/removeDocument", of_document.clone(), 404),
        ("/FocusStats/removeSession", json!({ "focusSession": ended[1] }), 404),
        ("/Annotation/search", search.clone(), 403),
        ("/Annotation/deleteAnnotation", json!({ "user": user, "annotation": annotation }), 403),
    ] {
        assert_eq!(bob.post(path, body).await?.status, expected, "{path}");
    }
    let hidden = bob.post("/TextSettings/_getDocumentCurrentSettings", of_document.clone()).await?;
    assert_eq!((hidden.status, hidden.body), (200, json!([])));

    // Removal.
    let delete = json!({ "user": user, "annotation": annotation });
    ada.gets("/Annotation/deleteAnnotation", delete, json!({})).await?;
    ada.gets("/Library/removeDocument", of_document.clone(), json!({ "success": true })).await?;
    assert_eq!(ada.post("/Library/_getDocumentDetails", of_document.clone()).await?.status, 404);
    ada.gets("/TextSettings/_getDocumentCurrentSettings", of_document, json!([])).await?;
    assert_eq!(ada.post("/Annotation/search", search).await?.status, 404);
    assert_eq!(ada.sessions().await?.len(), 1, "reading sessions stay");

    // Accounts.
    let phone = system.login("ada", PASSWORD).await?;
    let newer = "a newer horse battery";
    let change = json!({ "oldPassword": PASSWORD, "newPassword": newer });
    ada.gets("/Profile/changePassword", change, json!({ "user": user })).await?;
    let other = json!({ "session": phone });
    assert_eq!(system.post("/Profile/_getUserDetails", &other).await?.status, 401);
    ada.gets("/Profile/deleteAccount", json!({}), json!({ "success": true })).await?;
    bob.gets("/Profile/deleteAccount", json!({}), json!({ "success": true })).await?;
    assert_eq!(ada.post("/FocusStats/_viewStats", json!({})).await?.status, 401);
    assert_eq!(live(&system).await?, []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_twelve_concurrent_requests_wins() -> anyhow::Result<()> {
    let system = System::reader(&PATIENT).await?;
    let credentials = json!({ "username": "ada", "password": PASSWORD });
    let all = (0..12).map(|_| system.post("/Profile/createAccount", &credentials));
    let mut statuses = Vec::new();
    for answer in join_all(all).await {
        statuses.push(answer?.status);
    }
    statuses.sort_unstable();
    assert_eq!((statuses[0], &statuses[1..]), (200, &[409; 11][..]));

    let bob = Reader::sign_up(&system, "bob").await?;
    let mut documents = Vec::new();
    for answer in join_all((0..12).map(|_| bob.upload("Emma"))).await {
        let answer = answer?;
        match answer.status {
            200 => documents.push(answer.text("document")?.to_owned()),
            status => assert!([400, 409].contains(&status), "{answer:?}"),
        }
    }
    assert_eq!(documents.len(), 1);
    let open = json!({ "user": bob.user, "document": documents[0] });
    for answer in join_all((0..12).map(|_| bob.post("/Library/openDocument", open.clone()))).await {
        assert_eq!(answer?.status, 200);
    }
    let sessions = bob.sessions().await?;
    assert_eq!(sessions.iter().filter(|session| session["endTime"].is_null()).count(), 1);
    let counts: Vec<u64> = live(&system).await?.into_iter().map(|(_, count)| count).collect();
    // users, libraries, documents, contents, stats, sessions, settings, views
    assert_eq!(counts, [2, 2, 1, 1, 2, 12, 3, 1]);
    Ok(())
}

/// The processes to kill, each at the first message on a subject.
const POINTS: [(Part, &str); 12] = [
    (Part::Profile, "done.*.Profile.createAccount.*"),
    (Part::Library, "action.Library.createLibrary.*"),
    (Part::Router, "done.*.FocusStats.initUser.*"),
    (Part::TextSettings, "done.*.TextSettings.createUserSettings.*"),
    (Part::Library, "action.Library.createDocument.*"),
    (Part::Router, "done.*.Library.createDocument.*"),
    (Part::Annotation, "action.Annotation.registerDocument.*"),
    (Part::TextSettings, "action.TextSettings.createDocumentSettings.*"),
    (Part::Profile, "action.Profile.deleteAccount.*"),
    (Part::Library, "action.Library.deleteAll.*"),
    (Part::Router, "done.*.FocusStats.deleteAll.*"),
    (Part::Annotation, "done.*.Annotation.deleteAll.*"),
];

/// `CONCERT_READER_KILLS=100` kills more processes. Those after the first round come some
/// milliseconds after the message, so they hit other points.
#[expect(clippy::disallowed_methods, reason = "a setting of this test, not of Concert")]
fn kills() -> usize {
    let kills = std::env::var("CONCERT_READER_KILLS").ok();
    kills.and_then(|kills| kills.parse().ok()).unwrap_or(POINTS.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_during_sign_up_upload_and_deletion_leaves_nothing_half() -> anyhow::Result<()> {
    let unlimited = ("CONCERT_WORKERS__PROFILE__SETTINGS__ACCOUNTS_PER_CLIENT", "0");
    let mut system = System::reader(&[PATIENT[0], unlimited]).await?;
    let address = system.address();
    let content = "Base64".repeat(30_000);
    for number in 0..kills() {
        let (part, subject) = POINTS[number % POINTS.len()];
        let username = format!("ada{number}");
        let content = content.clone();
        let mut seen = system.subscribe(subject).await?;
        let conversation = tokio::spawn(async move {
            let credentials = json!({ "username": username, "password": PASSWORD });
            let path = |path: &str| format!("/api{path}");
            let made = http::post(address, &path("/Profile/createAccount"), &credentials).await?;
            made.text("settings")?;
            let library = made.text("library")?;
            let login = http::post(address, &path("/auth/login"), &credentials).await?;
            let session = login.text("session")?;
            let book = json!({
                "session": session, "library": library, "name": "Emma", "epubContent": content,
            });
            let added = http::post(address, &path("/Library/createDocument"), &book).await?;
            let document = json!({ "session": session, "document": added.text("document")? });
            let shown = path("/Library/_getDocumentDetails");
            let shown = http::post(address, &shown, &document).await?;
            assert!(shown.body[0]["document"]["epubContent"] == json!(content));
            let session = json!({ "session": session });
            http::post(address, &path("/Profile/deleteAccount"), &session).await
        });
        tokio::time::timeout(Duration::from_secs(30), seen.next()).await?;
        let later = Duration::from_millis(u64::try_from(number / POINTS.len())? * 3);
        tokio::time::sleep(later).await;
        system.kill(part).await?;
        system.start_part(part)?;
        let deleted = conversation.await?.with_context(|| format!("{part:?} at {subject}"))?;
        assert_eq!(deleted.status, 200, "{part:?} at {subject}: {deleted:?}");
        assert_eq!(live(&system).await?, [], "{part:?} at {subject}");
    }
    Ok(())
}
