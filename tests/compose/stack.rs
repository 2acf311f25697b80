//! The system that compose runs.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use concert_tests::{binaries, http, until};
use serde_json::Value;
use tokio::process::Command;

use crate::engine::{BUILDING, compose, docker, output_of, output_within};
use crate::stand_ins::Images;

/// Timeout until containers are healthy.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Ports of this machine that are published for the edges.
const PORTS: &str = "18000-18009";

/// A running container.
#[derive(Debug, Clone)]
pub(crate) struct Container {
    pub(crate) id: String,
    /// PID of its first process in the PID namespace of this machine.
    pub(crate) pid: u64,
    /// Its address in the network of the project.
    pub(crate) ip: IpAddr,
    /// Published port on this machine, if any.
    pub(crate) port: Option<u16>,
    /// Status of its health check, if it has one.
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

    fn is_healthy(&self) -> bool {
        self.health.as_deref().is_none_or(|health| health == "healthy")
    }
}

pub(crate) struct Stack {
    project: String,
    is_up: bool,
}

impl Stack {
    /// Starts the stack with these numbers of containers, and waits until all are healthy.
    pub(crate) async fn up(images: &Images, scale: &[(&str, usize)]) -> anyhow::Result<Self> {
        let stack = Self { project: format!("concert-test-{}", std::process::id()), is_up: true };
        let mut up = stack.compose().await;
        up.args(["up", "-d", "--no-color"]);
        up.arg(if images.exist { "--no-build" } else { "--build" });
        for (service, count) in scale {
            up.args(["--scale", &format!("{service}={count}")]);
        }
        // The observability services, if they have images.
        up.args(scale.iter().map(|(service, _)| service)).args(&images.observers);
        output_within(BUILDING, &mut up).await?;
        for (service, count) in scale {
            stack.healthy(service, *count).await?;
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

    /// Removes the stack with its volumes, and checks that nothing is left.
    pub(crate) async fn down(&mut self) -> anyhow::Result<()> {
        let mut down = self.compose().await;
        output_of(down.args(["down", "-v", "-t", "10", "--remove-orphans"])).await?;
        self.is_up = false;
        let filter = format!("label=com.docker.compose.project={}", self.project);
        for list in [&["ps", "-aq"][..], &["volume", "ls", "-q"], &["network", "ls", "-q"]] {
            let left = output_of(docker(list).args(["--filter", &filter])).await?;
            ensure!(left.is_empty(), "left behind: {list:?} {left}");
        }
        Ok(())
    }

    /// The running containers of a service.
    pub(crate) async fn containers(&self, service: &str) -> anyhow::Result<Vec<Container>> {
        let project = format!("label=com.docker.compose.project={}", self.project);
        let service = format!("label=com.docker.compose.service={service}");
        let ids = output_of(&mut docker(&["ps", "-q", "--filter", &project, "--filter", &service]))
            .await?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        // A container may have exited since.
        let Ok(inspected) = output_of(docker(&["inspect"]).args(ids.split_whitespace())).await
        else {
            return Ok(Vec::new());
        };
        let inspected: Vec<Value> = serde_json::from_str(&inspected)?;
        Ok(inspected.iter().filter_map(Container::of).collect())
    }

    /// Waits until this many containers of a service are healthy, and returns them.
    pub(crate) async fn healthy(
        &self,
        service: &str,
        count: usize,
    ) -> anyhow::Result<Vec<Container>> {
        let mut found = Vec::new();
        let well = until("a service is healthy", TIMEOUT, async || {
            found = self.containers(service).await?;
            let well = found.len() == count && found.iter().all(Container::is_healthy);
            Ok(well.then_some(()))
        });
        well.await.with_context(|| format!("{service}: {found:?}"))?;
        Ok(found)
    }

    /// One container of a service.
    pub(crate) async fn one(&self, service: &str) -> anyhow::Result<Container> {
        let found = self.containers(service).await?;
        found.into_iter().next().with_context(|| format!("no {service} runs"))
    }

    /// Addresses of the edges on this machine.
    pub(crate) async fn edges(&self) -> anyhow::Result<Vec<SocketAddr>> {
        let edges = self.containers("edge").await?;
        let ports = edges.iter().filter_map(|edge| edge.port);
        Ok(ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect())
    }

    /// Waits until the edges at these addresses are ready.
    pub(crate) async fn ready(&self, edges: &[SocketAddr]) -> anyhow::Result<()> {
        for edge in edges {
            let ready = until("an edge is ready", TIMEOUT, async || {
                Ok(http::is_ready(*edge).await.then_some(()))
            });
            ready.await?;
        }
        Ok(())
    }

    /// Runs `concert` in a new container with all keys.
    pub(crate) async fn concert(&self, args: &[&str]) -> anyhow::Result<String> {
        self.run("concert", args).await
    }

    /// Runs a program in a new container with all keys.
    pub(crate) async fn run(&self, program: &str, args: &[&str]) -> anyhow::Result<String> {
        self.run_with(&["-e", "NATS_NKEY=/keys/nats/operator.nk"], program, args).await
    }

    /// Runs a program in a new container with all keys and with flags of `compose run`.
    pub(crate) async fn run_with(
        &self,
        flags: &[&str],
        program: &str,
        args: &[&str],
    ) -> anyhow::Result<String> {
        let mut run = self.compose().await;
        run.args(["run", "--rm", "-T"]).args(flags);
        run.args(["--entrypoint", program, "keys"]);
        output_of(run.args(args)).await
    }

    /// Kills the first process of a container, waits until the engine has restarted it, and returns
    /// the time that took.
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
        until("a killed container is restarted", TIMEOUT, async || {
            let found = self.healthy(service, count).await?;
            let now = found.iter().find(|found| found.id == container.id);
            let now = now.with_context(|| format!("{service} runs in another container"))?;
            Ok((now.pid != container.pid).then(|| began.elapsed()))
        })
        .await
    }

    /// Prints the end of all logs, for a failed test.
    pub(crate) async fn show_logs(&self) {
        let mut logs = self.compose().await;
        match output_of(logs.args(["logs", "--no-color", "--tail", "40"])).await {
            Ok(logs) => eprintln!("{logs}"),
            Err(error) => eprintln!("no logs: {error:#}"),
        }
    }
}

impl Drop for Stack {
    /// Removes the stack if the test failed halfway.
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
