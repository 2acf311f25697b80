//! Every line of `docs/nats.md`, sent as the `nats` command line sends it, by the operator.

#![expect(clippy::indexing_slicing, reason = "an answer without these members fails the test")]

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use async_nats::Client;
use concert_tests::nats::subscribe;
use concert_tests::shell::words;
use concert_tests::{Part, System, binaries, service_error};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

/// The command lines in the code blocks of the page.
fn recipes() -> anyhow::Result<Vec<String>> {
    let page = std::fs::read_to_string(binaries::root().join("docs/nats.md"))?;
    let lines = page.lines().filter(|line| line.starts_with("nats "));
    Ok(lines.map(str::to_owned).collect())
}

async fn request(nats: &Client, subject: &str, body: &str) -> anyhow::Result<Value> {
    let answer = nats.request(subject.to_owned(), body.to_owned().into()).await?;
    if let Some((_, error)) = service_error(&answer) {
        bail!("{subject}: {error}");
    }
    let answer: Value = serde_json::from_slice(&answer.payload)?;
    ensure!(
        answer.get("error").is_none() || subject.starts_with("concept."),
        "{subject}: {answer}"
    );
    Ok(answer)
}

/// The first message on a subject during some requests.
async fn first_message(system: &System, nats: &Client, subject: &str) -> anyhow::Result<Value> {
    let mut received = subscribe(nats, subject).await?;
    // An action of each kind that the page watches.
    let login = json!({ "username": "ada", "password": "wrong horse battery" });
    system.post("/auth/login", &login).await?;
    system.post("/auth/logout", &json!({ "session": "nobody's" })).await?;
    let message = tokio::time::timeout(Duration::from_secs(60), received.next()).await;
    let message = message
        .with_context(|| format!("no message on {subject}"))?
        .context("the connection is closed")?;
    Ok(serde_json::from_slice(&message.payload)?)
}

/// All responses to a request with many responders.
async fn all(nats: &Client, subject: &str) -> anyhow::Result<Vec<Value>> {
    let inbox = nats.new_inbox();
    let mut answers = nats.subscribe(inbox.clone()).await?;
    nats.publish_with_reply(subject.to_owned(), inbox, "".into()).await?;
    let mut found = Vec::new();
    while let Ok(Some(answer)) = tokio::time::timeout(Duration::from_secs(2), answers.next()).await
    {
        ensure!(answer.status.is_none(), "{subject}: no responders");
        found.push(serde_json::from_slice(&answer.payload)?);
    }
    ensure!(!found.is_empty(), "{subject}: no responders");
    Ok(found)
}

/// Executes a command line and returns its result.
async fn run(system: &System, nats: &Client, words: &[String]) -> anyhow::Result<Value> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[1..] {
        ["sub", subject] if subject.starts_with("done.0") => {
            // The flow has finished before the subscription.
            let (_, rest) = subject.split_once('.').context("a subject")?;
            ensure!(rest.ends_with(".>"), "{subject}");
            drop(nats.subscribe(subject.to_owned()).await?);
            Ok(Value::Null)
        }
        ["sub", subject] => first_message(system, nats, subject).await,
        ["req", subject, body] => request(nats, subject, body).await,
        ["pub", "--jetstream", subject, body] => {
            // The server rejects a duplicate, and the command line reports it.
            let answer = nats.request(subject.to_owned(), body.to_owned().into()).await?;
            Ok(serde_json::from_slice(&answer.payload)?)
        }
        ["stream", "ls"] => request(nats, "$JS.API.STREAM.LIST", "").await,
        ["stream", "info", stream] => {
            request(nats, &format!("$JS.API.STREAM.INFO.{stream}"), "").await
        }
        ["stream", "subjects", stream, "--filter", filter] => {
            let body = json!({ "subjects_filter": filter }).to_string();
            request(nats, &format!("$JS.API.STREAM.INFO.{stream}"), &body).await
        }
        ["stream", "get", stream, "--last-for", subject] => {
            let body = json!({ "last_by_subj": subject }).to_string();
            request(nats, &format!("$JS.API.STREAM.MSG.GET.{stream}"), &body).await
        }
        ["consumer", "info", stream, consumer] => {
            request(nats, &format!("$JS.API.CONSUMER.INFO.{stream}.{consumer}"), "").await
        }
        ["kv", "get", bucket, key] => {
            let body = json!({ "last_by_subj": format!("$KV.{bucket}.{key}") }).to_string();
            request(nats, &format!("$JS.API.STREAM.MSG.GET.KV_{bucket}"), &body).await
        }
        ["micro", "ls"] => Ok(json!(all(nats, "$SRV.PING").await?)),
        ["micro", verb @ ("ping" | "info" | "stats"), service] => {
            let verb = verb.to_uppercase();
            Ok(json!(all(nats, &format!("$SRV.{verb}.{service}")).await?))
        }
        _ => bail!("the test does not support this command: {words:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_recipe_works_as_documented() -> anyhow::Result<()> {
    let mut system = System::start().await?;
    system.start_part(Part::Archive)?;
    let user = system.account("ada", "correct horse battery").await?;
    let session = system.login("ada", "correct horse battery").await?;
    let answer = system.post("/auth/logout", &json!({ "session": "nobody's" })).await?;
    let flow = answer.headers["concert-flow"].to_str()?.to_owned();
    let operator = system.nats_as("operator").await?;
    system
        .until("the archive answers", async |_| {
            let asked = json!({ "path": "/auth/logout" }).to_string();
            let rows = request(&operator, "concept.Concert._flows", &asked).await.ok();
            Ok(rows.filter(|rows| rows["rows"][0]["flow"] == flow.as_str()).map(drop))
        })
        .await?;
    let names =
        [("FLOW", flow.as_str()), ("SESSION", session.as_str()), ("USER_ID", user.as_str())];
    let recipes = recipes()?;
    assert!(recipes.len() > 30, "{}", recipes.len());
    let mut last = Value::Null;
    for line in &recipes {
        let result =
            run(&system, &operator, &words(line, &names)?).await.with_context(|| line.clone())?;
        let has = |pointer: &str, expected: Value| {
            assert_eq!(result.pointer(pointer), Some(&expected), "{line}: {result}");
        };
        match line.as_str() {
            line if line.contains("_flow ") => {
                has("/rows/0/answered_by", json!("RespondToFailedLogout"))
            }
            line if line.contains("_whyNot") => has("/rows/0/fired", json!(true)),
            line if line.contains("_flows") => has("/rows/0/path", json!("/auth/logout")),
            line if line.contains("_getUserByName") => has("/rows/0/user", json!(user)),
            line if line.contains("_getUser ") => has("/rows/0/user", json!(user)),
            line if line.contains("Sessioning.delete ") => assert_eq!(result, json!({})),
            line if line.contains("01890a5d") && last.get("seq").is_none() => {
                assert!(result.get("seq").is_some(), "{result}")
            }
            // The action may be completed and removed from the queue. Then it is stored again, and
            // its worker finds it completed.
            line if line.contains("pub --jetstream") => {
                assert!(
                    result.get("seq").is_some()
                        || result.pointer("/error/err_code") == Some(&json!(10071)),
                    "{result}"
                );
            }
            line if line.contains("stream subjects") => {
                assert_eq!(
                    result["state"]["subjects"].as_object().map(serde_json::Map::len),
                    Some(3),
                    "{result}"
                );
            }
            line if line.contains("stream ls") => {
                let names = result["streams"].as_array().into_iter().flatten();
                let names: Vec<&str> =
                    names.filter_map(|stream| stream["config"]["name"].as_str()).collect();
                for stream in ["COMPLETIONS", "DEAD", "ACTIONS_Profile"] {
                    assert!(names.contains(&stream), "{names:?}");
                }
            }
            line if line.contains("micro ls") => {
                let names: Vec<&str> = result
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|one| one["name"].as_str())
                    .collect();
                for service in ["Profile", "Sessioning", "Concert"] {
                    assert!(names.contains(&service), "{names:?}");
                }
            }
            line if line.contains("micro stats") => {
                assert!(result[0]["endpoints"].is_array(), "{result}")
            }
            line if line.contains("consumer info") => {
                assert!(result.get("num_pending").is_some(), "{result}")
            }
            _ => {}
        }
        last = result;
    }
    Ok(())
}
