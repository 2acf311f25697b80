//! The system that compose runs.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use concert_tests::{binaries, http, until};
use serde_json::Value;
use tokio::process::Command;

use crate::engine::{BUILDING, compose, docker, said, said_within};
use crate::stand_ins::Images;

/// How long containers may take to be well.
const PATIENCE: Duration = Duration::from_secs(120);
/// The ports of this machine that edges are reached at.
const PORTS: &str = "18000-18009";

/// A container that runs.
#[derive(Debug, Clone)]
pub(crate) struct Container {
    pub(crate) id: String,
    /// Its first process, as this machine counts.
    pub(crate) pid: u64,
    /// Its address in the network of the project.
    pub(crate) ip: IpAddr,
    /// Where this machine reaches it, if anywhere.
    pub(crate) port: Option<u16>,
    /// What its healthcheck says, if it has one.
    health: Option<String>,
}

impl Container {
    fn of(inspected: &Value) -> Option<Self> {
        let state = inspected.get("State")?;
        if !state.get("Running")?.as_bool()? {
            return None;
        }
        let settings = inspected.get("NetworkSettings")?;
        let network = settings.get("Networks")?.as_object()?.values().next()?;
        let port = settings.get("Ports").and_then(|ports| {
            let bound = ports.as_object()?.values().find_map(|bound| bound.get(0))?;
            bound.get("HostPort")?.as_str()?.parse().ok()
        });
        Some(Self {
            id: inspected.get("Id")?.as_str()?.to_owned(),
            pid: state.get("Pid")?.as_u64()?,
            ip: network.get("IPAddress")?.as_str()?.parse().ok()?,
            port,
            health: state
                .get("Health")
                .and_then(|health| Some(health.get("Status")?.as_str()?.to_owned())),
        })
    }

    fn is_well(&self) -> bool {
        self.health.as_deref().is_none_or(|health| health == "healthy")
    }
}

pub(crate) struct Stack {
    project: String,
    is_up: bool,
}

impl Stack {
    /// Brings it up, with so many containers of these services, and waits until all are well.
    pub(crate) async fn up(images: &Images, scale: &[(&str, usize)]) -> anyhow::Result<Self> {
        let stack = Self { project: format!("concert-test-{}", std::process::id()), is_up: true };
        let mut up = stack.compose().await;
        up.args(["up", "-d", "--no-color"]);
        up.arg(if images.are_there { "--no-build" } else { "--build" });
        for (service, count) in scale {
            up.args(["--scale", &format!("{service}={count}")]);
        }
        // What it is looked at with, as far as there are images.
        up.args(scale.iter().map(|(service, _)| service)).args(&images.observers);
        said_within(BUILDING, &mut up).await?;
        for (service, count) in scale {
            stack.well(service, *count).await?;
        }
        Ok(stack)
    }

    async fn compose(&self) -> Command {
        let mut compose = compose().await;
        compose
            .current_dir(binaries::root())
            .args(["-p", &self.project, "-f", "compose.yaml", "-f", "compose.observability.yaml"])
            .env("CONCERT_PORT", PORTS);
        compose
    }

    /// Takes it down, with everything that it has kept, and looks whether something is left.
    pub(crate) async fn down(&mut self) -> anyhow::Result<()> {
        let mut down = self.compose().await;
        said(down.args(["down", "-v", "-t", "10", "--remove-orphans"])).await?;
        self.is_up = false;
        let filter = format!("label=com.docker.compose.project={}", self.project);
        for list in [&["ps", "-aq"][..], &["volume", "ls", "-q"], &["network", "ls", "-q"]] {
            let left = said(docker(list).args(["--filter", &filter])).await?;
            ensure!(left.is_empty(), "left behind: {list:?} {left}");
        }
        Ok(())
    }

    /// The containers of a service that run.
    pub(crate) async fn containers(&self, service: &str) -> anyhow::Result<Vec<Container>> {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let service = format!("label=com.docker.compose.service={service}");
        let ids =
            said(&mut docker(&["ps", "-q", "--filter", &project, "--filter", &service])).await?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        // One may have gone since.
        let Ok(inspected) = said(docker(&["inspect"]).args(ids.split_whitespace())).await else {
            return Ok(Vec::new());
        };
        let inspected: Vec<Value> = serde_json::from_str(&inspected)?;
        Ok(inspected.iter().filter_map(Container::of).collect())
    }

    /// Waits until so many containers of a service are well; those.
    pub(crate) async fn well(&self, service: &str, count: usize) -> anyhow::Result<Vec<Container>> {
        let mut found = Vec::new();
        let well = until("that a service is well", PATIENCE, async || {
            found = self.containers(service).await?;
            let well = found.len() == count && found.iter().all(Container::is_well);
            Ok(well.then_some(()))
        });
        well.await.with_context(|| format!("{service}: {found:?}"))?;
        Ok(found)
    }

    /// A container of a service.
    pub(crate) async fn one(&self, service: &str) -> anyhow::Result<Container> {
        let found = self.containers(service).await?;
        found.into_iter().next().with_context(|| format!("no {service} runs"))
    }

    /// Where this machine reaches the edges.
    pub(crate) async fn edges(&self) -> anyhow::Result<Vec<SocketAddr>> {
        let edges = self.containers("edge").await?;
        let ports = edges.iter().filter_map(|edge| edge.port);
        Ok(ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect())
    }

    /// Waits until the edges at these addresses take requests.
    pub(crate) async fn ready(&self, edges: &[SocketAddr]) -> anyhow::Result<()> {
        for edge in edges {
            let ready = until("that an edge is ready", PATIENCE, async || {
                Ok(http::is_ready(*edge).await.then_some(()))
            });
            ready.await?;
        }
        Ok(())
    }

    /// Runs `concert` in a new container that has every key.
    pub(crate) async fn concert(&self, args: &[&str]) -> anyhow::Result<String> {
        self.run("concert", args).await
    }

    /// Runs a program in a new container that has every key.
    pub(crate) async fn run(&self, program: &str, args: &[&str]) -> anyhow::Result<String> {
        self.run_with(&["-e", "NATS_NKEY=/keys/nats/operator.nk"], program, args).await
    }

    /// Runs a program in a new container that has every key, with flags of `compose run`.
    pub(crate) async fn run_with(
        &self,
        flags: &[&str],
        program: &str,
        args: &[&str],
    ) -> anyhow::Result<String> {
        let mut run = self.compose().await;
        run.args(["run", "--rm", "-T"]).args(flags);
        run.args(["--entrypoint", program, "keys"]);
        said(run.args(args)).await
    }

    /// Kills the first process of a container, and waits until the engine has started it again; how
    /// long that took.
    pub(crate) async fn kill(
        &self,
        service: &str,
        container: &Container,
    ) -> anyhow::Result<Duration> {
        let count = self.containers(service).await?.len();
        let pid = i32::try_from(container.pid).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.context("no process")?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
        let began = Instant::now();
        until("that a killed container is started again", PATIENCE, async || {
            let found = self.well(service, count).await?;
            let now = found.iter().find(|found| found.id == container.id);
            let now = now.with_context(|| format!("another container of {service}"))?;
            Ok((now.pid != container.pid).then(|| began.elapsed()))
        })
        .await
    }

    /// Shows what everybody said last; for a test that failed.
    pub(crate) async fn show_logs(&self) {
        let mut logs = self.compose().await;
        match said(logs.args(["logs", "--no-color", "--tail", "40"])).await {
            Ok(logs) => eprintln!("{logs}"),
            Err(error) => eprintln!("no logs: {error:#}"),
        }
    }
}

impl Drop for Stack {
    /// For a test that failed half-way.
    fn drop(&mut self) {
        if !self.is_up {
            return;
        }
        let filter = format!("label=com.docker.compose.project={}", self.project);
        let script = format!(
            "docker ps -aq --filter {filter} | xargs -r docker rm -fv; \
             docker volume ls -q --filter {filter} | xargs -r docker volume rm; \
             docker network ls -q --filter {filter} | xargs -r docker network rm"
        );
        let removed = std::process::Command::new("sh").args(["-c", &script]).status();
        if !removed.is_ok_and(|status| status.success()) {
            eprintln!("left behind: the project {}", self.project);
        }
    }
}
