//! Checks that the archive holds each message of the log once, and the right outcome of each flow.

use std::collections::{BTreeMap, BTreeSet};

use mongodb::bson::Document;
use serde_json::Value;
use uuid::Uuid;

use super::state::all;
use super::{Flows, is, status_of};
use crate::cluster::Cluster;
use crate::history::History;
use crate::log::Message;

/// Checks the archive; returns the number of flows that it has completely.
pub(super) async fn check(
    cluster: &Cluster,
    history: &History,
    flows: &Flows<'_>,
    buried: &BTreeSet<&str>,
) -> anyhow::Result<usize> {
    let client = mongodb::Client::with_uri_str(&cluster.admin_uri).await?;
    let kept = all(&client.database("concert_archive"), "flows").await?;
    let kept: BTreeMap<&str, &Document> = kept
        .iter()
        .filter_map(|document| Some((document.get_str("_id").ok()?, document)))
        .collect();
    let mut whole = 0;
    for (flow, messages) in flows {
        // A message without an id of Concert becomes a dead letter. Messages about rules belong to
        // no client's flow.
        let messages: Vec<&Message> =
            messages.iter().copied().filter(|message| is_of_a_flow(message)).collect();
        if messages.is_empty() {
            continue;
        }
        match wrong(kept.get(flow).copied(), &messages, buried.contains(flow)) {
            Some(what) => history.violated(format!("archived flow {flow}: {what}")),
            None => whole += 1,
        }
    }
    Ok(whole)
}

fn is_of_a_flow(message: &Message) -> bool {
    let is_id = |token: &str| Uuid::try_parse(token).is_ok();
    message.tokens().is_some_and(|(flow, concept, action, id)| {
        is_id(flow) && is_id(id) && (concept, action) != ("Concert", "inForce")
    })
}

/// The difference between the archived flow and the log, if any.
fn wrong(kept: Option<&Document>, messages: &[&Message], is_buried: bool) -> Option<String> {
    let Some(kept) = kept else {
        return Some("it is missing".to_owned());
    };
    let mut found: Vec<(u64, &str, Value)> = kept
        .get_array("messages")
        .into_iter()
        .flatten()
        .filter_map(|message| {
            let message = message.as_document()?;
            let body = message.get_binary_generic("body").ok()?;
            Some((
                u64::try_from(message.get_i64("seq").ok()?).ok()?,
                message.get_str("subject").ok()?,
                serde_json::from_slice(body).unwrap_or_default(),
            ))
        })
        .collect();
    found.sort_by_key(|(seq, ..)| *seq);
    let archived = found.iter().map(|(seq, subject, body)| (*seq, *subject, without_secrets(body)));
    let logged = messages
        .iter()
        .map(|message| (message.seq, message.subject.as_str(), without_secrets(&message.body)));
    if !archived.eq(logged) {
        let seqs: Vec<u64> = found.iter().map(|(seq, ..)| *seq).collect();
        let logged: Vec<u64> = messages.iter().map(|message| message.seq).collect();
        return Some(format!("it has {seqs:?}, but the log has {logged:?}"));
    }
    // The outcome of a flow with a dead letter depends on which of its messages were archived
    // first.
    if is_buried {
        return None;
    }
    let outcome = kept.get_str("outcome").unwrap_or("missing");
    let path = kept.get_str("path").ok();
    let request = messages.iter().find(|message| is(message, "Requesting", "request"));
    let expected = match request {
        Some(_) => of_request(messages),
        // A flow without a root, or without a valid completion, has no outcome.
        None if outcome == "missing" => return None,
        None => of_injected(messages),
    };
    (outcome != expected || path != request.and_then(|request| request.input("path")))
        .then(|| format!("{path:?} has the outcome {outcome}, but {expected} in the log"))
}

/// The body with each text that holds a secret replaced; the archive stores markers (ADR 36).
fn without_secrets(body: &Value) -> Value {
    match body {
        Value::String(text) if text.contains("sealed:") => Value::String("sealed".to_owned()),
        Value::Array(items) => items.iter().map(without_secrets).collect(),
        Value::Object(entries) => {
            entries.iter().map(|(key, value)| (key.clone(), without_secrets(value))).collect()
        }
        other => other.clone(),
    }
}

fn of_request(messages: &[&Message]) -> &'static str {
    let answer =
        messages.iter().find(|message| is(message, "Requesting", "respond") && !message.failed());
    match answer.map(|answer| status_of(answer)) {
        None => "open",
        Some(..400) => "succeeded",
        Some(..500) => "failed",
        Some(_) => "fault",
    }
}

fn of_injected(messages: &[&Message]) -> &'static str {
    let is_fault = |message: &&&Message| message.body.pointer("/output/fault").is_some();
    let failed = messages.iter().filter(|message| message.failed());
    match (failed.clone().count(), failed.filter(is_fault).count()) {
        (0, _) => "succeeded",
        (_, 0) => "failed",
        _ => "fault",
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::spec::BinarySubtype;
    use mongodb::bson::{Binary, doc};
    use serde_json::json;

    use super::*;

    const FLOW: &str = "0190d0d0-0000-7000-8000-000000000001";

    fn message(seq: u64, what: &str, body: Value) -> Message {
        Message { seq, subject: format!("done.{FLOW}.{what}.{FLOW}"), body, dead: None }
    }

    fn kept(messages: &[&Message], outcome: &str) -> Document {
        let messages: Vec<Document> = messages
            .iter()
            .map(|message| {
                let body = Binary {
                    subtype: BinarySubtype::Generic,
                    bytes: message.body.to_string().into_bytes(),
                };
                doc! { "seq": i64::try_from(message.seq).unwrap_or_default(), "subject": &message.subject, "body": body }
            })
            .collect();
        doc! { "_id": FLOW, "messages": messages, "outcome": outcome, "path": "/auth/logout" }
    }

    #[test]
    fn injected_action_has_the_outcome_of_its_flow() {
        let done =
            message(3, "Sessioning.create", json!({ "input": {}, "output": { "session": "s" } }));
        let refused =
            message(3, "Sessioning.delete", json!({ "input": {}, "output": { "error": "no" } }));
        let fault = json!({ "input": {}, "output": { "error": "no", "fault": "invalid" } });
        let fault = message(3, "Sessioning.delete", fault);
        let outcomes = ["succeeded", "failed", "fault"];
        for (message, right) in [&done, &refused, &fault].into_iter().zip(outcomes) {
            for archived in outcomes {
                let mut kept = kept(&[message], archived);
                kept.remove("path");
                let found = wrong(Some(&kept), &[message], false);
                assert_eq!(found.is_none(), archived == right, "{found:?}");
            }
        }
    }

    #[test]
    fn missing_duplicate_changed_or_misreported_messages_are_found() {
        let request = message(
            3,
            "Requesting.request",
            json!({ "input": { "path": "/auth/logout" }, "output": {} }),
        );
        let answer =
            message(9, "Requesting.respond", json!({ "input": { "status": 404 }, "output": {} }));
        let other =
            message(9, "Requesting.respond", json!({ "input": { "status": 401 }, "output": {} }));
        let log = [&request, &answer];
        let check = |kept: Option<Document>| wrong(kept.as_ref(), &log, false);
        assert_eq!(check(Some(kept(&log, "failed"))), None);
        assert_eq!(check(Some(kept(&[&answer, &request], "failed"))), None);
        for bad in [
            None,
            Some(kept(&[&request], "failed")),
            Some(kept(&[&request, &answer, &answer], "failed")),
            Some(kept(&[&request, &other], "failed")),
            Some(kept(&log, "succeeded")),
        ] {
            assert!(check(bad.clone()).is_some(), "{bad:?}");
        }
    }
}
