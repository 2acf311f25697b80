//! The system under load: `concert up` in a second process of this program, on free ports, with a
//! temporary data directory.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use concert::Started;
use concert_runtime::bus::{Bus, BusArgs};
use concert_runtime::keys;
use concert_runtime::streams;
use concert_wire::access::User;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::args::BenchArgs;
use crate::process::{Memory, Usage, Watched};
use crate::processes::{Processes, queues};

/// A running system.
pub(crate) struct BenchStack {
    child: Child,
    further: Processes,
    started: Started,
    watched: Vec<Watched>,
    bus: Bus,
    _dir: TempDir,
}

/// Maximum time to start, including a download of the servers.
const START_TIMEOUT: Duration = Duration::from_secs(300);
/// Maximum time to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

const NO_ARCHIVE: &str = "--no-archive";

/// Options that differ between stacks.
#[derive(Debug, Default)]
pub(crate) struct Extras {
    program: Option<PathBuf>,
    args: Vec<&'static str>,
    env: Vec<(String, String)>,
}

impl Extras {
    /// No archive and no traces.
    pub(crate) fn without_archive() -> Self {
        Self { args: vec![NO_ARCHIVE], ..Self::default() }
    }

    /// Archives every flow, sends its trace to this address, and logs JSON.
    pub(crate) fn observed(collector: &str) -> Self {
        Self::with_env(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector),
            ("CONCERT_TELEMETRY__LOG_FORMAT", "json"),
        ])
    }

    /// Further settings.
    pub(crate) fn with_env(env: &[(&str, &str)]) -> Self {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self { env: env.collect(), ..Self::default() }
    }

    /// The second stack of `--versus`.
    pub(crate) fn versus(args: &BenchArgs) -> Self {
        Self { program: args.versus_program.clone(), env: args.versus.clone(), ..Self::default() }
    }
}

impl BenchStack {
    /// Starts the stack with the usual options.
    pub(crate) async fn start(args: &BenchArgs) -> anyhow::Result<Self> {
        Self::start_with(args, &Extras::default()).await
    }

    /// Starts the stack with these options.
    pub(crate) async fn start_with(args: &BenchArgs, extras: &Extras) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let report = dir.path().join("started.json");
        let program = extras.program.clone().map_or_else(std::env::current_exe, Ok)?;
        let mut command = Command::new(&program);
        command.args([
            "up",
            "--listen",
            "127.0.0.1:0",
            "--console-listen",
            "127.0.0.1:0",
            "--nats-port",
            "0",
            "--mongo-port",
            "0",
        ]);
        // A variable, so that `--versus` can replace it; a flag would have precedence.
        command.env("CONCERT_NATS__SYNC_INTERVAL", &args.sync_interval);
        if args.isolates_parts() {
            command.arg("--isolate-parts");
        }
        if args.no_archive && !extras.args.contains(&NO_ARCHIVE) {
            command.arg(NO_ARCHIVE);
        }
        command.args(unlimited());
        let data_dir = dir.path().join("data");
        command.arg("--data-dir").arg(&data_dir).arg("--started-file").arg(&report);
        command.arg("--concepts").arg(&args.concepts).arg("--syncs").arg(&args.syncs);
        command.env_remove("NATS_URL").env_remove("MONGODB_URI");
        command.args(&extras.args).envs(extras.env.iter().map(|(name, value)| (name, value)));
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).spawn()?;
        let started = tokio::time::timeout(START_TIMEOUT, wait_for(&report, &mut child))
            .await
            .context("the stack did not start in time")??;
        let watch = |name, pid: Option<u32>| pid.map(|pid| Watched { name, pid });
        let watched = [
            watch("concert", child.id()),
            watch("nats-server", started.nats_pid),
            watch("mongod", started.mongod_pid),
        ];
        let mut operator = BusArgs::at(&started.nats_url);
        operator.nats_nkey = Some(keys::seeds_path(&started.keys_dir, &User::Operator));
        let bus = Bus::connect_to_streams(&operator, "bench").await?;
        let further = Processes::start(args, program, &data_dir, &bus).await?;
        let watched = watched.into_iter().flatten().chain(further.watched.clone()).collect();
        Ok(Self { child, further, watched, started, bus, _dir: dir })
    }

    /// The addresses of all edges; clients use them in turn.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        [self.started.http].into_iter().chain(self.further.edges.iter().copied()).collect()
    }

    /// The address of the edge of `concert up`.
    pub(crate) fn address(&self) -> SocketAddr {
        self.started.http
    }

    /// Connects to the NATS server.
    pub(crate) fn bus(&self) -> &Bus {
        &self.bus
    }

    /// The directory of the keys.
    pub(crate) fn keys_dir(&self) -> &Path {
        &self.started.keys_dir
    }

    /// The program of the NATS server.
    pub(crate) fn nats_server(&self) -> &Path {
        &self.started.nats_server
    }

    /// What all processes have used so far.
    pub(crate) fn usage(&self) -> Vec<Usage> {
        self.watched.iter().map(Watched::usage).collect()
    }

    /// Deliveries so far to routers and to the workers of the benchmark's concepts, less the
    /// delivered messages.
    pub(crate) async fn redeliveries(&self) -> anyhow::Result<u64> {
        let mut repeated = 0;
        for (stream, consumer) in queues()? {
            repeated += streams::lag(&self.bus, &stream, consumer).await?.repeated;
        }
        Ok(repeated)
    }

    /// The memory of all processes.
    pub(crate) fn processes(&self) -> Vec<Memory> {
        self.watched.iter().map(Watched::memory).collect()
    }

    /// Stops the stack with SIGINT.
    pub(crate) async fn stop(mut self) {
        if let Some(pid) = self
            .child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(rustix::process::Pid::from_raw)
        {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap_or_default();
        }
        if tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            tracing::warn!("the stack did not stop in time; killing it");
            drop(self.child.kill().await);
        }
    }
}

async fn wait_for(report: &Path, child: &mut Child) -> anyhow::Result<Started> {
    loop {
        if let Ok(text) = tokio::fs::read(report).await
            && let Ok(started) = serde_json::from_slice(&text)
        {
            return Ok(started);
        }
        if let Some(status) = child.try_wait()? {
            bail!("the stack failed to start: {status}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Arguments that turn the limits of clients off, because all requests come from one address.
pub(crate) fn unlimited() -> impl Iterator<Item = String> {
    let settings = [
        "workers.Profile.settings.login_account_failures=1000",
        "workers.Profile.settings.login_account_failures_long=1000",
        "workers.Profile.settings.login_client_failures=0",
        "workers.Profile.settings.accounts_per_client=0",
        "http.client_requests_per_second=0",
    ];
    settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting.to_owned()])
}
