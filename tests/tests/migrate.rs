//! `concert migrate`: the data of another system, used and changed afterwards.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use concert_tests::System;
use mongodb::bson::{Document, doc};
use serde_json::{Value, json};

use crate::reader::{Reader, live};

const ADAS: &str = "correct horse battery";
const BOBS: &str = "bob's long password";
const EMMA: &str = "0199a000-0000-7000-8000-000000000002";
const PERSUASION: &str = "0199a001-0000-7000-8000-000000000001";
const SECOND_EMMA: &str = "0199a002-0000-7000-8000-000000000003";

/// Larger than a message.
fn large() -> String {
    "Base64".repeat(20_000)
}

/// Runs `concert migrate` with these arguments. Returns whether it succeeds, and checks that its
/// output contains these parts.
async fn migrate(
    system: &System,
    from: &Path,
    args: &[&str],
    parts: &[&str],
) -> anyhow::Result<bool> {
    let mut command = system.concert(&["migrate", "--from"]);
    let output = command.arg(from).args(args).output().await?;
    let text = String::from_utf8([output.stdout, output.stderr].concat())?;
    for part in parts {
        assert!(text.contains(part), "{part}: {text}");
    }
    Ok(output.status.success())
}

/// The stored password hash of an account.
async fn hash(system: &System, user: &str) -> anyhow::Result<String> {
    let users = system.database("profile").await?.collection::<Document>("users");
    let found = users.find_one(doc! { "_id": user }).await?.context("no such account")?;
    Ok(found.get_str("password")?.to_owned())
}

/// A file with the old data.
fn old(system: &System) -> anyhow::Result<PathBuf> {
    let file = system.servers.dir().join("old.json");
    std::fs::write(&file, include_str!("migrate/old.json").replace("LARGE", &large()))?;
    Ok(file)
}

const DECIDED: [&str; 6] = [
    "--rename",
    "u-dan=dan",
    "--rename",
    "0199a002-0000-7000-8000-000000000003=Emma again",
    "--leave",
    "u-five",
];

#[tokio::test(flavor = "multi_thread")]
async fn problems_are_reported_and_imported_data_is_complete() -> anyhow::Result<()> {
    let system = System::reader(&[]).await?;
    let from = old(&system)?;
    // A dry run checks everything, and writes nothing.
    let found = [
        "users: 3 imported, 0 imported before, 0 left out",
        "Profile.users u-dan: \"STRASSE\" is the name of u-eve",
        "Profile.users u-five: ",
        "documents 0199a002-0000-7000-8000-000000000003: `place`",
        "dry run: nothing is written",
        "cannot import all documents (3 rejected)",
    ];
    assert!(!migrate(&system, &from, &["--dry-run"], &found).await?);
    assert_eq!(live(&system).await?, []);
    // Other data comes when all accounts are decided.
    assert!(!migrate(&system, &from, &[], &["(2 rejected)"]).await?);
    assert_eq!(live(&system).await?, [("users".to_owned(), 3)]);
    let imported = [
        "users: 1 imported, 3 imported before, 0 left out",
        "libraries: 2 imported, 0 imported before, 1 left out",
        "documents: 4 imported, 0 imported before, 2 left out",
        "stats: 1 imported, 0 imported before, 1 left out",
        "sessions: 3 imported",
        "settings: 2 imported, 0 imported before, 1 left out",
        "changed: settings t-2: replaced by the default: Invalid font string.",
        "views: 1 imported, 0 imported before, 1 left out",
        "annotations: 2 imported, 0 imported before, 1 left out",
        "changed: annotations a-2: its color \"no color at all\"",
    ];
    assert!(migrate(&system, &from, &DECIDED, &imported).await?);

    // Logins replace the hashes. One of the old system counts only the first 72 bytes.
    assert!(hash(&system, "u-ada").await?.starts_with("$2b$"));
    for (name, password) in [("Ada", "wrong"), ("ada", BOBS), ("dan", ADAS)] {
        let wrong = json!({ "username": name, "password": password });
        assert_eq!(system.post("/auth/login", &wrong).await?.status, 401);
    }
    for name in ["ada", "Ada"] {
        system.login(name, ADAS).await?;
        assert!(hash(&system, "u-ada").await?.starts_with("$argon2id$"));
    }
    system.login("dan", &"x".repeat(80)).await?;
    let cut = json!({ "username": "dan", "password": "x".repeat(72) });
    assert_eq!(system.post("/auth/login", &cut).await?.status, 401);

    let ada = Reader::log_in(&system, "u-ada", "l-ada", "ada", ADAS).await?;
    let record = |id: &str, name: &str, content: &str| json!({ "document": { "_id": id, "name": name, "epubContent": content } });
    let documents = json!([
        record(EMMA, "Emma", "UEsDBA"),
        record(PERSUASION, "Persuasion", &large()),
        record(SECOND_EMMA, "Emma again", "UEsDBB"),
    ]);
    let library = json!({ "library": "l-ada" });
    ada.gets("/Library/_getDocumentsInLibrary", library, documents).await?;
    let session = |id: &str, day: u8, end: Value| {
        json!({
            "_id": id, "user": "u-ada", "document": EMMA, "endTime": end,
            "startTime": format!("2025-11-0{day}T10:00:00Z"),
        })
    };
    let ends = [json!("2025-11-01T11:00:00Z"), json!("2025-11-03T10:00:00Z"), Value::Null];
    let mut sessions = ada.sessions().await?;
    sessions.sort_by_key(|session| session["_id"].to_string());
    let [first, second, third] = ends;
    let expected = [session("r-1", 1, first), session("r-2", 2, second), session("r-3", 3, third)];
    assert_eq!(sessions, expected);
    let user = json!({ "user": "u-ada" });
    let settings = json!([{
        "settings": { "_id": "t-1", "font": "Georgia", "fontSize": 18, "lineHeight": 24.5 },
    }]);
    ada.gets("/TextSettings/_getUserDefaultSettings", user, settings).await?;
    let search = json!({ "user": "u-ada", "document": EMMA, "criteria": "important" });
    let note = json!({ "annotations": [{
        "_id": "a-1", "creator": "u-ada", "document": EMMA, "content": "A note",
        "location": "/6/4:0", "tags": ["g-1"],
    }] });
    ada.gets("/Annotation/search", search, note).await
}

#[tokio::test(flavor = "multi_thread")]
async fn imported_data_is_changed_deleted_and_not_imported_again() -> anyhow::Result<()> {
    let system = System::reader(&[]).await?;
    let from = old(&system)?;
    assert!(migrate(&system, &from, &DECIDED, &[]).await?);
    let ada = Reader::log_in(&system, "u-ada", "l-ada", "ada", ADAS).await?;
    let bob = Reader::log_in(&system, "u-bob", "l-bob", "bob", BOBS).await?;
    let rename = json!({ "user": "u-ada", "document": PERSUASION, "newName": "Sanditon" });
    ada.gets("/Library/renameDocument", rename, json!({ "document": PERSUASION })).await?;
    assert_eq!(ada.upload("Emma").await?.status, 409);
    assert_eq!(ada.upload("New").await?.status, 200);
    let reading = json!({ "user": "u-ada", "document": EMMA });
    ada.gets("/Library/closeDocument", reading, json!({ "document": EMMA })).await?;
    let edit = json!({ "textSettings": "t-1", "font": "serif", "fontSize": 9, "lineHeight": 9 });
    ada.gets("/TextSettings/editSettings", edit, json!({})).await?;
    let note = json!({ "user": "u-ada", "annotation": "a-1" });
    ada.gets("/Annotation/deleteAnnotation", note, json!({})).await?;
    let remove = json!({ "document": SECOND_EMMA });
    ada.gets("/Library/removeDocument", remove, json!({ "success": true })).await?;
    bob.gets("/Profile/deleteAccount", json!({}), json!({ "success": true })).await?;

    let before = live(&system).await?;
    let imported = ["users: 0 imported, 4 imported before", "documents: 0 imported, 4 imported"];
    assert!(migrate(&system, &from, &DECIDED, &imported).await?);
    assert_eq!(live(&system).await?, before);
    let names = ada.post("/Library/_getDocumentNames", json!({ "library": "l-ada" })).await?;
    let names: Vec<&Value> =
        names.body.as_array().into_iter().flatten().map(|row| &row["document"]["name"]).collect();
    assert_eq!(names, ["Emma", "Sanditon", "New"]);
    ada.gets("/Profile/deleteAccount", json!({}), json!({ "success": true })).await?;
    // Those of the two accounts that have no data.
    assert_eq!(live(&system).await?, [("users".to_owned(), 2)]);
    Ok(())
}
