//! Every process is restarted in turn while clients log in and out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use concert_tests::{PARTS, Part, System, http};
use serde_json::{Value, json};
use tokio::time::Instant;

const PASSWORD: &str = "correct horse battery";
const CLIENTS: usize = 8;

/// Acts as a load balancer: sends each request to an edge that is ready.
async fn post(
    edges: [SocketAddr; 2],
    first: usize,
    path: &str,
    body: &Value,
) -> anyhow::Result<http::Answer> {
    for edge in edges.into_iter().cycle().skip(first % 2).take(20) {
        if http::is_ready(edge).await {
            return http::post(edge, path, body).await;
        }
    }
    anyhow::bail!("no edge is ready")
}

/// Logs in and out until the end; returns the number of rounds and the longest response time.
async fn client(
    edges: [SocketAddr; 2],
    number: usize,
    end: Arc<AtomicBool>,
) -> anyhow::Result<(usize, Duration)> {
    let username = format!("ada{number}");
    let (mut rounds, mut slowest) = (0, Duration::ZERO);
    while !end.load(Ordering::Relaxed) {
        let mut session = Value::Null;
        for (path, body, status) in [
            ("login", json!({ "username": username, "password": PASSWORD }), 200),
            ("logout", json!({ "session": "" }), 200),
            ("logout", json!({ "session": "" }), 404),
            ("login", json!({ "username": username, "password": "wrong horse" }), 401),
        ] {
            let mut body = body;
            if let Some(place) = body.get_mut("session") {
                *place = session.clone();
            }
            let began = Instant::now();
            let answer = post(edges, number + rounds, &format!("/api/auth/{path}"), &body).await;
            let answer = answer.with_context(|| format!("{path}, round {rounds}"))?;
            ensure!(answer.status == status, "{path}, round {rounds}: {answer:?}");
            slowest = slowest.max(began.elapsed());
            if let Some(new) = answer.body.get("session") {
                session = new.clone();
            }
        }
        rounds += 1;
    }
    Ok((rounds, slowest))
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_restart_under_load_causes_no_client_errors() -> anyhow::Result<()> {
    // All clients have one address, and each logs in with a wrong password in every round.
    let mut system =
        System::with(&[("CONCERT_WORKERS__PROFILE__SETTINGS__LOGIN_CLIENT_FAILURES", "0")]).await?;
    for part in PARTS {
        system.start_one(part, 1)?;
    }
    system.ready().await?;
    let mut users = Vec::new();
    for number in 0..CLIENTS {
        users.push(system.account(&format!("ada{number}"), PASSWORD).await?);
    }
    let end = Arc::new(AtomicBool::new(false));
    let edges = [system.edge(0)?, system.edge(1)?];
    let clients: Vec<_> =
        (0..CLIENTS).map(|number| tokio::spawn(client(edges, number, end.clone()))).collect();
    for part in [Part::Router, Part::Profile, Part::Sessioning, Part::Edge] {
        for number in [0, 1] {
            system.terminate_one(part, number).await?;
            // For a while only one instance runs.
            tokio::time::sleep(Duration::from_millis(500)).await;
            system.start_one(part, number)?;
            system.ready().await?;
        }
    }
    end.store(true, Ordering::Relaxed);
    let mut rounds = 0;
    for client in clients {
        let (done, slowest) = client.await??;
        // The server would redeliver an unfinished message of an exited process after eight
        // seconds.
        ensure!(slowest < Duration::from_secs(7), "a response after {slowest:?}");
        rounds += done;
    }
    ensure!(rounds > CLIENTS, "{rounds} rounds");

    // Nothing is duplicated or left over.
    system.routed().await?;
    let done = |name: &str| format!("done.*.{name}.*");
    let created = system.subjects("COMPLETIONS", &done("Sessioning.create")).await?.len();
    assert_eq!(created, rounds);
    let requests = system.subjects("COMPLETIONS", &done("Requesting.request")).await?.len();
    let responses = system.subjects("COMPLETIONS", &done("Requesting.respond")).await?.len();
    assert_eq!((requests, responses), (CLIENTS + 4 * rounds, CLIENTS + 4 * rounds));
    assert!(system.subjects("DEAD", "dead.>").await?.is_empty());
    let nats = system.nats().await?;
    for user in users {
        let asked = json!({ "user": user }).to_string();
        let rows = nats.request("concept.Sessioning._getSessions", asked.into()).await?;
        let rows: Value = serde_json::from_slice(&rows.payload)?;
        assert_eq!(rows["rows"], json!([]), "a session without a known token");
    }
    Ok(())
}
