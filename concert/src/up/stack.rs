//! Edge, router and workers, each with its own NATS connection.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use concert_http_edge::WorkerProblems;
use concert_runtime::bus::{Bus, BusArgs};
use concert_runtime::keys;
use concert_runtime::process::Shutdown;
use concert_wire::access::{Access, User};
use concert_worker::Worker;
use concert_worker::store::StoreArgs;
use futures_util::future::{select_all, try_join_all};
use tokio::task::JoinHandle;

use super::Prepared;
use super::children::Children;
use super::servers::Addresses;
use super::service_thread::ServiceThread;
use crate::config::Settings;
use crate::rotation;
use crate::setup::{self, KeyFiles};
use crate::workers;

/// The running services. The edge stops first, while the others still process its requests.
pub(crate) struct Stack {
    edge: concert_http_edge::Running,
    edge_shutdown: Shutdown,
    router: concert_sync_router::Running,
    workers: Vec<RunningWorker>,
    archive: Option<concert_archive::Running>,
    rotation: Option<JoinHandle<()>>,
    shutdown: Shutdown,
    /// Sees and changes the streams of all concepts.
    supervisor: Bus,
    /// The connections of all services.
    buses: Vec<Bus>,
    /// The threads of router and edge.
    _threads: [ServiceThread; 2],
}

/// A worker of this program.
pub(super) struct RunningWorker {
    running: concert_worker::Running,
    bus: Bus,
    _thread: ServiceThread,
}

impl RunningWorker {
    /// Waits until the actions in progress have ended.
    pub(super) async fn ended(self) {
        self.running.ended().await;
    }
}

/// Time for actions in progress to finish after the edge has stopped.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Starts everything. Requests are answered when this returns.
pub(super) async fn start(
    settings: &Settings,
    prepared: Prepared<'_>,
    servers: &Addresses,
) -> anyhow::Result<Stack> {
    let Prepared { workers, purposes, created, accept_new_keys, rules, access, listeners } =
        prepared;
    let keys_dir = settings.app.keys_dir();
    // The user `setup` is in the account of the streams, also if each component has its own user.
    let setup = bus_args(settings, servers, &User::Setup);
    let supervisor = Bus::connect_to_streams(&setup, "supervisor").await?;
    let keys =
        KeyFiles { dir: &keys_dir, purposes, created: &created, accept_new: accept_new_keys };
    prepare_servers(settings, servers, &access, &supervisor, &keys).await?;
    let (shutdown, edge_shutdown) = (Shutdown::new(), Shutdown::new());
    let (router_thread, edge_thread) =
        (ServiceThread::start("sync-router")?, ServiceThread::start("http-edge")?);
    let (router_bus, edge_bus) = tokio::try_join!(
        router_thread.with(connect(settings, servers, &User::Router, "sync-router")),
        edge_thread.with(connect(settings, servers, &User::Edge, "http-edge"))
    )?;
    let mut buses = vec![router_bus.clone(), edge_bus.clone(), supervisor.clone()];
    let router = router_thread
        .with(concert_sync_router::run(
            router_bus,
            rules,
            &settings.router,
            settings.log.clone(),
            shutdown.clone(),
        ))
        .await?;
    let workers = workers
        .iter()
        .filter(|worker| !settings.is_external(worker.concept()))
        .map(|worker| start_worker(worker, settings, servers, shutdown.clone()));
    let edge = edge_thread.with(async {
        concert_http_edge::run(
            edge_bus,
            listeners,
            (&settings.http, &settings.console, &settings.log),
            &keys_dir,
            edge_shutdown.clone(),
        )
        .await
        .map_err(anyhow::Error::from)
    });
    let (workers, edge) = tokio::try_join!(try_join_all(workers), edge)?;
    edge.ready().await;
    // The archive starts last: nothing waits for it.
    let archive = start_archive(settings, servers, shutdown.clone()).await?;
    let (archive, archive_bus) = archive.unzip();
    let rotation = start_rotation(settings, servers, &supervisor);
    buses.extend(workers.iter().map(|worker| worker.bus.clone()));
    buses.extend(archive_bus);
    Ok(Stack {
        _threads: [router_thread, edge_thread],
        edge,
        edge_shutdown,
        router,
        workers,
        archive,
        rotation,
        shutdown,
        supervisor,
        buses,
    })
}

/// Creates the streams and the database users on servers that were started here.
pub(crate) async fn prepare_servers(
    settings: &Settings,
    servers: &Addresses,
    access: &Access,
    supervisor: &Bus,
    keys: &KeyFiles<'_>,
) -> anyhow::Result<()> {
    if servers.has_own_nats {
        setup::make_streams(supervisor, access, &settings.log, keys).await?;
    }
    if servers.has_own_mongodb {
        setup::apply_database_users(settings, &servers.mongodb_uri, access).await?;
    }
    Ok(())
}

/// Connection parameters of a user. An existing server does not know our users: its credentials
/// determine the rights.
pub(crate) fn bus_args(settings: &Settings, servers: &Addresses, user: &User) -> BusArgs {
    if !servers.has_own_nats {
        return settings.nats.bus();
    }
    BusArgs {
        nats_nkey: Some(keys::seeds_path(&settings.app.keys_dir(), user)),
        ..BusArgs::at(servers.nats_url.as_str())
    }
}

async fn connect(
    settings: &Settings,
    servers: &Addresses,
    user: &User,
    name: &str,
) -> anyhow::Result<Bus> {
    let user = if settings.nats.isolate { user } else { &User::Setup };
    let bus = bus_args(settings, servers, user);
    let connected = if settings.nats.isolate {
        Bus::connect(&bus, name).await
    } else {
        Bus::connect_to_streams(&bus, name).await
    };
    connected.with_context(|| format!("cannot start {name}"))
}

fn store_args(settings: &Settings, servers: &Addresses) -> StoreArgs {
    let own = servers.has_own_mongodb.then(|| settings.app.keys_dir());
    let configured = settings.store();
    StoreArgs {
        mongodb_uri: servers.mongodb_uri.clone(),
        keys_dir: own.or(configured.keys_dir),
        ..configured
    }
}

/// Rotates the sealing keys if the whole system is started here; otherwise other processes may have
/// copies of the keys.
fn start_rotation(
    settings: &Settings,
    servers: &Addresses,
    supervisor: &Bus,
) -> Option<JoinHandle<()>> {
    let (bus, keys_dir) = (supervisor.clone(), settings.app.keys_dir());
    servers
        .has_own_nats
        .then(|| tokio::spawn(async move { rotation::run(&bus, &keys_dir, || Ok(())).await }))
}

async fn start_archive(
    settings: &Settings,
    servers: &Addresses,
    shutdown: Shutdown,
) -> anyhow::Result<Option<(concert_archive::Running, Bus)>> {
    if !settings.archive.enabled {
        return Ok(None);
    }
    let bus = connect(settings, servers, &User::Archive, "archive").await?;
    let store = store_args(settings, servers);
    let args = (&settings.archive, &settings.telemetry.traces);
    let running = concert_archive::run(bus.clone(), &store, args, settings.log.clone(), shutdown);
    let running = running.await.context("cannot start the archive")?;
    Ok(Some((running, bus)))
}

pub(super) async fn start_worker(
    worker: &Worker,
    settings: &Settings,
    servers: &Addresses,
    shutdown: Shutdown,
) -> anyhow::Result<RunningWorker> {
    let concept = worker.concept();
    let user = User::Worker(concept.parse()?);
    let thread = ServiceThread::start(concept)?;
    let bus = thread.with(connect(settings, servers, &user, concept)).await?;
    let options = workers::options(worker, settings, store_args(settings, servers), shutdown);
    let running = thread.with(worker.start(bus.clone(), options)).await;
    let running = running.with_context(|| format!("cannot start the worker of {concept}"))?;
    Ok(RunningWorker { running, bus, _thread: thread })
}

impl Stack {
    /// Address of the edge.
    pub(crate) fn address(&self) -> SocketAddr {
        self.edge.address()
    }

    /// URL of the application's paths.
    pub(super) fn api(&self, settings: &Settings) -> String {
        format!("http://{}{}", self.address(), settings.http.base)
    }

    /// Address of the console. `None` if it is off.
    pub(crate) fn console(&self) -> Option<SocketAddr> {
        self.edge.console()
    }

    /// Problems of workers that the console shows.
    pub(super) fn worker_problems(&self) -> WorkerProblems {
        self.edge.worker_problems()
    }

    /// A connection that sees and changes the streams of all concepts.
    pub(crate) fn supervisor(&self) -> &Bus {
        &self.supervisor
    }

    /// Stops services that are started later.
    pub(super) fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Returns when a service has lost its NATS connection permanently.
    pub(crate) async fn cut_off(&self) -> anyhow::Error {
        let ended = self.buses.iter().map(|bus| Box::pin(bus.ended()));
        select_all(ended).await.0.into()
    }

    /// Answers open requests, finishes actions in progress, and stops.
    pub(super) async fn stop(self, children: Children, deadline: Duration) {
        self.edge_shutdown.begin();
        if let Some(rotation) = &self.rotation {
            rotation.abort();
        }
        self.edge.ended(deadline).await;
        let (is_drained, ()) = tokio::join!(self.shutdown.drained(DRAIN_TIMEOUT), children.stop());
        if !is_drained {
            tracing::warn!(
                "shutdown timed out with actions in progress; the next start will process them"
            );
        }
        self.router.ended().await;
        for worker in self.workers {
            worker.ended().await;
        }
        if let Some(archive) = self.archive {
            archive.ended().await;
        }
    }
}
