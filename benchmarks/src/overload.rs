//! More logins than the processors can serve, from clients that retry as soon as they are rejected.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::bail;
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::task::JoinSet;

use crate::http::Connection;
use crate::load::{self, Load, Steps, Until, histogram};

/// Concurrent clients; many more than the edge admits.
const CLIENTS: usize = 640;
/// Delay before a rejected client retries.
const REFUSED_WAIT: Duration = Duration::from_millis(100);
/// Clients that log out at the same time.
const LOGOUTS: usize = 2;

/// The result of the overload run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Overload {
    /// Logins with status 200, per second.
    pub(crate) answered_per_second: f64,
    /// Logins with status 503, per second.
    pub(crate) refused_per_second: f64,
    /// Response times of status 200, in milliseconds.
    pub(crate) answered_p99_ms: f64,
    /// Response times of status 503, in milliseconds.
    pub(crate) refused_p99_ms: f64,
    /// Response times of logouts of unknown sessions under this load, in milliseconds.
    pub(crate) logout_p99_ms: f64,
    /// Response time of the first login afterwards, in milliseconds.
    pub(crate) next_login_ms: f64,
}

struct Seen {
    answered: Histogram<u64>,
    refused: Histogram<u64>,
}

/// Runs the overload; `logins` and `logouts` create the requests.
pub(crate) async fn run(
    address: SocketAddr,
    time: Duration,
    logins: Steps,
    logouts: Steps,
) -> anyhow::Result<Overload> {
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(client(address, number, began + time, logins.clone()));
    }
    let Load { latency_us, .. } =
        load::run(vec![address], LOGOUTS, Until::Time(time), logouts).await?;
    let mut seen = Seen { answered: histogram()?, refused: histogram()? };
    while let Some(client) = clients.join_next().await {
        let client = client??;
        seen.answered.add(client.answered)?;
        seen.refused.add(client.refused)?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let next = load::run(vec![address], 1, Until::Flows(1), logins).await?;
    let ms = |latency: &Histogram<u64>| latency.value_at_quantile(0.99) as f64 / 1000.0;
    Ok(Overload {
        answered_per_second: seen.answered.len() as f64 / seconds,
        refused_per_second: seen.refused.len() as f64 / seconds,
        answered_p99_ms: ms(&seen.answered),
        refused_p99_ms: ms(&seen.refused),
        logout_p99_ms: ms(&latency_us),
        next_login_ms: next.latency_us.max() as f64 / 1000.0,
    })
}

async fn client(
    address: SocketAddr,
    number: usize,
    end: Instant,
    logins: Steps,
) -> anyhow::Result<Seen> {
    let mut seen = Seen { answered: histogram()?, refused: histogram()? };
    let mut connection = Connection::open(address).await?;
    while Instant::now() < end
        && let Some(step) = logins(u64::try_from(number)?)
    {
        let sent = Instant::now();
        let answer = connection.post(&step.path, &step.body).await?;
        let took_us = u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX);
        if answer.status == step.status {
            seen.answered.saturating_record(took_us);
        } else if answer.status == 503 {
            seen.refused.saturating_record(took_us);
            tokio::time::sleep(REFUSED_WAIT).await;
        } else {
            bail!("{} returned {}", step.path, answer.status);
        }
    }
    Ok(seen)
}
