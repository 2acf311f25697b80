//! A closed loop: so many clients, each of which sends its next request when it has the answer to
//! the last.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::http::Connection;

/// What a client sends, and which status it must get.
pub(crate) struct Step {
    /// The path below the base.
    pub(crate) path: &'static str,
    /// The body.
    pub(crate) body: String,
    /// Anything else ends the run.
    pub(crate) status: u16,
}

/// Makes the next request; `None` when there is none left.
pub(crate) type Steps = Arc<dyn Fn(u64) -> Option<Step> + Send + Sync>;

/// What a run came to.
pub(crate) struct Load {
    /// Requests answered.
    pub(crate) flows: u64,
    /// From the first request to the last answer.
    pub(crate) took: Duration,
    /// Times to the answer, in microseconds.
    pub(crate) latency_us: Histogram<u64>,
}

impl Load {
    /// Requests answered per second.
    pub(crate) fn rate(&self) -> f64 {
        self.flows as f64 / self.took.as_secs_f64()
    }
}

/// How long a client may run until it ends.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    /// The time has passed.
    Time(Duration),
    /// So many requests were sent, by all clients together.
    Flows(u64),
}

/// Runs so many clients.
pub(crate) async fn run(
    address: SocketAddr,
    in_flight: usize,
    until: Until,
    steps: Steps,
) -> anyhow::Result<Load> {
    let counter = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    let mut connections = Vec::new();
    for _ in 0..in_flight {
        connections.push(Connection::open(address).await?);
    }
    let began = Instant::now();
    for connection in connections {
        clients.spawn(client(connection, began, until, counter.clone(), steps.clone()));
    }
    let mut latency_us = histogram()?;
    while let Some(client) = clients.join_next().await {
        latency_us.add(client??)?;
    }
    Ok(Load { flows: latency_us.len(), took: began.elapsed(), latency_us })
}

/// An empty histogram of microseconds, up to a minute, to three figures.
pub(crate) fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000, 3)?)
}

async fn client(
    mut connection: Connection,
    began: Instant,
    until: Until,
    counter: Arc<AtomicU64>,
    steps: Steps,
) -> anyhow::Result<Histogram<u64>> {
    let mut latency_us = histogram()?;
    loop {
        let number = counter.fetch_add(1, Ordering::Relaxed);
        let over = match until {
            Until::Time(time) => began.elapsed() >= time,
            Until::Flows(flows) => number >= flows,
        };
        let Some(step) = (!over).then(|| steps(number)).flatten() else {
            return Ok(latency_us);
        };
        let sent = Instant::now();
        let answer = connection.post(step.path, &step.body).await?;
        latency_us.saturating_record(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
        if answer.status != step.status {
            bail!(
                "{} answered {} instead of {}: {}",
                step.path,
                answer.status,
                step.status,
                String::from_utf8_lossy(&answer.body)
            );
        }
    }
}
