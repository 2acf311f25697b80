//! The HTTP server: paths, limits, CORS, health, and an end that drains.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use concert_runtime::address::ListenAddress;
use concert_runtime::bus::Bus;
use concert_runtime::keys::{self, KeyError, Purpose};
use concert_runtime::metrics;
use concert_runtime::nats;
use concert_runtime::process::Shutdown;
use concert_runtime::setting::{DAY_MS, MESSAGE_BYTES_MAX};
use concert_runtime::streams::LogLimits;
use concert_wire::seal::Sealer;
use concert_worker::{HostLimits, Options};
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::admission::{Admission, AdmissionLimits};
use crate::api::Api;
use crate::client::{ClientArgs, Clients};
use crate::connections::{ConnectionLimits, Connections};
use crate::cookie::{CookieArgs, Cookies};
use crate::descriptions::{Description, Descriptions};
use crate::error::{ANSWERED_BY, EdgeError, FLOW};
use crate::metrics::Metrics;
use crate::page::{BadPage, Page, PageArgs};
use crate::passthrough::{Passthrough, PassthroughArgs};
use crate::pending::Pending;
use crate::routes::Routes;
use crate::{cookie, requesting, routes};

/// The section
/// `[http]`. The reader of the configuration refuses unknown keys: serde cannot do so beside `flatten`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EdgeArgs {
    /// Address to listen on. A port alone is one of 127.0.0.1; port 0 picks a free port.
    #[schemars(with = "String", extend("format" = "address"))]
    pub listen: ListenAddress,
    /// URL path prefix for all routes.
    #[serde(deserialize_with = "base")]
    pub base: String,
    /// Origins allowed by CORS, such as http://localhost:5173; `*` allows any.
    pub cors_origins: Vec<String>,
    /// Actions that are open without a rule.
    #[serde(flatten)]
    pub passthrough: PassthroughArgs,
    /// Reverse proxies.
    #[serde(flatten)]
    pub clients: ClientArgs,
    /// The session cookie.
    #[serde(flatten)]
    pub cookies: CookieArgs,
    /// Limits.
    #[serde(flatten)]
    pub limits: EdgeLimits,
}

impl Default for EdgeArgs {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)).into(),
            base: "/api".to_owned(),
            cors_origins: Vec::new(),
            passthrough: PassthroughArgs::default(),
            clients: ClientArgs::default(),
            cookies: CookieArgs::default(),
            limits: EdgeLimits::default(),
        }
    }
}

/// Limits of the edge.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EdgeLimits {
    /// Maximum request body size in bytes; larger bodies get 413.
    #[schemars(range(min = 1, max = MESSAGE_BYTES_MAX))]
    pub body_limit_bytes: usize,
    /// Response timeout in milliseconds; late requests get 504.
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
            body_limit_bytes: 256 * 1024,
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
        Err(D::Error::custom("a base begins with `/` and does not end with it, such as /api"))
    }
}

/// Why an edge does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen {
        /// The address.
        address: ListenAddress,
        /// Why not.
        source: std::io::Error,
    },
    /// The page is wanted, and who may see it is not said.
    #[error(transparent)]
    Page(#[from] BadPage),
    /// Keys are missing.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// An origin is none.
    #[error("`{0}` is not an origin such as http://localhost:5173")]
    Origin(String),
    /// The worker of Requesting does not start.
    #[error(transparent)]
    Worker(#[from] concert_worker::StartError),
    /// The log cannot be listened to.
    #[error("responses cannot be listened for: {0}")]
    Subscribe(nats::Error),
}

/// An edge that serves; it goes on until shutdown.
pub struct Running {
    address: SocketAddr,
    has_page: bool,
    server: tokio::task::JoinHandle<()>,
    worker: concert_worker::Running,
    routes: Routes,
    behind: Shutdown,
    drain_delay: Duration,
}

/// How long open requests may take once shutdown is asked for, beyond their own deadline; and how
/// long the responses that were taken may.
const DRAIN_MARGIN: Duration = Duration::from_secs(5);

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it serves the page.
    pub fn has_page(&self) -> bool {
        self.has_page
    }

    /// Ends when the edge knows the paths that it answers.
    pub async fn ready(&self) {
        // The sender lives as long as the edge.
        drop(self.routes.clone().wait_for(Option::is_some).await);
    }

    /// Ends when every request that was taken is answered. What answers them goes on until then.
    pub async fn ended(self, within: Duration) {
        match tokio::time::timeout(self.drain_delay + within + DRAIN_MARGIN, self.server).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the HTTP server ended in disorder"),
            Err(_) => tracing::warn!("some requests were not answered in time"),
        }
        if !self.behind.drained(DRAIN_MARGIN).await {
            tracing::warn!("some responses are left to another edge");
        }
        self.worker.ended().await;
    }
}

/// Takes the address of an edge; requests wait until [`run`] serves them. Called before anything
/// else is started, so that an address in use is reported first.
///
/// # Errors
/// [`StartError::Listen`]
pub async fn listen(args: &EdgeArgs) -> Result<TcpListener, StartError> {
    args.listen
        .bind()
        .await
        .map_err(|source| StartError::Listen { address: args.listen.clone(), source })
}

/// Starts an edge. When this returns, it serves, and its worker takes responses.
///
/// # Errors
/// See [`StartError`].
pub async fn run(
    bus: Bus,
    listener: TcpListener,
    (args, page_args): (&EdgeArgs, &PageArgs),
    keys_dir: &Path,
    host: HostLimits,
    log: LogLimits,
    shutdown: Shutdown,
) -> Result<Running, StartError> {
    let cookies = Cookies::new(&args.cookies, &args.cors_origins);
    let cors = cors(&args.cors_origins, cookies.is_some())?;
    let address = listener
        .local_addr()
        .map_err(|source| StartError::Listen { address: args.listen.clone(), source })?;
    let viewers = Page::viewers(page_args, address)?;
    // What answers the open requests outlives the server.
    let behind = Shutdown::new();
    let sealer = Sealer::new(keys::watch(keys_dir, Purpose::Seal, &behind)?);
    let edge_keys = keys::watch(keys_dir, Purpose::Edge, &behind)?;
    let pending = Pending::default();
    requesting::listen(&bus, pending.clone(), behind.clone())
        .await
        .map_err(StartError::Subscribe)?;
    let options = Options {
        store: None,
        keys_dir: keys_dir.to_owned(),
        host,
        log,
        settings: serde_json::Value::Null,
        shutdown: behind.clone(),
    };
    let worker = requesting::worker().start(bus.clone(), options).await?;
    let page = match viewers {
        Some(viewers) => Page::start(bus.clone(), viewers, page_args, &args.base, shutdown.clone())
            .await
            .map(Some)
            .map_err(StartError::Subscribe)?,
        None => None,
    };
    let routes = routes::watch(bus.clone(), behind.clone());
    let has_page = page.is_some();
    let metrics = Metrics::new();
    let clients = Arc::new(Clients::new(&args.clients, edge_keys.clone()));
    let api = Api {
        descriptions: Descriptions::new(&bus, routes.clone(), &args.base),
        routes: routes.clone(),
        bus,
        pending,
        sealer,
        clients: clients.clone(),
        cookies,
        keys: edge_keys,
        limits: args.limits.clone(),
        admission: Admission::new(args.limits.admission.clone()),
        bodies: Semaphore::new(args.limits.admission.max_requests),
        metrics: metrics.clone(),
        passthrough: Passthrough::new(&args.passthrough),
        page,
        shutdown: shutdown.clone(),
    };
    let apps = apps(Arc::new(api), args.base.clone().into(), cors);
    let drain_delay = Duration::from_millis(args.limits.drain_delay_ms);
    let connections =
        Connections::new(listener, apps, args.limits.connections.clone(), clients, metrics);
    let server = connections.serve(async move {
        shutdown.requested().await;
        tokio::time::sleep(drain_delay).await;
    });
    tracing::info!(%address, base = %args.base, "edge started");
    Ok(Running {
        address,
        has_page,
        server: tokio::spawn(server),
        worker,
        routes,
        behind,
        drain_delay,
    })
}

/// What connections get: those that there is room for, and those past the bound.
fn apps(api: Arc<Api>, base: Arc<str>, cors: Option<CorsLayer>) -> (Router, Router) {
    // For everybody: a process that is busy is not one that should be started again.
    let health = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(figures));
    let refusing =
        health.clone().fallback(async || EdgeError::Connections.response()).with_state(api.clone());
    let app = health
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
        )
        .fallback(move |State(api): State<Arc<Api>>, request: Request| async move {
            fallback(&api, &base, request).await
        })
        .with_state(api);
    match cors {
        Some(cors) => (app.layer(cors.clone()), refusing.layer(cors)),
        None => (app, refusing),
    }
}

async fn fallback(api: &Arc<Api>, base: &str, request: Request) -> Response<Body> {
    let path = request
        .uri()
        .path()
        .strip_prefix(base)
        .filter(|path| path.starts_with('/'))
        .map(str::to_owned);
    let is_rule_s = path.as_deref().is_some_and(|path| api.has(path));
    if let Some(page) = api.page.as_ref().filter(|_| !is_rule_s && Page::has(request.uri().path()))
    {
        let (parts, _) = request.into_parts();
        return page.answer(&parts).await;
    }
    match path {
        Some(path) => api.answer(&path, request).await,
        None => EdgeError::NotFound.response(),
    }
}

async fn ready(State(api): State<Arc<Api>>) -> Response<Body> {
    if api.shutdown.begun() {
        return (StatusCode::SERVICE_UNAVAILABLE, "ending\n").into_response();
    }
    let connected = api.bus.is_connected();
    let has_routes = api.routes.borrow().is_some();
    match (connected, has_routes) {
        (true, true) => "ready\n".into_response(),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "no connection to NATS\n").into_response(),
        (true, false) => {
            (StatusCode::SERVICE_UNAVAILABLE, "no router has published the route table\n")
                .into_response()
        }
    }
}

async fn figures() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text())
}

/// Credentials are for listed origins only: with `*` a cookie would be anybody's.
fn cors(origins: &[String], cookies: bool) -> Result<Option<CorsLayer>, StartError> {
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
    Ok(Some(
        CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods([Method::POST])
            .allow_headers(accepted)
            .allow_credentials(cookies && !any)
            .expose_headers(exposed)
            .max_age(Duration::from_secs(600)),
    ))
}
