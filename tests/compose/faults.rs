//! Containers are killed while clients log in and out.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use concert_tests::load::Rounds;
use concert_tests::{Answer, Load, http};
use serde_json::{Value, json};

use crate::scenarios::PASSWORD;
use crate::stack::Stack;

/// The services to kill, in this order.
const VICTIMS: [&str; 7] = ["router", "profile", "sessioning", "edge", "archive", "nats", "mongo"];
const CLIENTS: usize = 4;
/// Timeout of one request, including its repetitions.
const TIMEOUT: Duration = Duration::from_secs(120);

struct Client {
    edges: Vec<SocketAddr>,
    number: usize,
    asked: u64,
}

impl Client {
    /// Sends the request to one edge after the other under one idempotency key, until the rules
    /// respond.
    async fn ask(&mut self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.asked += 1;
        let key = format!("{}-{}", self.number, self.asked);
        let headers = [("content-type", "application/json"), ("idempotency-key", &*key)];
        let began = Instant::now();
        loop {
            for edge in &self.edges {
                let asked = http::post_with(
                    *edge,
                    &format!("/api{path}"),
                    body.to_string().into_bytes(),
                    &headers,
                )
                .await;
                // An edge itself responds with 503 and 504; a killed edge does not respond.
                if let Ok(answer) = asked
                    && ![503, 504].contains(&answer.status)
                {
                    return Ok(answer);
                }
                ensure!(began.elapsed() < TIMEOUT, "no response to {path}");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn is(&mut self, path: &str, body: &Value, status: u16) -> anyhow::Result<Answer> {
        let answer = self.ask(path, body).await?;
        ensure!(answer.status == status, "{path}: expected {status}, got {answer:?}");
        Ok(answer)
    }

    async fn live(mut self, rounds: Rounds) -> anyhow::Result<()> {
        let who = json!({ "username": format!("client{}", self.number), "password": PASSWORD });
        self.is("/auth/createAccount", &who, 200).await?;
        while rounds.continues() {
            let login = self.is("/auth/login", &who, 200).await?;
            let session = json!({ "session": login.text("session")? });
            self.is("/auth/whoami", &session, 200).await?;
            self.is("/auth/logout", &session, 200).await?;
            self.is("/auth/whoami", &session, 401).await?;
            rounds.done();
            self.edges.reverse();
        }
        // No login left a second session.
        let login = self.is("/auth/login", &who, 200).await?;
        let sessions =
            self.is("/auth/sessions", &json!({ "session": login.text("session")? }), 200).await?;
        let count = sessions.body.get("sessions").and_then(Value::as_array).map(Vec::len);
        ensure!(count == Some(1), "{sessions:?}");
        Ok(())
    }
}

/// Kills one container of each service under load. The other edge responds to every request, or the
/// killed one does after its restart; afterwards nothing is lost, dead or left over.
pub(crate) async fn are_survived(stack: &Stack) -> anyhow::Result<()> {
    let edges = stack.edges().await?;
    let mut load = Load::begin(CLIENTS, |number, rounds| {
        let client = Client { edges: edges.clone(), number, asked: 0 };
        client.live(rounds)
    });
    kill_each(stack, &mut load).await?;
    load.end().await?;
    let dead = stack.concert(&["dead", "list"]).await?;
    ensure!(dead.contains("no dead letters"), "{dead}");
    Ok(())
}

async fn kill_each(stack: &Stack, load: &mut Load) -> anyhow::Result<()> {
    load.wait_for_progress(2 * TIMEOUT).await?;
    for service in VICTIMS {
        let victim = stack.one(service).await?;
        let took = stack.kill(service, &victim).await?;
        let well = Instant::now();
        load.wait_for_progress(2 * TIMEOUT)
            .await
            .with_context(|| format!("after {service} was killed"))?;
        eprintln!(
            "{service}: healthy again after {took:.1?}, all clients progressed {:.1?} later",
            well.elapsed()
        );
    }
    Ok(())
}
