//! The OpenAPI and AsyncAPI documents that an edge serves match the responses and messages of the
//! system.

#![expect(clippy::indexing_slicing, reason = "a document without these members fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context as _;
use concert_tests::nats::subscribe;
use concert_tests::{System, http};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

/// Sends requests and checks each response against the document's schema for its path and status.
struct Caller<'a> {
    system: &'a System,
    document: Value,
    seen: BTreeMap<String, BTreeSet<String>>,
}

/// A validator of a schema, with the document's components for its references.
fn validator(document: &Value, schema: &Value) -> anyhow::Result<jsonschema::Validator> {
    let whole = json!({ "allOf": [schema], "components": document["components"] });
    Ok(jsonschema::draft202012::new(&whole)?)
}

fn resolved<'a>(document: &'a Value, value: &'a Value) -> anyhow::Result<&'a Value> {
    match value["$ref"].as_str() {
        Some(reference) => document
            .pointer(reference.trim_start_matches('#'))
            .with_context(|| reference.to_owned()),
        None => Ok(value),
    }
}

fn check_schema(document: &Value, schema: &Value, body: &Value, name: &str) -> anyhow::Result<()> {
    let validator = validator(document, schema)?;
    let errors: Vec<String> = validator.iter_errors(body).map(|error| error.to_string()).collect();
    anyhow::ensure!(errors.is_empty(), "{name}: {body} does not match its schema: {errors:?}");
    Ok(())
}

impl Caller<'_> {
    async fn ask(&mut self, path: &str, status: u16, body: &Value) -> anyhow::Result<Value> {
        let answer = self.system.post(path, body).await?;
        anyhow::ensure!(answer.status == status, "{path} {body}: {answer:?}");
        let post = &self.document["paths"][path]["post"];
        let takes = &post["requestBody"]["content"]["application/json"]["schema"];
        let is_taken = check_schema(&self.document, takes, body, path);
        let refused_by_edge = answer.headers["concert-answered-by"] == "edge";
        anyhow::ensure!(is_taken.is_err() == refused_by_edge, "{path} {body}: {is_taken:?}");
        let response = &post["responses"][status.to_string()];
        anyhow::ensure!(!response.is_null(), "{path} does not document the status {status}");
        let response = resolved(&self.document, response)?;
        let schema = &response["content"]["application/json"]["schema"];
        check_schema(&self.document, schema, &answer.body, path)?;
        let seen = self.seen.entry(path.to_owned()).or_default();
        if !refused_by_edge {
            seen.insert(status.to_string());
        }
        Ok(answer.body)
    }

    /// The statuses with which rules respond on a path, according to the document.
    fn of_rules(&self, path: &str) -> BTreeSet<String> {
        let responses = self.document["paths"][path]["post"]["responses"].as_object();
        let of_rules = responses.into_iter().flatten().filter(|(_, response)| {
            let description = response["description"].as_str();
            description.is_some_and(|text| text.starts_with("response of"))
        });
        of_rules.map(|(status, _)| status.clone()).collect()
    }
}

async fn document(system: &System, name: &str) -> anyhow::Result<Value> {
    let url = format!("http://{}/{name}", system.address());
    Ok(http::get(url).await?.error_for_status()?.json().await?)
}

/// Requests that cover each path, each status of its rules, and the rejections of the edge.
async fn traffic(caller: &mut Caller<'_>) -> anyhow::Result<()> {
    let long = "correct horse battery";
    let new = json!({ "username": "ada", "password": long });
    caller.ask("/auth/createAccount", 200, &new).await?;
    caller.ask("/auth/createAccount", 409, &new).await?;
    let short = json!({ "username": "bob", "password": "short" });
    caller.ask("/auth/createAccount", 400, &short).await?;
    caller.ask("/auth/createAccount", 400, &json!({ "username": 5, "password": long })).await?;
    caller.ask("/auth/login", 400, &json!({ "username": "ada" })).await?;
    let wrong = json!({ "username": "ada", "password": "wrong horse battery" });
    caller.ask("/auth/login", 401, &wrong).await?;
    let login = caller.ask("/auth/login", 200, &new).await?;
    let session = &json!({ "session": login["session"] });
    let nobody = &json!({ "session": "nobody's" });
    for path in ["/auth/whoami", "/auth/sessions"] {
        caller.ask(path, 200, session).await?;
        caller.ask(path, 401, nobody).await?;
    }
    let change = |session: &Value, old: &str, new: &str| json!({ "session": session["session"], "oldPassword": old, "newPassword": new });
    let other = "another horse battery";
    caller.ask("/auth/changePassword", 401, &change(nobody, long, other)).await?;
    caller.ask("/auth/changePassword", 400, &change(session, other, long)).await?;
    let changed = caller.ask("/auth/changePassword", 200, &change(session, long, other)).await?;
    let session = &json!({ "session": changed["session"] });
    caller.ask("/auth/logout", 200, session).await?;
    caller.ask("/auth/logout", 404, session).await?;
    let again = json!({ "username": "ada", "password": other });
    let login = caller.ask("/auth/login", 200, &again).await?;
    caller.ask("/auth/logoutEverywhere", 401, nobody).await?;
    let session = json!({ "session": login["session"] });
    caller.ask("/auth/logoutEverywhere", 200, &session).await?;
    let login = caller.ask("/auth/login", 200, &again).await?;
    let unknown = json!({ "session": "nobody's", "password": other });
    caller.ask("/auth/deleteAccount", 401, &unknown).await?;
    let listed = caller.ask("/auth/sessions", 200, &json!({ "session": login["session"] })).await?;
    let end = |session: &Value, id: &Value| json!({ "session": session, "id": id });
    let session = &login["session"];
    caller.ask("/auth/endSession", 401, &end(&nobody["session"], &json!("x"))).await?;
    caller.ask("/auth/endSession", 404, &end(session, &json!("x"))).await?;
    caller.ask("/auth/endSession", 200, &end(session, &listed["sessions"][0]["id"])).await?;
    let login = caller.ask("/auth/login", 200, &again).await?;
    let delete = |password: &str| json!({ "session": login["session"], "password": password });
    caller.ask("/auth/deleteAccount", 400, &delete(long)).await?;
    caller.ask("/auth/deleteAccount", 200, &delete(other)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_match_the_openapi_document() -> anyhow::Result<()> {
    let system = System::start().await?;
    let document = document(&system, "openapi.json").await?;
    assert_eq!(document["servers"], json!([{ "url": "/api" }]));
    // `reader.rs` covers the other paths, which need more workers.
    let paths = document["paths"].as_object().context("paths")?.keys();
    let paths: Vec<String> = paths.filter(|path| path.starts_with("/auth/")).cloned().collect();
    let mut caller = Caller { system: &system, document, seen: BTreeMap::new() };
    traffic(&mut caller).await?;
    for path in paths {
        let described = caller.of_rules(&path);
        assert_eq!(caller.seen.get(&path), Some(&described), "{path}");
    }
    Ok(())
}

/// The channels of a document: the tokens of the address, and the schema of its messages.
struct Channels(Vec<(Vec<String>, Value)>);

impl Channels {
    fn of(document: &Value) -> anyhow::Result<Self> {
        let channels = document["channels"].as_object().context("channels")?;
        let mut found = Vec::new();
        for channel in channels.values() {
            let Some(address) = channel["address"].as_str() else {
                continue;
            };
            let messages = channel["messages"].as_object().context("messages")?;
            let message = messages.values().next().context("a channel without a message")?;
            let payload = &resolved(document, message)?["payload"];
            found.push((address.split('.').map(str::to_owned).collect(), payload.clone()));
        }
        Ok(Self(found))
    }

    /// The schema of the only channel that matches a subject.
    fn schema(&self, subject: &str) -> anyhow::Result<&Value> {
        let tokens: Vec<&str> = subject.split('.').collect();
        let is_of = |address: &[String]| {
            address.len() == tokens.len()
                && address
                    .iter()
                    .zip(&tokens)
                    .all(|(part, token)| part.starts_with('{') || part == token)
        };
        let mut of = self.0.iter().filter(|(address, _)| is_of(address));
        match (of.next(), of.next()) {
            (Some((_, schema)), None) => Ok(schema),
            (found, _) => anyhow::bail!(
                "{subject} is {} described",
                if found.is_some() { "twice" } else { "not" }
            ),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bus_messages_match_the_asyncapi_document() -> anyhow::Result<()> {
    let system = System::start().await?;
    let described = document(&system, "asyncapi.json").await?;
    let channels = Channels::of(&described)?;
    let nats = system.nats().await?;
    let mut asked = subscribe(&nats, "action.>").await?;
    let openapi = document(&system, "openapi.json").await?;
    let mut caller = Caller { system: &system, document: openapi, seen: BTreeMap::new() };
    traffic(&mut caller).await?;
    system.routed().await?;
    let log = system.stream_messages("COMPLETIONS", ">").await?;
    let mut kinds = BTreeSet::new();
    for (subject, body) in &log {
        check_schema(&described, channels.schema(subject)?, body, subject)?;
        kinds.extend(subject.split('.').nth(3).map(str::to_owned));
    }
    // Every action that the requests cause, and both kinds of record.
    for kind in [
        "inForce",
        "fired",
        "request",
        "respond",
        "authenticate",
        "create",
        "delete",
        "deleteAll",
        "deleteById",
        "confirmPassword",
    ] {
        assert!(kinds.contains(kind), "{kind} is not in the log: {kinds:?}");
    }
    // A request is the only completion without an invocation; records are published by the routers
    // themselves.
    let invocations = log.iter().filter(|(subject, _)| {
        let mut parts = subject.split('.').skip(2);
        !matches!((parts.next(), parts.next()), (Some("Concert" | "Requesting"), _))
    });
    for _ in invocations {
        let message = tokio::time::timeout(Duration::from_secs(60), asked.next()).await?;
        let message = message.context("the connection is closed")?;
        let body = serde_json::from_slice(&message.payload)?;
        check_schema(&described, channels.schema(&message.subject)?, &body, &message.subject)?;
    }
    let operator = system.nats_as("operator").await?;
    for (name, input, expected) in [
        ("Profile._getUserByName", json!({ "username": "ada" }), json!({ "rows": [] })),
        ("Profile._getAllUsers", json!({}), json!({ "rows": [] })),
        (
            "Sessioning.delete",
            json!({ "session": "nobody's" }),
            json!({ "error": "Session not found" }),
        ),
    ] {
        let subject = format!("concept.{name}");
        check_schema(&described, channels.schema(&subject)?, &input, &subject)?;
        let answer = operator.request(subject.clone(), input.to_string().into()).await?;
        let answer: Value = serde_json::from_slice(&answer.payload)?;
        assert_eq!(answer, expected, "{name}");
        let key = format!("answer_{}", name.replace('.', "_"));
        let schema = &described["components"]["messages"][&key]["payload"];
        check_schema(&described, schema, &answer, &subject)?;
    }
    Ok(())
}
