//! Cost of archiving, counting and tracing every flow: alternates the load between a stack without
//! an archive and a stack with everything on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use concert_runtime::streams;
use concert_wire::subject::{ARCHIVES, LOG};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::args::BenchArgs;
use crate::kind::Kind;
use crate::measurement::{Cost, median};
use crate::scenario::Scenarios;
use crate::stack::{BenchStack, Extras};

/// Number of rounds per kind and stack.
const ROUNDS: usize = 3;
/// Interval between reads of the metrics; shorter than that of a usual Prometheus.
const SCRAPE_EVERY: Duration = Duration::from_secs(1);
/// Maximum time for the archive to catch up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Alternates the load between both stacks.
pub(crate) async fn run(args: &BenchArgs, time: Duration) -> anyhow::Result<Vec<Cost>> {
    let taken = Arc::new(AtomicU64::new(0));
    let collector = collect(taken.clone()).await?;
    let off = BenchStack::start_with(args, &Extras::without_archive()).await?;
    // The plain stack has no archive, whatever the other scenarios use.
    let with_archive = BenchArgs { no_archive: false, ..args.clone() };
    let on = match BenchStack::start_with(&with_archive, &Extras::observed(&collector)).await {
        Ok(on) => on,
        Err(error) => {
            off.stop().await;
            return Err(error);
        }
    };
    let scraping = tokio::spawn(scrape(on.address()));
    let measured = measure(&off, &on, time, &taken).await;
    scraping.abort();
    off.stop().await;
    on.stop().await;
    measured
}

async fn measure(
    off: &BenchStack,
    on: &BenchStack,
    time: Duration,
    taken: &AtomicU64,
) -> anyhow::Result<Vec<Cost>> {
    let mut costs = Vec::new();
    let scenarios = [Scenarios::prepare(off).await?, Scenarios::prepare(on).await?];
    for (kind, in_flight) in [(Kind::UnknownLogout, 64), (Kind::Login, 16)] {
        let (mut rates, mut behind, mut caught_up) = ([Vec::new(), Vec::new()], 0, Duration::ZERO);
        for round in 0..ROUNDS {
            // The stacks take turns at being first.
            for which in [round % 2, (round + 1) % 2] {
                let (stack, scenarios, rates) = match (which, &scenarios, &mut rates) {
                    (0, [scenarios, _], [rates, _]) => (off, scenarios, rates),
                    (_, [_, scenarios], [_, rates]) => (on, scenarios, rates),
                };
                rates.push(scenarios.run(stack, kind, in_flight, time).await?.flows_per_second);
                if which == 1 {
                    let (waited, took) = catch_up(stack).await?;
                    behind = behind.max(waited);
                    caught_up = caught_up.max(took);
                }
            }
        }
        let [off_rates, on_rates] = rates;
        let ratios = on_rates.iter().zip(&off_rates).map(|(on, off)| on / off).collect();
        costs.push(Cost {
            name: kind.name(),
            in_flight,
            off_per_second: median(off_rates),
            on_per_second: median(on_rates),
            ratio: median(ratios),
            behind,
            caught_up_s: caught_up.as_secs_f64(),
            span_bytes: taken.load(Ordering::Relaxed),
        });
    }
    Ok(costs)
}

/// Waits until the archive has read everything; returns the backlog and the time that it took.
async fn catch_up(stack: &BenchStack) -> anyhow::Result<(u64, Duration)> {
    let began = Instant::now();
    let mut behind = None;
    while began.elapsed() < PATIENCE {
        let lag = streams::lag(stack.bus(), LOG, ARCHIVES).await?;
        let waiting = lag.pending + lag.ack_pending as u64;
        let behind = *behind.get_or_insert(waiting);
        if waiting == 0 {
            return Ok((behind, began.elapsed()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("the archive did not catch up in time")
}

/// Reads the metrics until it is stopped.
async fn scrape(address: SocketAddr) {
    let mut tick = tokio::time::interval(SCRAPE_EVERY);
    loop {
        tick.tick().await;
        let read = async {
            let mut connection = TcpStream::connect(address).await?;
            connection
                .write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                .await?;
            connection.read_to_end(&mut Vec::new()).await
        };
        if let Err(error) = read.await {
            tracing::debug!(%error, "cannot read the metrics");
        }
    }
}

/// Starts a collector that accepts all exported spans; returns its address.
async fn collect(taken: Arc<AtomicU64>) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let traces = post(async move |body: Bytes| {
        taken.fetch_add(body.len() as u64, Ordering::Relaxed);
        StatusCode::OK
    });
    let router = Router::new().route("/v1/traces", traces);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(url)
}
