//! The archive stores no encrypted secret.

use anyhow::Context;
use concert_tests::{Part, System};
use mongodb::bson::{Binary, Bson, Document, doc, spec::BinarySubtype};
use serde_json::{Value, json};

use super::purge_log;
use super::queries::{answers, flow, flows, post};

const PASSWORD: &str = "correct horse battery";

/// A flow with markers instead of seals, all alike.
pub(crate) fn without_secrets(mut value: Value) -> Value {
    match &mut value {
        Value::String(text) if text.starts_with("sealed:") => return json!("sealed"),
        Value::Array(items) => {
            items.iter_mut().for_each(|item| *item = without_secrets(item.take()));
        }
        Value::Object(map) => {
            map.values_mut().for_each(|item| *item = without_secrets(item.take()));
        }
        _ => {}
    }
    value
}

/// The strings and bodies of all documents of the archive.
pub(crate) async fn stored(system: &System) -> anyhow::Result<String> {
    fn collect(value: &Bson, text: &mut String) {
        match value {
            Bson::String(found) => text.push_str(found),
            Bson::Binary(found) => text.push_str(&String::from_utf8_lossy(&found.bytes)),
            Bson::Array(items) => items.iter().for_each(|item| collect(item, text)),
            Bson::Document(fields) => fields.iter().for_each(|(_, item)| collect(item, text)),
            _ => {}
        }
        text.push('\n');
    }
    let database = system.database("archive").await?;
    let mut text = String::new();
    for name in database.list_collection_names().await? {
        let mut documents = database.collection::<Document>(&name).find(doc! {}).await?;
        while documents.advance().await? {
            collect(&Bson::Document(documents.deserialize_current()?), &mut text);
        }
    }
    Ok(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn archive_stores_markers_and_removes_seals_of_earlier_versions() -> anyhow::Result<()> {
    let mut system = System::start().await?;
    system.account("ada", PASSWORD).await?;
    let login = json!({ "username": "ada", "password": PASSWORD });
    let id = post(&system, "/auth/login", 200, &login).await?;
    // Earlier versions stored the messages as they are in the log.
    let log = system.flow(&id).await?;
    let earlier = "01890a5d-ac96-774b-bcce-b302099a8057";
    let messages = log.iter().zip(1_i64..).map(|((subject, body), seq)| {
        let bytes = body.to_string().replace(&id, earlier).into_bytes();
        let body = Binary { subtype: BinarySubtype::Generic, bytes };
        doc! { "seq": seq, "at": 1_i64, "subject": subject.replace(&id, earlier), "body": body }
    });
    let messages: Vec<Document> = messages.collect();
    let seal = log[0].1.pointer("/input/password").and_then(Value::as_str).unwrap_or_default();
    let key = seal.strip_prefix("sealed:").and_then(|rest| rest.split(':').next());
    let earlier_seal = format!("sealed:{}:", key.filter(|key| *key != "-").context("sealed")?);
    let flows_of_archive = system.database("archive").await?.collection::<Document>("flows");
    flows_of_archive
        .insert_one(doc! { "_id": earlier, "messages": &messages, "row": seal, "searched": seal })
        .await?;
    assert!(stored(&system).await?.contains(&earlier_seal));

    system.start_part(Part::Archive)?;
    answers(&system).await?;
    flows(&system, &json!({ "path": "/auth/login" }), 1).await?;
    system
        .until("the earlier seals are removed", async |system: &System| {
            Ok((!stored(system).await?.contains(&earlier_seal)).then_some(()))
        })
        .await?;
    assert!(stored(&system).await?.contains("sealed:-:1"));
    let replaced = flows_of_archive.find_one(doc! { "_id": earlier }).await?.unwrap_or_default();
    assert_eq!(replaced.get_array("messages")?.len(), messages.len());
    assert_eq!(replaced.get_str("row")?, "sealed:-:1");

    let hot = flow(&system, &id).await?;
    purge_log(&system).await?;
    let mut expected = without_secrets(hot);
    expected["source"] = json!("archive");
    assert_eq!(without_secrets(flow(&system, &id).await?), expected);
    Ok(())
}
