//! Further routers, edges and workers, each in a process, next to those of `concert up`.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use concert_runtime::bus::Bus;
use concert_runtime::streams;
use concert_wire::subject::{LOG, ROUTERS, WORKERS, actions_stream};
use tokio::process::{Child, Command};

use crate::args::BenchArgs;
use crate::http::Connection;
use crate::process::Watched;
use crate::stack::unlimited;

/// Concepts whose workers the scenarios need.
const CONCEPTS: [&str; 2] = ["Profile", "Sessioning"];
/// Maximum time until all of them are ready.
const TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// Stream and consumer of the routers, and of the workers of each concept.
pub(crate) fn queues() -> anyhow::Result<Vec<(String, &'static str)>> {
    let mut queues = vec![(LOG.to_owned(), ROUTERS)];
    for concept in CONCEPTS {
        queues.push((actions_stream(&concept.parse()?), WORKERS));
    }
    Ok(queues)
}

/// The running processes. They stop when this is dropped.
pub(crate) struct Processes {
    program: PathBuf,
    children: Vec<Child>,
    /// What they use.
    pub(crate) watched: Vec<Watched>,
    /// The addresses of their edges.
    pub(crate) edges: Vec<SocketAddr>,
}

impl Processes {
    /// Starts the processes that the arguments request in addition to those of `concert up`, and
    /// waits until they are ready.
    pub(crate) async fn start(
        args: &BenchArgs,
        program: PathBuf,
        data_dir: &Path,
        bus: &Bus,
    ) -> anyhow::Result<Self> {
        let (children, watched, edges) = (Vec::new(), Vec::new(), Vec::new());
        let mut all = Self { program, children, watched, edges };
        for _ in 1..args.routers {
            let rules = [
                "--concepts".into(),
                args.concepts.clone().into_os_string(),
                "--syncs".into(),
                args.syncs.clone().into_os_string(),
            ];
            all.spawn(data_dir, "sync-router", rules)?;
        }
        for _ in 1..args.edges {
            let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
            let listen = ["--listen".into(), address.to_string().into()];
            all.spawn(data_dir, "http-edge", listen)?;
            all.edges.push(address);
        }
        for _ in 1..args.workers {
            for concept in CONCEPTS {
                all.spawn(data_dir, "worker", [concept.into()])?;
            }
        }
        let ready = tokio::time::timeout(TIMEOUT, all.ready(args, bus));
        ready.await.context("the further processes are not ready in time")??;
        Ok(all)
    }

    fn spawn(
        &mut self,
        data_dir: &Path,
        name: &'static str,
        args: impl IntoIterator<Item = std::ffi::OsString>,
    ) -> anyhow::Result<()> {
        let child = Command::new(&self.program)
            .arg(name)
            .args(args)
            .args(unlimited())
            .arg("--data-dir")
            .arg(data_dir)
            .env_remove("NATS_URL")
            .env_remove("MONGODB_URI")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        self.watched.extend(child.id().map(|pid| Watched { name, pid }));
        self.children.push(child);
        Ok(())
    }

    /// Waits until each process has an open fetch request or responds.
    async fn ready(&self, args: &BenchArgs, bus: &Bus) -> anyhow::Result<()> {
        for (stream, consumer) in queues()? {
            let expected = if consumer == ROUTERS { args.routers } else { args.workers };
            while streams::lag(bus, &stream, consumer).await?.waiting < expected {
                tokio::time::sleep(POLL).await;
            }
        }
        for address in &self.edges {
            while !is_ready(*address).await {
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }
}

/// Returns whether an edge accepts requests.
async fn is_ready(address: SocketAddr) -> bool {
    let Ok(mut connection) = Connection::open(address).await else { return false };
    let answer = connection.post("/api/auth/logout", "{}").await;
    // A request without its key, so that nothing is stored.
    answer.is_ok_and(|answer| answer.status == 400)
}
