//! Keys are added, used and dropped while clients log in and out without errors.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_nats::HeaderMap;
use concert_tests::{Load, Part, System, binaries, http, service_error};
use serde_json::json;

const PASSWORD: &str = "correct horse battery";
const CLIENTS: usize = 3;

/// Timeout until every client has logged in and out once more.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Clients that log in and out until they are stopped.
async fn load(system: &System) -> anyhow::Result<Load> {
    for number in 0..CLIENTS {
        system.account(&format!("ada{number}"), PASSWORD).await?;
    }
    let edge = system.address();
    Ok(Load::begin(CLIENTS, |number, rounds| async move {
        while rounds.continues() {
            let body = json!({ "username": format!("ada{number}"), "password": PASSWORD });
            let answer = http::post(edge, "/api/auth/login", &body).await?;
            ensure!(answer.status == 200, "a login: {answer:?}");
            let body = json!({ "session": answer.text("session")? });
            let answer = http::post(edge, "/api/auth/logout", &body).await?;
            ensure!(answer.status == 200, "a logout: {answer:?}");
            rounds.done();
        }
        Ok(())
    }))
}

/// Runs `concert keys …` and returns its output.
async fn keys(system: &System, args: &[&str]) -> anyhow::Result<String> {
    binaries::finished(system.concert(&["keys"]).args(args)).await
}

/// Adds a key; its id.
async fn add(system: &System, purpose: &str) -> anyhow::Result<String> {
    let printed = keys(system, &["add", purpose]).await?;
    let id = printed.trim().strip_prefix(purpose).context("no id")?;
    Ok(id.trim().to_owned())
}

/// Ids of the keys in use, by purpose.
async fn current(system: &System) -> anyhow::Result<BTreeMap<String, String>> {
    let listed = keys(system, &["list"]).await?;
    let in_use = listed.lines().filter(|line| line.trim_end().ends_with("in use"));
    let ids = in_use.filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    });
    Ok(ids.collect())
}

/// Waits until processes have logged that they have these keys, the used one first.
async fn seen(system: &System, parts: &[Part], ids: &str) -> anyhow::Result<()> {
    system
        .until("every process has the keys", async |system: &System| {
            for part in parts {
                if !system.log(*part)?.contains(ids) {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
        .await
}

/// Queries the user of a session that is sealed for a flow.
async fn user_of(system: &System, flow: &str, sealed: &str) -> anyhow::Result<String> {
    let mut headers = HeaderMap::new();
    headers.insert("Concert-Flow", flow);
    let asked = json!({ "session": sealed }).to_string();
    let nats = system.nats_as("operator").await?;
    let answer =
        nats.request_with_headers("concept.Sessioning._getUser", headers, asked.into()).await?;
    Ok(match service_error(&answer) {
        Some((code, _)) => code.to_owned(),
        None => String::from_utf8_lossy(&answer.payload).into_owned(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_without_interrupting_sessions_or_requests() -> anyhow::Result<()> {
    let system = System::start().await?;
    system.account("grace", PASSWORD).await?;
    let body = json!({ "username": "grace", "password": PASSWORD });
    let before = system.post("/auth/login", &body).await?;
    let flow = before.headers["concert-flow"].to_str()?.to_owned();
    let made = system.flow(&flow).await?;
    let made = made.iter().find(|(subject, _)| subject.contains(".Sessioning.create."));
    let sealed = made.context("no session")?.1["output"]["session"]
        .as_str()
        .context("no session")?
        .to_owned();
    let ids = current(&system).await?;
    let of_seal = ids.get("seal").context("no sealing key")?;
    assert!(sealed.starts_with(&format!("sealed:{of_seal}:")));
    assert!(user_of(&system, &flow, &sealed).await?.contains("user"));

    let mut load = load(&system).await?;
    for (purpose, parts) in [
        ("seal", &[Part::Edge, Part::Profile, Part::Sessioning][..]),
        ("session", &[Part::Sessioning]),
        ("edge", &[Part::Edge]),
    ] {
        let file = format!("{purpose}.key");
        let old = ids.get(purpose).context("no key")?;
        let new = add(&system, purpose).await?;
        seen(&system, parts, &format!(r#"file="{file}" keys=["{old}", "{new}"]"#)).await?;
        load.wait_for_progress(TIMEOUT).await?;
        keys(&system, &["use", purpose, &new]).await?;
        seen(&system, parts, &format!(r#"file="{file}" keys=["{new}", "{old}"]"#)).await?;
        load.wait_for_progress(TIMEOUT).await?;
    }
    // The old keys still open seals and recognise sessions.
    assert!(user_of(&system, &flow, &sealed).await?.contains("user"));
    for (purpose, parts) in [
        ("seal", &[Part::Edge, Part::Profile, Part::Sessioning][..]),
        ("session", &[Part::Sessioning]),
    ] {
        keys(&system, &["drop", purpose, ids.get(purpose).context("no key")?]).await?;
        let new = current(&system).await?.remove(purpose).context("no key")?;
        seen(&system, parts, &format!(r#"file="{purpose}.key" keys=["{new}"]"#)).await?;
    }
    load.wait_for_progress(TIMEOUT).await?;
    // The worker cannot exclude that the key arrives later.
    assert_eq!(user_of(&system, &flow, &sealed).await?, "503");
    load.end().await?;
    // A session stays valid after its key is dropped.
    let session = json!({ "session": before.text("session")? });
    assert_eq!(system.post("/auth/whoami", &session).await?.status, 200);
    assert_eq!(system.post("/auth/logout", &session).await?.status, 200);
    assert_eq!(system.post("/auth/logout", &session).await?.status, 404);
    assert!(system.subjects("DEAD", "dead.>").await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn key_used_before_every_process_has_it_is_reloaded() -> anyhow::Result<()> {
    let system = System::start().await?;
    let mut load = load(&system).await?;
    for _ in 0..6 {
        let id = add(&system, "seal").await?;
        keys(&system, &["use", "seal", &id]).await?;
        load.wait_for_progress(TIMEOUT).await?;
    }
    load.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn action_whose_key_arrives_late_succeeds_on_retry() -> anyhow::Result<()> {
    let mut system = System::with(&[("CONCERT_WORKERS__ATTEMPTS", "2")]).await?;
    // A worker with its own copy of the keys, which does not get the new key.
    system.terminate(Part::Profile).await?;
    let copies = tempfile::tempdir()?;
    let keys_dir = system.seeds("x").parent().and_then(Path::parent).context("no keys")?.to_owned();
    let copy_key = || std::fs::copy(keys_dir.join("seal.key"), copies.path().join("seal.key"));
    copy_key()?;
    std::fs::create_dir(copies.path().join("mongo"))?;
    let database_key = Path::new("mongo").join("profile.key");
    std::fs::copy(keys_dir.join(&database_key), copies.path().join(&database_key))?;
    let mut worker = system.concert(&["worker", "profile"]);
    worker.env("CONCERT_APP__KEYS_DIR", copies.path());
    let seeds = system.seeds("profile");
    let _worker = worker.env("NATS_NKEY", seeds).stderr(Stdio::null()).spawn()?;
    let id = add(&system, "seal").await?;
    keys(&system, &["use", "seal", &id]).await?;
    seen(&system, &[Part::Edge], &format!(r#"file="seal.key" keys=["{id}", "#)).await?;

    let body = json!({ "username": "ada", "password": PASSWORD });
    assert_eq!(system.post("/auth/createAccount", &body).await?.status, 500);
    let dead_letters = system.stream_messages("DEAD", "dead.>").await?;
    let [(subject, dead_letter)] = &dead_letters[..] else { anyhow::bail!("{dead_letters:?}") };
    assert!(subject.starts_with("dead.Profile.createAccount"), "{subject}");
    assert!(dead_letter.to_string().contains(&format!("sealed:{id}:")), "{dead_letter}");

    copy_key()?;
    binaries::finished(&mut system.concert(&["dead", "retry", "--all"])).await?;
    // The password is what was typed, and not its seal.
    system.login("ada", PASSWORD).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_request_keeps_its_original_edge_key() -> anyhow::Result<()> {
    let system = System::start().await?;
    system.account("ada", PASSWORD).await?;
    let body = json!({ "username": "ada", "password": PASSWORD });
    let headers = [("content-type", "application/json"), ("idempotency-key", "once")];
    let post = async || {
        http::post_with(system.address(), "/api/auth/login", body.to_string().into(), &headers)
            .await
    };
    let first = post().await?;
    let id = add(&system, "edge").await?;
    keys(&system, &["use", "edge", &id]).await?;
    seen(&system, &[Part::Edge], &format!(r#"file="edge.key" keys=["{id}", "#)).await?;
    let again = post().await?;
    assert_eq!(first.headers["concert-flow"], again.headers["concert-flow"]);
    assert_eq!(first.body, again.body);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bus_users_change_keys_without_a_restart() -> anyhow::Result<()> {
    let system = System::start().await?;
    let mut load = load(&system).await?;
    for user in ["edge", "router", "profile", "sessioning"] {
        let name = format!("nats/{user}");
        let old = std::fs::read_to_string(system.seeds(user))?;
        let old_key = nkeys::KeyPair::from_seed(old.trim())?.public_key();
        let added = keys(&system, &["add", &name]).await?;
        let new_key = added.split_whitespace().last().context("no key")?.to_owned();
        system.servers.nats.reload();
        // Both keys are accepted.
        let options = |seed: &str| async_nats::ConnectOptions::with_nkey(seed.trim().to_owned());
        let new = std::fs::read_to_string(system.seeds(user))?;
        let new = new.lines().nth(1).context("no seed")?.to_owned();
        system
            .until("the server knows the new key", async |system: &System| {
                Ok(options(&new).connect(system.servers.nats.url()).await.ok())
            })
            .await?;
        load.wait_for_progress(TIMEOUT).await?;
        keys(&system, &["use", &name, &new_key]).await?;
        keys(&system, &["drop", &name, &old_key]).await?;
        system.servers.nats.reload();
        system
            .until("the server rejects the old key", async |system: &System| {
                Ok(options(&old).connect(system.servers.nats.url()).await.err())
            })
            .await?;
        load.wait_for_progress(TIMEOUT).await?;
    }
    load.end().await?;
    let listed = keys(&system, &["list"]).await?;
    let users: Vec<&str> = listed.lines().filter(|line| line.starts_with("nats/")).collect();
    assert_eq!(
        users.iter().filter(|line| line.ends_with("in use")).count(),
        users.len(),
        "{listed}"
    );
    for part in [Part::Edge, Part::Router, Part::Profile, Part::Sessioning] {
        let log = system.log(part)?;
        let connected = log.matches("connected to NATS").count();
        // A connection lost in between counts as another one.
        ensure!(connected >= 2, "{part:?} connected {connected} times");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn database_users_change_keys_without_a_restart() -> anyhow::Result<()> {
    let system = System::start().await?;
    let mut load = load(&system).await?;
    let before = current(&system).await?;
    for (user, part) in [("profile", Part::Profile), ("sessioning", Part::Sessioning)] {
        let name = format!("mongo/{user}");
        let old = before.get(&name).context("no key")?;
        let new = add(&system, &name).await?;
        keys(&system, &["use", &name, &new]).await?;
        let used =
            format!(r#"connected to MongoDB with the current key concept="{part:?}" key="{new}""#);
        seen(&system, &[part], &used).await?;
        keys(&system, &["drop", &name, old]).await?;
        load.wait_for_progress(TIMEOUT).await?;
    }
    load.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_keys_and_the_key_in_use_are_rejected() -> anyhow::Result<()> {
    let system = System::start().await?;
    let current = current(&system).await?;
    let id = current.get("seal").context("no key")?;
    for (args, why) in [
        (&["drop", "seal", id][..], format!("`{id}` is in use; use another key first")),
        (&["use", "seal", "k9"], format!("seal has no key `k9`; it has {id}")),
        (&["add", "nats/nobody"], "nobody".to_owned()),
    ] {
        let refused = keys(&system, args).await.map_err(|error| error.to_string());
        assert!(refused.as_ref().is_err_and(|error| error.contains(&why)), "{refused:?}");
    }
    let listed = keys(&system, &["list"]).await?;
    let services = ["nats/edge", "nats/router", "nats/archive", "nats/setup", "nats/operator"];
    let concepts = ["nats/profile", "nats/sessioning", "mongo/profile", "mongo/sessioning"];
    for name in
        ["seal", "session", "edge", "mongo/archive"].iter().chain(&services).chain(&concepts)
    {
        let of_name = |line: &&str| line.split_whitespace().next() == Some(name);
        let lines: Vec<&str> = listed.lines().filter(of_name).collect();
        assert!(matches!(lines[..], [line] if line.ends_with("in use")), "{name}: {listed}");
    }
    Ok(())
}
