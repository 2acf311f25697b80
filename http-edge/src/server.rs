//! The HTTP server: its settings, listeners, start and graceful shutdown.

mod apps;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use concert_runtime::address::ListenAddress;
use concert_runtime::blobs::{Blobs, BlobsConnectError};
use concert_runtime::bus::Bus;
use concert_runtime::keys::{self, KeyError, Purpose};
use concert_runtime::nats;
use concert_runtime::process::Shutdown;
use concert_runtime::setting::DAY_MS;
use concert_runtime::streams::LogLimits;
use concert_wire::seal::Sealer;
use futures_util::future::BoxFuture;
use futures_util::future::join_all;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use tokio::net::TcpListener;

use self::apps::{apps, cors};
use crate::admission::{Admission, AdmissionLimits};
use crate::answer::Refusals;
use crate::api::Api;
use crate::bodies::{Bodies, BodyLimits};
use crate::client::{ClientArgs, Clients};
use crate::connections::{ConnectionLimits, Connections};
use crate::cookie::{CookieArgs, Cookies};
use crate::descriptions::Descriptions;
use crate::error::ErrorArgs;
use crate::files::{BadFiles, FileArgs, Files};
use crate::keys::HeaderArgs;
use crate::metrics::Metrics;
use crate::page::{BadPage, Page, PageAccess, PageArgs, WorkerProblems};
use crate::passthrough::{Passthrough, PassthroughArgs};
use crate::pending::Pending;
use crate::quotas::Quotas;
use crate::rates::{RateLimits, Rates};
use crate::repeats::UsedSecrets;
use crate::routes::Routes;
use crate::splice::{BadCache, CacheArgs, Splicer};
use crate::{page, requesting, routes};

/// The section `[http]`. The configuration reader rejects unknown keys, because serde cannot reject
/// them together with `flatten`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EdgeArgs {
    /// Address to listen on. A port without a host means 127.0.0.1; port 0 picks a free port.
    #[schemars(with = "String", extend("format" = "address"))]
    pub listen: ListenAddress,
    /// Address of a second listener for `/metrics`, `/openapi.json` and `/asyncapi.json`. If set,
    /// `http.listen` does not serve them. Both serve `/healthz` and `/readyz`.
    #[schemars(with = "Option<String>", extend("format" = "address"))]
    pub internal_listen: Option<ListenAddress>,
    /// URL path prefix for all routes.
    #[serde(deserialize_with = "base")]
    pub base: String,
    /// Origins allowed by CORS, such as http://localhost:5173; `*` allows any.
    pub cors_origins: Vec<String>,
    /// `200` sends refusals of rules (4xx, without 429) with status 200 and the same body, for
    /// clients that read only the body; `status` sends the status of the rule. Metrics and console
    /// show the status of the rule.
    pub refusals: Refusals,
    /// Errors of the edge itself.
    #[serde(flatten)]
    pub errors: ErrorArgs,
    /// Static files.
    #[serde(flatten)]
    pub files: FileArgs,
    /// Actions that are exposed without a rule.
    #[serde(flatten)]
    pub passthrough: PassthroughArgs,
    /// Reverse proxies.
    #[serde(flatten)]
    pub clients: ClientArgs,
    /// The session cookie.
    #[serde(flatten)]
    pub cookies: CookieArgs,
    /// Headers that rules may read.
    #[serde(flatten)]
    pub headers: HeaderArgs,
    /// The cache of large values.
    #[serde(flatten)]
    pub cache: CacheArgs,
    /// Limits.
    #[serde(flatten)]
    pub limits: EdgeLimits,
}

impl Default for EdgeArgs {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)).into(),
            internal_listen: None,
            base: "/api".to_owned(),
            cors_origins: Vec::new(),
            refusals: Refusals::default(),
            errors: ErrorArgs::default(),
            files: FileArgs::default(),
            passthrough: PassthroughArgs::default(),
            clients: ClientArgs::default(),
            cookies: CookieArgs::default(),
            headers: HeaderArgs::default(),
            cache: CacheArgs::default(),
            limits: EdgeLimits::default(),
        }
    }
}

/// Limits of the edge.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EdgeLimits {
    /// Limits of request bodies.
    #[serde(flatten)]
    pub bodies: BodyLimits,
    /// Limits of the request rate of one client.
    #[serde(flatten)]
    pub rates: RateLimits,
    /// Response timeout in milliseconds; late requests get 504, and their actions may still happen.
    #[schemars(range(min = 1, max = DAY_MS))]
    pub deadline_ms: u64,
    /// Limits of concurrent requests.
    #[serde(flatten)]
    pub admission: AdmissionLimits,
    /// Limits of connections.
    #[serde(flatten)]
    pub connections: ConnectionLimits,
    /// On shutdown, milliseconds to keep serving while `/readyz` returns 503, so that load
    /// balancers can react.
    #[schemars(range(min = 0, max = DAY_MS))]
    pub drain_delay_ms: u64,
}

impl Default for EdgeLimits {
    fn default() -> Self {
        Self {
            bodies: BodyLimits::default(),
            rates: RateLimits::default(),
            deadline_ms: 15_000,
            admission: AdmissionLimits::default(),
            connections: ConnectionLimits::default(),
            drain_delay_ms: 1000,
        }
    }
}

fn base<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    let is_path = text.starts_with('/')
        && !text.ends_with('/')
        && text.bytes().all(|b| b.is_ascii_graphic() && !b"?#{}*".contains(&b));
    if text.is_empty() || is_path {
        Ok(text)
    } else {
        Err(D::Error::custom("a base must start with `/` and must not end with it, such as /api"))
    }
}

/// An error at the start of an edge.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is in use or not available.
    #[error("cannot listen on {address}: {source}; choose another address with {setting}")]
    Listen {
        /// The address.
        address: ListenAddress,
        /// Flag or key that sets it.
        setting: &'static str,
        /// Cause.
        source: std::io::Error,
    },
    /// The configuration of the console is invalid.
    #[error(transparent)]
    Page(#[from] BadPage),
    /// The static files are missing.
    #[error(transparent)]
    Files(#[from] BadFiles),
    /// Keys are missing.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The connection for large values fails.
    #[error(transparent)]
    Blobs(#[from] BlobsConnectError),
    /// The cache of large values cannot be created.
    #[error(transparent)]
    Cache(#[from] BadCache),
    /// The value is not an origin.
    #[error("`{0}` in http.cors_origins is not an origin such as http://localhost:5173")]
    Origin(String),
    /// A subscription fails.
    #[error("cannot subscribe to responses: {0}")]
    Subscribe(nats::Error),
}

/// Listening sockets and static files of an edge, opened before anything is started.
pub struct Listeners {
    public: TcpListener,
    internal: Option<TcpListener>,
    console: Option<(TcpListener, SocketAddr, PageAccess)>,
    files: Option<Files>,
}

impl Listeners {
    /// Address of `http.listen`, with its port.
    ///
    /// # Errors
    /// The operating system does not return it.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.public.local_addr()
    }

    /// Address of the console, with its port. `None` if it is off.
    pub fn console_address(&self) -> Option<SocketAddr> {
        self.console.as_ref().map(|(_, address, _)| *address)
    }
}

/// A running edge.
pub struct Running {
    address: SocketAddr,
    console: Option<SocketAddr>,
    server: tokio::task::JoinHandle<()>,
    routes: Routes,
    problems: WorkerProblems,
    responses: Shutdown,
    drain_delay: Duration,
}

/// On shutdown: time to wait for open requests after their deadline, and after that the time to
/// wait for background tasks.
const DRAIN_MARGIN: Duration = Duration::from_secs(5);

impl Running {
    /// Address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Address of the console. `None` if it is off.
    pub fn console(&self) -> Option<SocketAddr> {
        self.console
    }

    /// Problems of workers that the console shows.
    pub fn worker_problems(&self) -> WorkerProblems {
        self.problems.clone()
    }

    /// Returns when the edge has a route table.
    pub async fn ready(&self) {
        // The error can be ignored: the sender lives as long as the edge.
        drop(self.routes.clone().wait_for(Option::is_some).await);
    }

    /// Returns when all accepted requests have their response. The edge receives responses until
    /// then.
    pub async fn ended(self, within: Duration) {
        match tokio::time::timeout(self.drain_delay + within + DRAIN_MARGIN, self.server).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "HTTP server failed"),
            Err(_) => tracing::warn!("shutdown timed out with requests in flight"),
        }
        if !self.responses.drained(DRAIN_MARGIN).await {
            tracing::warn!("shutdown timed out with background tasks in progress");
        }
    }
}

/// Binds the addresses of an edge; connections queue until [`run`] serves them. Call this before
/// starting anything else, so an address in use or a missing file is reported first.
///
/// # Errors
/// [`StartError::Listen`], [`StartError::Page`], [`StartError::Files`]
pub async fn listen(args: &EdgeArgs, page_args: &PageArgs) -> Result<Listeners, StartError> {
    let files = Files::open(&args.files)?;
    let internal = match &args.internal_listen {
        Some(address) => Some(bind(address, "http.internal_listen").await?),
        None => None,
    };
    let console = match page_args.is_on() {
        true => {
            let (address, setting) = (&page_args.listen, "--console-listen");
            let listener = bind(address, setting).await?;
            let bound = local_address(&listener, address, setting)?;
            Some((listener, bound, PageAccess::new(page_args, bound)?))
        }
        false => None,
    };
    Ok(Listeners { public: bind(&args.listen, "--listen").await?, internal, console, files })
}

fn local_address(
    listener: &TcpListener,
    address: &ListenAddress,
    setting: &'static str,
) -> Result<SocketAddr, StartError> {
    let bound = listener.local_addr();
    bound.map_err(|source| StartError::Listen { address: address.clone(), setting, source })
}

async fn bind(address: &ListenAddress, setting: &'static str) -> Result<TcpListener, StartError> {
    let bound = address.bind().await;
    bound.map_err(|source| StartError::Listen { address: address.clone(), setting, source })
}

/// Starts an edge. When this returns, the edge serves requests.
///
/// # Errors
/// See [`StartError`].
pub fn run<'a>(
    bus: Bus,
    listeners: Listeners,
    (args, page_args, log): (&'a EdgeArgs, &'a PageArgs, &'a LogLimits),
    keys_dir: &'a Path,
    shutdown: Shutdown,
) -> BoxFuture<'a, Result<Running, StartError>> {
    Box::pin(async move {
        let cookies = Cookies::new(&args.cookies, &args.cors_origins);
        let cors = cors(args, cookies.is_some())?;
        let console_address = listeners.console_address();
        let Listeners { public, internal, console, files } = listeners;
        let address = local_address(&public, &args.listen, "--listen")?;
        // The processing of responses outlives the server, because open requests need it.
        let responses = Shutdown::new();
        let sealer = Sealer::new(keys::watch(keys_dir, Purpose::Seal, &responses)?);
        let edge_keys = keys::watch(keys_dir, Purpose::Edge, &responses)?;
        let pending = Pending::default();
        requesting::listen(&bus, pending.clone(), responses.clone())
            .await
            .map_err(StartError::Subscribe)?;
        let routes = routes::watch(bus.clone(), responses.clone());
        let problems = WorkerProblems::default();
        let console = match console {
            Some((listener, address, access)) => {
                let workers = (routes.clone(), problems.clone());
                let page = Page::start(bus.clone(), access, page_args, workers, shutdown.clone());
                Some((listener, address, page.await.map_err(StartError::Subscribe)?))
            }
            None => None,
        };
        let metrics = Metrics::new();
        let clients = Arc::new(Clients::new(&args.clients, edge_keys.clone()));
        let max_payload = bus.client.max_payload();
        let blobs = Blobs::connect(&bus).await?;
        let read_from = match args.cache.open()? {
            Some(cache) => blobs.clone().with_cache(cache),
            None => blobs.clone(),
        };
        let (body_limits, slots) = (&args.limits.bodies, args.limits.admission.max_requests);
        let quotas = Quotas::new(body_limits.client_large_values_percent, log);
        let deadline = Duration::from_millis(args.limits.deadline_ms);
        let api = Api {
            descriptions: Descriptions::new(
                &bus,
                routes.clone(),
                &args.base,
                args.refusals,
                args.errors,
                args.headers.by_key(),
            ),
            routes: routes.clone(),
            bus,
            pending,
            sealer,
            clients: clients.clone(),
            cookies,
            readable_headers: args.headers.headers.clone(),
            refusals: args.refusals,
            errors: args.errors,
            keys: edge_keys,
            limits: args.limits.clone(),
            admission: Admission::new(args.limits.admission.clone()),
            bodies: Bodies::new(body_limits, slots, max_payload, Some((blobs, quotas))),
            splicer: Splicer::new(read_from, body_limits.max_downloads, deadline),
            rates: Rates::new(&args.limits.rates),
            used_secrets: UsedSecrets::default(),
            metrics: metrics.clone(),
            passthrough: Passthrough::new(&args.passthrough),
            files,
            console_link: console.as_ref().map(|(_, address, page)| page.link(*address)),
            shutdown: shutdown.clone(),
        };
        let apps = apps(Arc::new(api), args.base.clone().into(), cors, internal.is_some());
        let drain_delay = Duration::from_millis(args.limits.drain_delay_ms);
        let connections = |listener, apps| {
            let limits = args.limits.connections.clone();
            Connections::new(listener, apps, limits, clients.clone(), metrics.clone(), args.errors)
        };
        let until = || {
            let shutdown = shutdown.clone();
            async move {
                shutdown.requested().await;
                tokio::time::sleep(drain_delay).await;
            }
        };
        let public = connections(public, (apps.public, apps.rejected.clone())).serve(until());
        let internal = internal.map(|listener| (listener, apps.internal));
        let console = console.map(|(listener, _, page)| (listener, page::app(page)));
        let others = [internal, console].into_iter().flatten();
        let others = others
            .map(|(listener, app)| {
                connections(listener, (app, apps.rejected.clone())).serve(until())
            })
            .collect::<Vec<_>>();
        let server = async move {
            tokio::join!(public, join_all(others));
        };
        tracing::info!(%address, base = %args.base, "edge started");
        if let Some(address) = console_address {
            tracing::info!(%address, "console started");
        }
        let server = tokio::spawn(server);
        Ok(Running {
            address,
            console: console_address,
            server,
            routes,
            problems,
            responses,
            drain_delay,
        })
    })
}
