//! The console: its files, the queries that it sends to the archive, and live updates (ADR 16). It
//! has an address of its own, so that it is another origin than the application (ADR 40).
//!
//! The console does not depend on the application; it passes the archive's rows on unchanged.

mod assets;
mod guard;
mod live;
mod queries;
mod workers;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use concert_runtime::address::ListenAddress;
use concert_runtime::bus::Bus;
use concert_runtime::nats;
use concert_runtime::process::Shutdown;
use concert_runtime::service::NoAnswer;
use concert_runtime::setting::{COUNT_MAX, DAY_MS};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::error::json_response;
use crate::routes::Routes;
pub use guard::BadPage;
pub(crate) use guard::PageAccess;
use live::Live;
pub use workers::WorkerProblems;

/// The section `[console]`: the console and access to it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PageArgs {
    /// Serve the console. If not set, `concert up` serves it, and `concert http-edge` does not.
    /// It needs a token, except for `concert up` on a loopback address.
    pub enabled: Option<bool>,
    /// Address of the console. It must differ from `http.listen`, so that scripts of the
    /// application's pages cannot read the console.
    #[schemars(with = "String", extend("format" = "address"))]
    pub listen: ListenAddress,
    /// File with the operator token, at least 32 characters.
    pub token_file: Option<PathBuf>,
    /// Maximum number of console pages with live updates; further pages get 503 for the updates.
    #[schemars(range(min = 0, max = COUNT_MAX))]
    pub listeners: usize,
    /// Maximum number of concurrent queries of consoles; excess queries get 503.
    #[schemars(range(min = 1, max = COUNT_MAX))]
    pub queries: usize,
    /// Timeout of a query to the archive, in milliseconds; late queries get 504.
    #[schemars(range(min = 1, max = DAY_MS))]
    pub timeout_ms: u64,
    /// True for `concert up`, which serves the console by default.
    #[serde(skip)]
    pub is_concert_up: bool,
}

impl Default for PageArgs {
    fn default() -> Self {
        Self {
            enabled: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 8001)).into(),
            token_file: None,
            listeners: 32,
            queries: 16,
            timeout_ms: 5000,
            is_concert_up: false,
        }
    }
}

impl PageArgs {
    /// True if the edge serves the console. Logs a token that is not used.
    pub(crate) fn is_on(&self) -> bool {
        let is_on = self.enabled.unwrap_or(self.is_concert_up);
        if !is_on && self.token_file.is_some() {
            tracing::warn!(
                "console.token_file is set and the console is off; set console.enabled = true"
            );
        }
        is_on
    }
}

/// Path on `http.listen` at which a page of the application learns the address of the console.
pub(crate) const LINK: &str = "/_concert/console";
const API: &str = "/_concert/api/";
const LIVE: &str = "/_concert/live";
/// Path of the problems of workers. The edge knows them; the archive does not.
const WORKERS: &str = "/_concert/api/workers";
const SETTINGS: &str = "/_concert/settings";

/// The console of an edge.
pub(crate) struct Page {
    bus: Bus,
    access: PageAccess,
    live: Live,
    queries: Semaphore,
    timeout: Duration,
    routes: Routes,
    problems: WorkerProblems,
    /// Response of [`SETTINGS`]: if a token is required.
    settings: String,
}

/// The address of a console, for pages of the application.
pub(crate) struct Link {
    access: PageAccess,
    url: String,
}

/// Response with the address of the console, or with `null`. Only a page on this machine gets the
/// address, and only of a console that is open to it.
pub(crate) fn link_response(link: Option<&Link>, headers: &HeaderMap) -> Response<Body> {
    let is_open =
        |link: &&Link| !link.access.needs_token() && link.access.admit_name(headers).is_ok();
    let url = link.filter(is_open).map(|link| &link.url);
    json_response(StatusCode::OK, Body::from(json!({ "console": url }).to_string()))
}

/// The service of the console.
pub(crate) fn app(page: Arc<Page>) -> Router {
    Router::new().fallback(async move |request: Request| {
        let (parts, _) = request.into_parts();
        page.answer(&parts).await
    })
}

/// A request of a console that fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(
        "without a token, the console accepts only local host names such as localhost; use one, or \
         set console.token_file"
    )]
    Name,
    #[error(
        "a proxy passed this request on, and then the console needs an operator token: set \
         console.token_file"
    )]
    Forwarded,
    #[error("cross-site requests to the console are not allowed")]
    OtherSite,
    #[error("operator token required")]
    NoToken,
    #[error("wrong operator token")]
    WrongToken,
    #[error("not found")]
    NotFound,
    #[error("method not allowed; use GET")]
    Method,
    #[error("{0}")]
    Query(String),
    #[error("too many open consoles for live updates; close some or increase console.listeners")]
    Listeners,
    #[error("too many concurrent queries; retry later")]
    Queries,
    #[error("the edge is shutting down")]
    Ending,
    #[error("the archive did not respond in time; it may be busy or stopped")]
    Slow,
    #[error("no archive responds; start one with `concert archive`")]
    Nobody,
    #[error("the archive is temporarily unavailable: {0}")]
    NotNow(String),
    #[error("archive error: {0}")]
    Archive(String),
}

impl From<NoAnswer> for Refusal {
    fn from(no_answer: NoAnswer) -> Self {
        match no_answer {
            NoAnswer::TimedOut(_) => Self::Slow,
            NoAnswer::Unreachable(_) => Self::Nobody,
            NoAnswer::Unreadable(why) => Self::Archive(why),
            NoAnswer::Refused { code, why } => match code.as_str() {
                "400" => Self::Query(why),
                "503" => Self::NotNow(why),
                "504" => Self::Slow,
                _ => Self::Archive(why),
            },
        }
    }
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Name | Self::Forwarded | Self::OtherSite => StatusCode::FORBIDDEN,
            Self::NoToken | Self::WrongToken => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Query(_) => StatusCode::BAD_REQUEST,
            Self::Listeners | Self::Queries | Self::Ending | Self::Nobody | Self::NotNow(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Archive(_) => StatusCode::BAD_GATEWAY,
            Self::Slow => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    fn response(&self) -> Response<Body> {
        let body = json!({ "error": self.to_string() }).to_string();
        let mut response = json_response(self.status(), Body::from(body));
        let extra = match self {
            Self::NoToken | Self::WrongToken => Some((header::WWW_AUTHENTICATE, "Bearer")),
            Self::Method => Some((header::ALLOW, "GET, HEAD")),
            _ => None,
        };
        if let Some((name, value)) = extra {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

impl Page {
    /// Subscribes to live updates.
    ///
    /// # Errors
    /// The subscription fails.
    pub(crate) async fn start(
        bus: Bus,
        access: PageAccess,
        args: &PageArgs,
        (routes, problems): (Routes, WorkerProblems),
        shutdown: Shutdown,
    ) -> Result<Arc<Self>, nats::Error> {
        let live = Live::start(&bus, args.listeners, shutdown).await?;
        let settings = json!({ "token": access.needs_token() }).to_string();
        Ok(Arc::new(Self {
            bus,
            access,
            live,
            queries: Semaphore::new(args.queries),
            timeout: Duration::from_millis(args.timeout_ms),
            routes,
            problems,
            settings,
        }))
    }

    /// Link to this console.
    pub(crate) fn link(&self, address: SocketAddr) -> Link {
        Link { access: self.access.clone(), url: format!("http://{address}/") }
    }

    /// Responds to a request.
    async fn answer(&self, request: &Parts) -> Response<Body> {
        let mut response = match self.answered(request).await {
            Ok(response) => response,
            Err(refusal) => refusal.response(),
        };
        guard::add_security_headers(response.headers_mut());
        response
    }

    async fn answered(&self, request: &Parts) -> Result<Response<Body>, Refusal> {
        let (path, headers) = (request.uri.path(), &request.headers);
        self.access.admit_name(headers)?;
        if ![Method::GET, Method::HEAD].contains(&request.method) {
            return Err(Refusal::Method);
        }
        if path != "/" {
            guard::admit_site(headers)?;
        }
        if path == SETTINGS {
            return Ok(json_response(StatusCode::OK, self.settings.clone().into()));
        }
        if path == LIVE {
            self.access.admit_token(headers)?;
            return self.live.listen();
        }
        if path == WORKERS {
            self.access.admit_token(headers)?;
            let rows = json!({ "rows": self.problems.rows(&self.routes) });
            return Ok(json_response(StatusCode::OK, rows.to_string().into()));
        }
        match path.strip_prefix(API) {
            Some(query) => {
                self.query(query, request.uri.query().unwrap_or_default(), headers).await
            }
            None => assets::response(path, headers).ok_or(Refusal::NotFound),
        }
    }

    async fn query(
        &self,
        path: &str,
        query: &str,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, Refusal> {
        self.access.admit_token(headers)?;
        let (name, input) = queries::parse(path, query)?;
        let _permit = self.queries.try_acquire().map_err(|_| Refusal::Queries)?;
        let rows = queries::run(&self.bus, name, &input, self.timeout).await?;
        Ok(json_response(StatusCode::OK, rows.into()))
    }
}
