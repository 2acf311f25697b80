//! `concert up`: everything in one process, beside the two servers; the parts talk through NATS all the same.

mod args;
mod servers;
mod stack;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use concert_runtime::keys;
use concert_runtime::process::Stop;
use concert_runtime::telemetry::{self, LogArgs};
use concert_wire::access::User;
use serde::{Deserialize, Serialize};

pub(crate) use self::args::UpArgs;
use crate::workers::Worker;
use crate::{access, say};

/// What was started, for scripts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Started {
    /// Where the edge listens.
    pub http: SocketAddr,
    /// Where NATS is.
    pub nats_url: String,
    /// The process of the NATS server, if it was started here.
    pub nats_pid: Option<u32>,
    /// The program of the NATS server, if it was started here.
    pub nats_server: PathBuf,
    /// The process of the MongoDB server, if it was started here.
    pub mongod_pid: Option<u32>,
}

impl Started {
    fn new(stack: &stack::Stack, servers: &servers::Servers) -> Self {
        let (nats_pid, nats_server) = servers.nats_process().map(|(pid, path)| (pid, path.to_owned())).unzip();
        Self {
            http: stack.address(),
            nats_url: servers.nats_url().to_owned(),
            nats_pid,
            nats_server: nats_server.unwrap_or_default(),
            mongod_pid: servers.mongod_pid(),
        }
    }
}

/// So that whoever waits for the file never reads half of it.
fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let half = path.with_extension("half");
    std::fs::write(&half, bytes)?;
    std::fs::rename(half, path)
}

/// Starts, says what to try, runs until it is asked to stop, drains.
pub(crate) async fn run(mut args: UpArgs, workers: &[Worker]) -> anyhow::Result<()> {
    args.edge.page.at_home = true;
    telemetry::start(&LogArgs {
        filter: args.log.clone(),
        log_format: args.log_format,
    })?;
    // The rules first: a mistake in them is told at once, before anything is fetched or started.
    let rules = concert_sync_router::load(&args.rules)?;
    let mut access = access::of(&args.rules.concepts, &args.edge.passthrough)?;
    if !args.isolate_parts {
        access = access.in_one_process();
    }
    let keys_dir = args.keys_dir();
    access::prepare(&access, &keys_dir, &access::accounts_file(&keys_dir))?;
    let mut stop = Stop::hear()?;
    let Some(servers) = stop.unless_asked(servers::start(&args)).await else {
        return Ok(());
    };
    let mut servers = servers?;
    let stack = match Box::pin(stack::start(&args, workers, rules, &access, &servers)).await {
        Ok(stack) => stack,
        Err(error) => {
            servers.stop().await;
            return Err(error);
        }
    };
    let started = Started::new(&stack, &servers);
    if let Some(path) = &args.started_file {
        write_atomically(path, &serde_json::to_vec(&started)?)
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    greet(&args, &stack, &servers);
    let fallen = tokio::select! {
        () = stop.asked() => None,
        fallen = servers.fallen() => Some(fallen),
        cut_off = stack.cut_off() => Some(cut_off),
    };
    say::line("\nStopping: open requests are answered first. Ctrl-C again ends at once.");
    let drained = tokio::select! {
        () = stack.stop(Duration::from_millis(args.edge.limits.deadline_ms)) => true,
        () = stop.asked() => false,
    };
    servers.stop().await;
    match fallen {
        Some(fallen) => Err(fallen),
        None if drained => Ok(()),
        None => Err(anyhow::anyhow!("ended before everything was answered")),
    }
}

/// What makes the `nats` command line an operator. Where it finds the server by itself, no URL is given: the next `concert up` would take it for one that is there already.
fn operator(args: &UpArgs, servers: &servers::Servers) -> String {
    if !servers.has_own_nats() {
        return String::new();
    }
    let key = keys::seeds_path(&args.keys_dir(), &User::Operator);
    let server = match args.nats_port {
        DEFAULT_NATS_PORT => String::new(),
        _ => format!(" --server {}", servers.nats_url()),
    };
    format!(
        "\nFor the nats command line:\n  export NATS_NKEY={}\n  nats{server} sub 'done.>'",
        key.display()
    )
}

/// Where the `nats` command line looks for a server.
const DEFAULT_NATS_PORT: u16 = 4222;

fn greet(args: &UpArgs, stack: &stack::Stack, servers: &servers::Servers) {
    let api = format!("http://{}{}", stack.address(), args.edge.base);
    let post = |path: &str, body: &str| {
        format!("  curl -s {api}{path} \\\n    -H 'content-type: application/json' -d '{body}'")
    };
    let page = match stack.has_page() {
        true => format!("  Page     http://{}/ (see what it does)\n", stack.address()),
        false => String::new(),
    };
    say::line(format_args!(
        "\nConcert is running.\n\n{page}  HTTP     {api}\n  NATS     {nats}\n  MongoDB  {mongo}\n  Data     {data}\n  Rules    {rules} (changes are picked up at once)\n\nTry:\n{create}\n{login}\n{logout}\n{operator}\n\nCtrl-C stops it.",
        nats = servers.nats_url(),
        mongo = servers.mongodb_uri(),
        data = args.data_dir.display(),
        rules = args.rules.syncs.display(),
        create = post(
            "/auth/createAccount",
            r#"{"username":"ada","password":"correct horse"}"#
        ),
        login = post("/auth/login", r#"{"username":"ada","password":"correct horse"}"#),
        logout = post("/auth/logout", r#"{"session":"<the session of the login>"}"#),
        operator = operator(args, servers),
    ));
}
