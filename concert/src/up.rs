//! `concert up`: all services in one process, and the two servers as child processes. The services
//! communicate through NATS, as they do in separate processes.

mod args;
mod changes;
mod children;
mod dev;
mod greeting;
pub(crate) mod plans;
pub(crate) mod process;
pub(crate) mod servers;
mod service_thread;
pub(crate) mod stack;
mod stream_sizes;
mod supervisor;

use std::path::PathBuf;
use std::time::Duration;

use concert_http_edge::Listeners;
use concert_local_servers::{DirLock, Program};
use concert_runtime::keys::Purpose;
use concert_runtime::process::ShutdownSignal;
use concert_runtime::telemetry;
use concert_sync_router::Rules;
use concert_wire::access::Access;
use concert_worker::Worker;

pub(crate) use self::args::{DevArgs, UpArgs};
use self::changes::Changes;
use self::children::Children;
use self::dev::Dev;
use self::supervisor::Event;
use crate::config::{Loaded, Settings};
use crate::running::{Announcement, Started};
use crate::{access, output, workers};

/// Starts everything, prints the addresses, runs until a signal stops it, then drains.
pub(crate) async fn run(args: UpArgs, workers: &[Worker]) -> anyhow::Result<()> {
    Box::pin(run_as(args, None, workers)).await
}

/// As [`run`], and reloads changed files.
pub(crate) async fn dev(args: DevArgs, workers: &[Worker]) -> anyhow::Result<()> {
    Box::pin(run_as(args.up, Some(Development { start: args.start }), workers)).await
}

/// Options of `concert dev` that `concert up` does not have.
struct Development {
    /// Shell command to run when all workers are ready.
    start: Option<String>,
}

async fn run_as(
    args: UpArgs,
    development: Option<Development>,
    workers: &[Worker],
) -> anyhow::Result<()> {
    let mut loaded = args.settings.load(workers)?;
    // Before anything else is read, so that a change during the start is not missed.
    let changes = development.as_ref().map(|_| dev::changes(&loaded.settings, &args.settings));
    servers::check_data_dir(&loaded.settings)?;
    let (log, app) = (&mut loaded.settings.log, &loaded.settings.app);
    if loaded.settings.nats.url.is_none() {
        stream_sizes::set_defaults(log, &app.data_dir)?;
    }
    loaded.settings.rules.wait_for_workers = development.is_some();
    let cache = &mut loaded.settings.http.cache;
    cache.large_values_cache_dir.get_or_insert_with(|| app.data_dir.clone());
    let settings = &loaded.settings;
    telemetry::start(&settings.telemetry.lines())?;
    loaded.warn();
    // Rules are compiled first, so that an error is reported before anything is downloaded or
    // started.
    let rules = concert_sync_router::load(&settings.rules)?;
    let _lock = DirLock::acquire(&settings.app.data_dir).await?;
    workers::check_specs(workers, &rules.program, |concept| settings.is_external(concept))?;
    workers::warn_of_missing(workers, &rules.program, |concept| settings.is_external(concept));
    let access = access::of(settings, !settings.nats.isolate)?;
    // A worker is skipped if the application does not have its concept: no NATS user and no queue
    // exist for it.
    let is_used =
        |worker: &&Worker| access.concepts().iter().any(|name| name.as_str() == worker.concept());
    let used: Vec<&Worker> = workers.iter().filter(is_used).collect();
    let created = prepare_keys(settings, &access, workers)?;
    let mut stop = ShutdownSignal::listen()?;
    // An address in use is reported before the servers start.
    let listeners = concert_http_edge::listen(&settings.http, &settings.console).await?;
    let Some(servers) = stop.unless_received(servers::start(settings)).await else {
        return Ok(());
    };
    let mut servers = servers?;
    let prepared = Prepared {
        purposes: Purpose::all(workers::own_keys(workers)),
        accept_new_keys: args.accept_new_keys,
        workers: used,
        created,
        rules,
        access,
        listeners,
    };
    let run = Run { args: &args, development, changes, loaded: &loaded, workers };
    let ended = Box::pin(run_on(&mut servers, run, prepared, &mut stop)).await;
    // A second Ctrl-C ends this wait. Then this process exits, and the guardian of each server
    // stops the server.
    stop.unless_received(servers.stop()).await;
    ended
}

/// Creates missing keys, and writes the accounts file. Returns the purposes of the created keys.
pub(crate) fn prepare_keys(
    settings: &Settings,
    access: &Access,
    workers: &[Worker],
) -> anyhow::Result<Vec<Purpose>> {
    let keys_dir = settings.app.keys_dir();
    let accounts = access::accounts_file(&keys_dir);
    let has_database_users = settings.mongodb.uri.is_none() || settings.mongodb.users;
    access::prepare(access, workers, &keys_dir, &accounts, has_database_users)
}

/// Arguments, configuration and workers of a run.
struct Run<'a> {
    args: &'a UpArgs,
    development: Option<Development>,
    /// The files to reload, with `development`.
    changes: Option<Changes>,
    loaded: &'a Loaded,
    workers: &'a [Worker],
}

/// Everything that is prepared before the servers start.
struct Prepared<'a> {
    workers: Vec<&'a Worker>,
    purposes: Vec<Purpose>,
    created: Vec<Purpose>,
    accept_new_keys: bool,
    rules: Rules,
    access: Access,
    listeners: Listeners,
}

/// Runs everything on the servers until a signal stops it. Restarts a server that exits.
async fn run_on(
    servers: &mut servers::Servers,
    mut run: Run<'_>,
    prepared: Prepared<'_>,
    stop: &mut ShutdownSignal,
) -> anyhow::Result<()> {
    let settings = &run.loaded.settings;
    let started = started(servers, settings, &prepared.listeners)?;
    let addresses = servers.addresses().clone();
    let started_file = run.args.started_file.clone();
    let announcement = Announcement::new(started, &settings.app.data_dir, started_file);
    let report = |program, event: Event<'_>| report(&announcement, program, event);
    // One future for the whole run, because dropping it would interrupt a restart.
    let mut supervised = std::pin::pin!(servers.supervised(&report));
    let program = prepared.rules.program.clone();
    let access = prepared.access.clone();
    let stack = tokio::select! {
        stack = Box::pin(stack::start(settings, prepared, &addresses)) => stack?,
        error = &mut supervised => return Err(error),
        () = stop.received() => return Ok(()),
    };
    let mut children = Children::new(stack.supervisor().clone(), stack.worker_problems());
    let app_dir = run.args.settings.app_dir();
    children.apply(plans::all(settings, &addresses, &app_dir)?).await;
    announcement.publish()?;
    greeting::print(settings, &stack, &addresses, &program.routes);
    let changes = run.changes.take();
    let mut dev = changes.map(|changes| Dev::new(&run, changes, &addresses, access, &stack));
    let start = run.development.and_then(|development| development.start);
    let api = stack.api(settings);
    let companion = children.companion(start.map(|start| plans::companion(&start, api, &app_dir)));
    let ended = tokio::select! {
        () = stop.received() => Ok(()),
        cut_off = stack.cut_off() => Err(cut_off),
        ended = companion => ended,
        () = Dev::run(dev.as_mut(), &mut children, &announcement) => Ok(()),
        // Without a server, requests cannot be answered.
        error = &mut supervised => return Err(error),
    };
    output::print_line(
        "\nStopping after open requests are answered. Press Ctrl-C again to stop immediately.",
    );
    let drained = tokio::select! {
        () = stack.stop(children, Duration::from_millis(settings.http.limits.deadline_ms)) => true,
        () = stop.received() => false,
        error = &mut supervised => return Err(error),
    };
    if let Some(dev) = dev {
        dev.ended().await;
    }
    ended?;
    anyhow::ensure!(drained, "stopped before all open requests were answered");
    Ok(())
}

fn started(
    servers: &servers::Servers,
    settings: &Settings,
    listeners: &Listeners,
) -> anyhow::Result<Started> {
    let addresses = servers.addresses();
    let (nats_pid, nats_server) =
        servers.nats_process().map(|(pid, path)| (pid, path.to_owned())).unzip();
    // Absolute paths, for commands that run in another directory with --data-dir.
    let absolute = |path: &PathBuf| std::path::absolute(path);
    Ok(Started {
        pid: std::process::id(),
        http: listeners.address()?,
        console: listeners.console_address(),
        nats_url: addresses.nats_url.clone(),
        nats_pid,
        nats_server: nats_server.unwrap_or_default(),
        nats_creds: settings.nats.creds.as_ref().map(absolute).transpose()?,
        nats_ca: settings.nats.ca.as_ref().map(absolute).transpose()?,
        mongodb_uri: addresses.mongodb_uri.clone(),
        mongod_pid: servers.mongod_pid(),
        keys_dir: std::path::absolute(settings.app.keys_dir())?,
    })
}

fn report(announcement: &Announcement, program: Program, event: Event<'_>) {
    match event {
        Event::Exited(error) => {
            let error = error.to_string();
            output::print_line(format_args!(
                "{}; restarting it",
                error.lines().next().unwrap_or_default()
            ));
        }
        Event::Restarted(pid) => {
            output::print_line(format_args!("{program} is running again"));
            if let Err(error) = announcement.restarted(program, pid) {
                tracing::warn!(%error, "cannot write the new process id to running.json");
            }
        }
    }
}
