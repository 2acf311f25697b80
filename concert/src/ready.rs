//! `concert ready`: whether a worker, and an edge, answer.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use concert_runtime::bus::Bus;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::access;
use crate::cli::ReadyArgs;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Ends well when they do.
pub(crate) async fn run(args: ReadyArgs) -> anyhow::Result<()> {
    tokio::time::timeout(TIMEOUT, ask(&args))
        .await
        .context("no answer in time")?
}

async fn ask(args: &ReadyArgs) -> anyhow::Result<()> {
    let bus = access::as_operator(args.bus.clone(), &args.data_dir);
    let bus = Bus::connect(&bus, "concert-ready").await?;
    bus.client
        .request(format!("$SRV.PING.{}", args.concept), "".into())
        .await
        .with_context(|| format!("no worker of {} answers", args.concept))?;
    if let Some(address) = args.edge {
        let mut stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("no edge listens at {address}"))?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        ensure!(
            answer.starts_with("HTTP/1.1 200"),
            "the edge is not ready: {}",
            answer.lines().last().unwrap_or_default()
        );
    }
    Ok(())
}
