//! The HTTP server: paths, limits, CORS, health checks and graceful shutdown.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use axum::routing::get;
use concert_runtime::address::ListenAddress;
use concert_runtime::blobs::{Blobs, BlobsConnectError};
use concert_runtime::bus::Bus;
use concert_runtime::keys::{self, KeyError, Purpose};
use concert_runtime::metrics;
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
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::admission::{Admission, AdmissionLimits};
use crate::answer::Refusals;
use crate::api::Api;
use crate::bodies::{Bodies, BodyLimits};
use crate::client::{ClientArgs, Clients};
use crate::connections::{ConnectionLimits, Connections};
use crate::cookie::{CookieArgs, Cookies};
use crate::descriptions::{Description, Descriptions};
use crate::error::{ANSWERED_BY, EdgeError, ErrorArgs, FLOW};
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
use crate::splice::Splicer;
use crate::{cookie, page, requesting, routes};

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
            bodies: Bodies::new(body_limits, slots, max_payload, Some((blobs.clone(), quotas))),
            splicer: Splicer::new(blobs, body_limits.max_downloads, deadline),
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

/// The axum routers, one for each kind of connection.
struct Apps {
    /// On `http.listen`.
    public: Router,
    /// On `http.internal_listen`.
    internal: Router,
    /// Of connections above the limit.
    rejected: Router,
}

/// `separate`: only the internal service has metrics and descriptions.
fn apps(api: Arc<Api>, base: Arc<str>, cors: Option<CorsLayer>, separate: bool) -> Apps {
    // Health checks are served on rejected connections, too: a busy process must not be restarted.
    let health =
        Router::new().route("/healthz", get(|| async { "ok\n" })).route("/readyz", get(ready));
    let metrics = Router::new().route("/metrics", get(metrics_text));
    let descriptions = Router::new()
        .route(
            "/openapi.json",
            get(async |State(api): State<Arc<Api>>| {
                api.descriptions.answer(Description::OpenApi).await
            }),
        )
        .route(
            "/asyncapi.json",
            get(async |State(api): State<Arc<Api>>| {
                api.descriptions.answer(Description::AsyncApi).await
            }),
        );
    let all = health.clone().merge(metrics.clone()).merge(descriptions);
    let (public, rejected) = match separate {
        true => (health.clone(), health),
        false => (all.clone(), health.merge(metrics)),
    };
    let (prefix, asked) = (base.clone(), api.clone());
    let public = public
        .fallback(move |State(api): State<Arc<Api>>, request: Request| async move {
            fallback(&api, &base, request).await
        })
        .with_state(api.clone());
    let errors = api.errors;
    let rejected = rejected
        .fallback(async move || EdgeError::Connections.response(errors))
        .with_state(api.clone());
    let internal = all.fallback(async move || EdgeError::NotFound.response(errors)).with_state(api);
    match cors {
        Some(cors) => {
            let preflight = move |request: Request, next: Next| {
                preflight(asked.clone(), prefix.clone(), request, next)
            };
            let public = public.layer(cors.clone()).layer(middleware::from_fn(preflight));
            Apps { public, rejected: rejected.layer(cors), internal }
        }
        None => Apps { public, rejected, internal },
    }
}

/// The path of a request without the base.
fn below<'a>(base: &str, request: &'a Request) -> Option<&'a str> {
    request.uri().path().strip_prefix(base).filter(|path| path.starts_with('/'))
}

/// Adds what CORS permits on a path: its methods, and the headers that the rules declare.
async fn preflight(api: Arc<Api>, base: Arc<str>, request: Request, next: Next) -> Response<Body> {
    if request.method() != Method::OPTIONS {
        return next.run(request).await;
    }
    let methods = below(&base, &request).map(|path| api.methods(path)).unwrap_or_default();
    let methods = match methods.is_empty() {
        true => "POST".to_owned(),
        false => routes::allow(&methods),
    };
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    if let Ok(methods) = HeaderValue::from_str(&methods) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    }
    for name in api.declared_headers() {
        headers.append(header::ACCESS_CONTROL_ALLOW_HEADERS, name);
    }
    response
}

async fn fallback(api: &Arc<Api>, base: &str, request: Request) -> Response<Body> {
    let path = below(base, &request).map(str::to_owned);
    // If the base is empty, a path is a rule's only if the route table has it; otherwise it may be
    // a file.
    if let Some(path) = path.filter(|path| !base.is_empty() || api.has(path)) {
        return api.answer(&path, request).await;
    }
    let (parts, _) = request.into_parts();
    if parts.method == Method::GET && parts.uri.path() == page::LINK {
        return page::link_response(api.console_link.as_ref(), &parts.headers);
    }
    let file = match &api.files {
        Some(files) => files.response(&parts).await,
        None => None,
    };
    file.unwrap_or_else(|| EdgeError::NotFound.response(api.errors))
}

async fn ready(State(api): State<Arc<Api>>) -> Response<Body> {
    if api.shutdown.begun() {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response();
    }
    let obstacle = if !api.bus.is_connected() {
        "no connection to NATS\n"
    } else if api.routes.borrow().is_none() {
        "no router has published the route table\n"
    } else if !api.bodies.has_room() {
        "too many request bodies in progress\n"
    } else {
        return "ready\n".into_response();
    };
    (StatusCode::SERVICE_UNAVAILABLE, obstacle).into_response()
}

async fn metrics_text() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text())
}

/// CORS configuration. Only listed origins may send credentials; `*` would allow every site.
fn cors(args: &EdgeArgs, cookies: bool) -> Result<Option<CorsLayer>, StartError> {
    let origins = &args.cors_origins;
    if origins.is_empty() {
        return Ok(None);
    }
    let any = origins.iter().any(|origin| origin == "*");
    let allowed = if any {
        AllowOrigin::any()
    } else {
        let parse = |origin: &String| {
            let ok = origin.starts_with("http://") || origin.starts_with("https://");
            HeaderValue::from_str(origin)
                .ok()
                .filter(|_| ok && !origin.ends_with('/'))
                .ok_or_else(|| StartError::Origin(origin.clone()))
        };
        AllowOrigin::list(origins.iter().map(parse).collect::<Result<Vec<_>, _>>()?)
    };
    let exposed =
        [HeaderName::from_static(FLOW), HeaderName::from_static(ANSWERED_BY), header::RETRY_AFTER];
    let accepted = [
        header::CONTENT_TYPE,
        HeaderName::from_static("idempotency-key"),
        cookie::ASK,
        HeaderName::from_static("traceparent"),
    ];
    let readable = args.headers.headers.iter().map(|header| header.name().clone());
    let accepted: Vec<HeaderName> = accepted.into_iter().chain(readable).collect();
    Ok(Some(
        CorsLayer::new()
            .allow_origin(allowed)
            .allow_headers(accepted)
            .allow_credentials(cookies && !any)
            .expose_headers(exposed)
            .max_age(Duration::from_secs(600)),
    ))
}
