//! Runs the commands of the README and compares their results with the page.

#![expect(clippy::indexing_slicing, reason = "an answer without these members fails the test")]

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use concert_tests::nats::subscribe;
use concert_tests::shell::{is_as_shown, words};
use concert_tests::{Part, System, binaries, http, service_error};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// The lines of the page's code blocks, with continued lines joined.
fn lines() -> anyhow::Result<Vec<String>> {
    let page = std::fs::read_to_string(binaries::root().join("README.md"))?;
    let blocks = page.split("```").skip(1).step_by(2);
    let joined = blocks.map(|block| block.replace("\\\n", " "));
    Ok(joined.flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>()).collect())
}

/// Sends the request of a `curl` command and returns the response.
async fn curl(system: &System, words: &[String]) -> anyhow::Result<Value> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ["curl", "-s", url, "-H", content_type, "-d", body] = words[..] else {
        bail!("the test does not support this command: {words:?}");
    };
    let path = url.strip_prefix("http://127.0.0.1:8000").context("another address")?;
    ensure!(content_type == "content-type: application/json", "{content_type}");
    Ok(http::post(system.address(), path, &serde_json::from_str(body)?).await?.body)
}

/// Sends the message of a `nats` command as the operator.
async fn nats(system: &System, words: &[String]) -> anyhow::Result<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let operator = system.nats_as("operator").await?;
    let (subject, body) = match words[1..] {
        ["sub", subject] => {
            subscribe(&operator, subject).await?;
            return Ok(());
        }
        ["req", subject, body] | ["pub", "--jetstream", subject, body] => (subject, body),
        ["micro", "ls"] => ("$SRV.PING", ""),
        _ => bail!("the test does not support this command: {words:?}"),
    };
    let answer = operator.request(subject.to_owned(), body.to_owned().into()).await?;
    let refused = service_error(&answer);
    ensure!(refused.is_none(), "{refused:?}");
    let answer: Value = serde_json::from_slice(&answer.payload)?;
    // An ended session is a refusal by the concept, and a valid response.
    let is_stored = answer.get("seq").is_some();
    ensure!(is_stored || words[1] != "pub", "{answer}");
    Ok(())
}

/// Runs a `concert` command until it prints a line with a text; whether there was one.
async fn concert(system: &System, words: &[String], text: &str) -> anyhow::Result<bool> {
    let mut command = system.command("concert");
    let mut child = command.args(&words[1..]).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    while let Some(line) = lines.next_line().await? {
        if line.contains(text) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[tokio::test(flavor = "multi_thread")]
async fn readme_commands_work_as_documented() -> anyhow::Result<()> {
    let mut system = System::start().await?;
    system.start_part(Part::Archive)?;
    let lines = lines()?;
    let (mut session, mut counts) = (String::new(), [0; 3]);
    for (number, line) in lines.iter().enumerate() {
        // A session and a flow are abbreviated.
        let line = line.replace("p2Jx…", &session);
        let words = words(&line, &[])?;
        match words.first().map(String::as_str) {
            Some("curl") => {
                counts[0] += 1;
                let answer = curl(&system, &words).await?;
                let shown = lines[number + 1].strip_prefix("# ").context("no answer is shown")?;
                assert!(
                    is_as_shown(&serde_json::from_str(shown)?, &answer),
                    "{line}\n{shown}\n{answer}"
                );
                if let Some(given) = answer["session"].as_str() {
                    given.clone_into(&mut session);
                }
            }
            Some("nats") => {
                counts[1] += 1;
                nats(&system, &words).await.with_context(|| line.clone())?;
            }
            Some("concert") => {
                counts[2] += 1;
                let failed = json!({ "username": "ada", "password": "wrong horse" });
                let login = async || system.post("/auth/login", &failed).await;
                let flow = login().await?.headers["concert-flow"].to_str()?.to_owned();
                let words: Vec<String> =
                    words.iter().map(|word| word.replace("019a…", &flow)).collect();
                let expected = match words[1].as_str() {
                    "flow" => flow.as_str(),
                    "why-not" => "CreateSessionOnSuccessfulAuthentication",
                    _ => "/auth/login",
                };
                // Logins happen while the command runs.
                let busy = async {
                    while login().await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                };
                let come = system.until("the command prints the text", async |system: &System| {
                    let seen = tokio::time::timeout(
                        Duration::from_secs(20),
                        concert(system, &words, expected),
                    )
                    .await;
                    Ok((seen.ok().transpose()? == Some(true)).then_some(()))
                });
                tokio::select! {
                    come = come => come.with_context(|| line.clone())?,
                    () = busy => bail!("no login succeeds"),
                }
            }
            _ => {}
        }
    }
    assert_eq!(counts, [3, 5, 4], "a line was skipped");
    Ok(())
}
