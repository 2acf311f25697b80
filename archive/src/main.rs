//! `archive`: the archive as a process of its own.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::http::header;
use axum::routing::get;
use clap::Parser;
use concert_archive::ArchiveArgs;
use concert_rules::engine::Limits;
use concert_runtime::bus::{Bus, BusArgs};
use concert_runtime::process::{self, Shutdown};
use concert_runtime::streams::LogLimits;
use concert_runtime::telemetry::{self, LogArgs};
use concert_store::StoreArgs;
use tokio::net::TcpListener;

/// Keeps what happened in every flow, and answers questions about it.
#[derive(Debug, Parser)]
#[command(name = "archive", version)]
struct Args {
    #[command(flatten)]
    bus: BusArgs,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    archive: ArchiveArgs,
    /// Where `/metrics` is served, such as 0.0.0.0:9100; without it, nowhere.
    #[arg(long, env = "CONCERT_METRICS_LISTEN", value_name = "ADDRESS")]
    metrics_listen: Option<SocketAddr>,
    #[command(flatten)]
    log_limits: LogLimits,
    #[command(flatten)]
    log: LogArgs,
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    telemetry::start(&args.log)?;
    let bus = Bus::connect(&args.bus, "archive").await?;
    let shutdown = Shutdown::new();
    let archive = concert_archive::run(
        bus.clone(),
        &args.store,
        &args.archive,
        Limits::default(),
        args.log_limits,
        shutdown.clone(),
    )
    .await?;
    if let Some(address) = args.metrics_listen {
        let metrics = archive.metrics().clone();
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("{address} cannot be listened at; see --metrics-listen"))?;
        let text = async move || {
            (
                [(header::CONTENT_TYPE, OPEN_METRICS)],
                metrics.text().unwrap_or_default(),
            )
        };
        let app = Router::new().route("/metrics", get(text));
        tokio::spawn(axum::serve(listener, app).into_future());
    }
    process::asked_to_stop_or_cut_off(&bus).await?;
    shutdown.begin();
    tokio::time::timeout(Duration::from_secs(15), archive.ended()).await?;
    Ok(())
}
