//! A closed loop: a number of clients that each send the next request after a response.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::http::Connection;

/// A request of a client and the status that it must get.
pub(crate) struct Step {
    /// The path.
    pub(crate) path: Cow<'static, str>,
    /// The body.
    pub(crate) body: String,
    /// The expected status; any other ends the run.
    pub(crate) status: u16,
}

/// Makes the next request; returns `None` after the last one.
pub(crate) type Steps = Arc<dyn Fn(u64) -> Option<Step> + Send + Sync>;

/// The result of a load.
pub(crate) struct Load {
    /// Requests with a response.
    pub(crate) flows: u64,
    /// Time from the first request to the last response.
    pub(crate) took: Duration,
    /// Response times, in microseconds.
    pub(crate) latency_us: Histogram<u64>,
}

impl Load {
    /// Requests with a response, per second.
    pub(crate) fn rate(&self) -> f64 {
        self.flows as f64 / self.took.as_secs_f64()
    }
}

/// The end of a load.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    /// After this time.
    Time(Duration),
    /// After this number of requests of all clients.
    Flows(u64),
}

/// Runs a number of clients until the load ends.
pub(crate) async fn run(
    addresses: Vec<SocketAddr>,
    in_flight: usize,
    until: Until,
    steps: Steps,
) -> anyhow::Result<Load> {
    let counter = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    let mut connections = Vec::new();
    for address in addresses.iter().cycle().take(in_flight) {
        connections.push(Connection::open(*address).await?);
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

/// An empty histogram of microseconds, up to a minute, with three significant digits.
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
        let answer = connection.post(&step.path, &step.body).await?;
        latency_us.saturating_record(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
        if answer.status != step.status {
            bail!(
                "{} returned {} instead of {}: {}",
                step.path,
                answer.status,
                step.status,
                String::from_utf8_lossy(&answer.body)
            );
        }
    }
}
