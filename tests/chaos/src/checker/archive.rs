//! What the archive keeps is the log, each message once, and it tells of each flow what became of
//! it.

use std::collections::{BTreeMap, BTreeSet};

use mongodb::bson::Document;
use serde_json::Value;
use uuid::Uuid;

use super::log::Message;
use super::state::all;
use super::{Flows, is, status_of};
use crate::cluster::Cluster;
use crate::history::History;

/// How many flows it tells whole.
pub(super) async fn check(
    cluster: &Cluster,
    history: &History,
    flows: &Flows<'_>,
    buried: &BTreeSet<&str>,
) -> anyhow::Result<usize> {
    let client = mongodb::Client::with_uri_str(&cluster.mongo_uri).await?;
    let kept = all(&client.database("concert_archive"), "flows").await?;
    let kept: BTreeMap<&str, &Document> = kept
        .iter()
        .filter_map(|document| Some((document.get_str("_id").ok()?, document)))
        .collect();
    let mut whole = 0;
    for (flow, messages) in flows {
        // What has no ids of ours is a dead letter, and messages about rules belong to no flow of
        // anybody's.
        let messages: Vec<&Message> =
            messages.iter().copied().filter(|message| is_of_a_flow(message)).collect();
        if messages.is_empty() {
            continue;
        }
        match wrong(kept.get(flow).copied(), &messages, buried.contains(flow)) {
            Some(what) => history.violated(format!("the archive of flow {flow}: {what}")),
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

/// What is wrong with what is kept of a flow.
fn wrong(kept: Option<&Document>, messages: &[&Message], is_buried: bool) -> Option<String> {
    let Some(kept) = kept else {
        return Some("it is not there".to_owned());
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
    let told = found.iter().map(|(seq, subject, body)| (*seq, *subject, body));
    let logged =
        messages.iter().map(|message| (message.seq, message.subject.as_str(), &message.body));
    if !told.eq(logged) {
        let seqs: Vec<u64> = found.iter().map(|(seq, ..)| *seq).collect();
        let logged: Vec<u64> = messages.iter().map(|message| message.seq).collect();
        return Some(format!("it holds {seqs:?}, and the log {logged:?}"));
    }
    // What a flow with a dead letter counts as depends on what of it came first.
    if is_buried {
        return None;
    }
    let outcome = kept.get_str("outcome").unwrap_or("missing");
    let path = kept.get_str("path").ok();
    let request = messages.iter().find(|message| is(message, "Requesting", "request"));
    let expected = match request {
        Some(_) => of_request(messages),
        // What was sent without a root, or is no completion, has no outcome.
        None if outcome == "missing" => return None,
        None => of_injected(messages),
    };
    (outcome != expected || path != request.and_then(|request| request.input("path")))
        .then(|| format!("it calls {path:?} {outcome}, and by the log it is {expected}"))
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
    fn an_injected_action_is_called_what_it_came_to() {
        let done =
            message(3, "Sessioning.create", json!({ "input": {}, "output": { "session": "s" } }));
        let refused =
            message(3, "Sessioning.delete", json!({ "input": {}, "output": { "error": "no" } }));
        let fault = json!({ "input": {}, "output": { "error": "no", "fault": "invalid" } });
        let fault = message(3, "Sessioning.delete", fault);
        let outcomes = ["succeeded", "failed", "fault"];
        for (message, right) in [&done, &refused, &fault].into_iter().zip(outcomes) {
            for told in outcomes {
                let mut kept = kept(&[message], told);
                kept.remove("path");
                let found = wrong(Some(&kept), &[message], false);
                assert_eq!(found.is_none(), told == right, "{found:?}");
            }
        }
    }

    #[test]
    fn what_is_missing_double_changed_or_told_otherwise_is_found() {
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
