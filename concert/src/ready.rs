//! `concert ready`: checks whether a worker, an edge, or both are ready.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use concert_runtime::address::ListenAddress;
use concert_wire::REQUESTING;
use concert_wire::name::ConceptName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::operator::OperatorArgs;

/// Arguments of `concert ready`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReadyArgs {
    #[command(flatten)]
    pub(crate) operator: OperatorArgs,
    /// Concept of which a worker must respond. `Requesting` has no worker: with it, `--edge` is
    /// required, and only the edge is checked
    #[arg(long, value_name = "NAME", required_unless_present = "edge")]
    pub(crate) concept: Option<ConceptName>,
    /// Address of an edge whose `/readyz` must return 200
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) edge: Option<ListenAddress>,
}

/// Timeout of the whole check.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Succeeds if a worker of the concept, if one is named, responds on the bus, and `/readyz` of the
/// edge, if one is named, is 200.
pub(crate) async fn run(args: ReadyArgs) -> anyhow::Result<()> {
    tokio::time::timeout(TIMEOUT, check(&args)).await.context("no answer within 3 s")?
}

async fn check(args: &ReadyArgs) -> anyhow::Result<()> {
    // Earlier releases ran a worker of Requesting in the edge, and health checks may still name it.
    let is_edge = args.concept.as_ref().is_some_and(|name| name.as_str() == REQUESTING);
    ensure!(
        !is_edge || args.edge.is_some(),
        "{REQUESTING} has no worker; name its edge, such as `--edge 127.0.0.1:8000`"
    );
    if let Some(concept) = args.concept.as_ref().filter(|_| !is_edge) {
        let bus = args.operator.connect("concert-ready").await?;
        let ping = bus.client.request(format!("$SRV.PING.{concept}"), "".into());
        ping.await.with_context(|| {
            format!("no worker of {concept} responds; start one with `concert worker {concept}`")
        })?;
    }
    if let Some(address) = &args.edge {
        let mut stream = address
            .connect()
            .await
            .with_context(|| format!("no edge is listening on {address}"))?;
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
