//! Containers are killed while people log in and out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use concert_tests::{Answer, http};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::scenarios::PASSWORD;
use crate::stack::Stack;

/// What is killed, in this order.
const VICTIMS: [&str; 7] = ["router", "profile", "sessioning", "edge", "archive", "nats", "mongo"];
const CLIENTS: usize = 4;
/// How long one request may take, with everything that is sent again.
const PATIENCE: Duration = Duration::from_secs(120);

struct Client {
    edges: Vec<SocketAddr>,
    number: usize,
    asked: u64,
    /// How often it has come through.
    rounds: Arc<AtomicU64>,
}

impl Client {
    /// Asks one edge after the other, under one key, until there is an answer of the rules.
    async fn ask(&mut self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.asked += 1;
        let key = format!("{}-{}", self.number, self.asked);
        let headers = [("content-type", "application/json"), ("idempotency-key", &*key)];
        let began = Instant::now();
        loop {
            for edge in &self.edges {
                let asked =
                    http::post_with(*edge, &format!("/api{path}"), body.to_string().into_bytes(), &headers).await;
                // 503 and 504 are what an edge says by itself; no answer is what a killed one says.
                if let Ok(answer) = asked
                    && ![503, 504].contains(&answer.status)
                {
                    return Ok(answer);
                }
                ensure!(began.elapsed() < PATIENCE, "no answer to {path}");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn is(&mut self, path: &str, body: &Value, status: u16) -> anyhow::Result<Answer> {
        let answer = self.ask(path, body).await?;
        ensure!(answer.status == status, "{path}: {answer:?} and not {status}");
        Ok(answer)
    }

    async fn live(mut self, end: Arc<AtomicBool>) -> anyhow::Result<()> {
        let who = json!({ "username": format!("client{}", self.number), "password": PASSWORD });
        self.is("/auth/createAccount", &who, 200).await?;
        while !end.load(Ordering::Relaxed) {
            let login = self.is("/auth/login", &who, 200).await?;
            let session = json!({ "session": login.text("session")? });
            self.is("/auth/whoami", &session, 200).await?;
            self.is("/auth/logout", &session, 200).await?;
            self.is("/auth/whoami", &session, 401).await?;
            self.rounds.fetch_add(1, Ordering::Relaxed);
            self.edges.reverse();
        }
        // No login left a second session.
        let login = self.is("/auth/login", &who, 200).await?;
        let sessions = self
            .is("/auth/sessions", &json!({ "session": login.text("session")? }), 200)
            .await?;
        let count = sessions.body.get("sessions").and_then(Value::as_array).map(Vec::len);
        ensure!(count == Some(1), "{sessions:?}");
        Ok(())
    }
}

struct Load {
    end: Arc<AtomicBool>,
    rounds: Vec<Arc<AtomicU64>>,
    clients: Vec<JoinHandle<anyhow::Result<()>>>,
}

impl Load {
    fn begin(edges: &[SocketAddr]) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let rounds: Vec<Arc<AtomicU64>> = (0..CLIENTS).map(|_| Arc::default()).collect();
        let client = |(number, rounds): (usize, &Arc<AtomicU64>)| Client {
            edges: edges.to_vec(),
            number,
            asked: 0,
            rounds: rounds.clone(),
        };
        let clients = rounds.iter().enumerate().map(client);
        let clients = clients.map(|client| tokio::spawn(client.live(end.clone()))).collect();
        Self { end, rounds, clients }
    }

    /// Waits until everybody has come through once more.
    async fn goes_on(&self) -> anyhow::Result<()> {
        let now = || self.rounds.iter().map(|rounds| rounds.load(Ordering::Relaxed));
        let wanted: Vec<u64> = now().map(|rounds| rounds + 2).collect();
        let began = Instant::now();
        while !now().zip(&wanted).all(|(rounds, wanted)| rounds >= *wanted) {
            if self.clients.iter().any(JoinHandle::is_finished) {
                bail!("somebody has failed");
            }
            ensure!(began.elapsed() < 2 * PATIENCE, "people do not come through");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn end(self) -> anyhow::Result<()> {
        self.end.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await??;
        }
        Ok(())
    }
}

/// Kills one container of each service under load. Everybody is answered, by the edge that is left or when it is back, and afterwards nothing is lost, dead or left over.
pub(crate) async fn are_survived(stack: &Stack) -> anyhow::Result<()> {
    let load = Load::begin(&stack.edges().await?);
    let outcome = kill_each(stack, &load).await;
    load.end().await?;
    outcome?;
    let dead = stack.command(&["concert", "dead", "list"]).await?;
    ensure!(!dead.contains("action."), "{dead}");
    Ok(())
}

async fn kill_each(stack: &Stack, load: &Load) -> anyhow::Result<()> {
    load.goes_on().await?;
    for service in VICTIMS {
        let victim = stack.containers(service).await?.first().context("none")?.clone();
        let took = stack.kill(service, &victim).await?;
        let well = Instant::now();
        load.goes_on()
            .await
            .with_context(|| format!("after {service} was killed"))?;
        eprintln!(
            "{service}: well again after {took:.1?}, everybody through {:.1?} later",
            well.elapsed()
        );
    }
    Ok(())
}
