//! The page on which flows are seen as they happen, and the queries and notices that it lives on
//! (ADR 16).
//!
//! It knows nothing of the application: what it shows is what the archive answers, handed through
//! as it is.

mod assets;
mod guard;
mod live;
mod queries;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
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
pub use guard::BadPage;
use guard::Viewers;
use live::Live;

/// The section `[console]`: the console, and who may see it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PageArgs {
    /// Whether the edge serves the console at `/` to operators with a token. If not set, `concert
    /// up` serves it without a token where it listens on a loopback address, and `concert
    /// http-edge` does not serve it.
    pub enabled: Option<bool>,
    /// File with the operator token, at least 32 characters.
    pub token_file: Option<PathBuf>,
    /// Maximum number of consoles with live updates; others get 503.
    #[schemars(range(min = 0, max = COUNT_MAX))]
    pub listeners: usize,
    /// Maximum number of concurrent queries of consoles; excess queries get 503.
    #[schemars(range(min = 1, max = COUNT_MAX))]
    pub queries: usize,
    /// Timeout of a query to the archive, in milliseconds; late queries get 504.
    #[schemars(range(min = 1, max = DAY_MS))]
    pub timeout_ms: u64,
    /// Whether this is `concert up`, which serves the console on loopback addresses without being
    /// asked.
    #[serde(skip)]
    pub at_home: bool,
}

impl Default for PageArgs {
    fn default() -> Self {
        Self {
            enabled: None,
            token_file: None,
            listeners: 32,
            queries: 16,
            timeout_ms: 5000,
            at_home: false,
        }
    }
}

/// Below this is everything of the page but the page itself, which is at `/`.
const OWN: &str = "/_concert/";
const API: &str = "/_concert/api/";
const LIVE: &str = "/_concert/live";
const SETTINGS: &str = "/_concert/settings";

/// The page of an edge.
pub(crate) struct Page {
    bus: Bus,
    viewers: Viewers,
    live: Live,
    queries: Semaphore,
    timeout: Duration,
    /// What the page must know before it asks for anything: where the application is, and whether a
    /// token is wanted.
    settings: String,
}

/// Why a page does not get what it asks for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("this page is for those who use this machine: it is not reached under this name")]
    Name,
    #[error("this is for the page of this edge, and no other")]
    OtherSite,
    #[error("this wants the operator's token")]
    NoToken,
    #[error("that is not the operator's token")]
    WrongToken,
    #[error("there is nothing at this path")]
    NotFound,
    #[error("this path takes GET only")]
    Method,
    #[error("{0}")]
    Query(String),
    #[error(
        "so many pages are open that this one is not told what happens; close some, or raise console.listeners"
    )]
    Listeners,
    #[error("too many queries are under way; try again")]
    Queries,
    #[error("the edge ends")]
    Ending,
    #[error("the archive does not answer in time; it may be busy, or stopped")]
    Slow,
    #[error("no archive answers; it may not have been started")]
    Nobody,
    #[error("the archive cannot answer now: {0}")]
    NotNow(String),
    #[error("the archive is at fault: {0}")]
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
            Self::Name | Self::OtherSite => StatusCode::FORBIDDEN,
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
        let mut response = json_response(self.status(), body.into_bytes());
        let said = match self {
            Self::NoToken | Self::WrongToken => Some((header::WWW_AUTHENTICATE, "Bearer")),
            Self::Method => Some((header::ALLOW, "GET, HEAD")),
            _ => None,
        };
        if let Some((name, value)) = said {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

impl Page {
    /// `None` when this edge serves no page. Otherwise it says who may see it.
    ///
    /// # Errors
    /// The page is asked for, and who may see it is not said as it must be.
    pub(crate) fn viewers(args: &PageArgs, listen: SocketAddr) -> Result<Option<Viewers>, BadPage> {
        Viewers::new(args, listen)
    }

    /// Begins to hear what happens.
    ///
    /// # Errors
    /// Nothing can be heard.
    pub(crate) async fn start(
        bus: Bus,
        viewers: Viewers,
        args: &PageArgs,
        base: &str,
        shutdown: Shutdown,
    ) -> Result<Arc<Self>, nats::Error> {
        if base.is_empty() {
            tracing::warn!("without a base, the paths of rules come before those of the page");
        }
        let live = Live::start(&bus, args.listeners, shutdown).await?;
        let settings = json!({ "base": base, "token": viewers.want_token() }).to_string();
        Ok(Arc::new(Self {
            bus,
            viewers,
            live,
            queries: Semaphore::new(args.queries),
            timeout: Duration::from_millis(args.timeout_ms),
            settings,
        }))
    }

    /// Whether a path is the page's, if no rule has it.
    pub(crate) fn has(path: &str) -> bool {
        path == "/" || path.starts_with(OWN)
    }

    /// Answers a request for the page or what belongs to it.
    pub(crate) async fn answer(&self, request: &Parts) -> Response<Body> {
        let mut response = match self.answered(request).await {
            Ok(response) => response,
            Err(refusal) => refusal.response(),
        };
        guard::seal_off(response.headers_mut());
        response
    }

    async fn answered(&self, request: &Parts) -> Result<Response<Body>, Refusal> {
        let (path, headers) = (request.uri.path(), &request.headers);
        self.viewers.admit_name(headers)?;
        if ![Method::GET, Method::HEAD].contains(&request.method) {
            return Err(Refusal::Method);
        }
        if path != "/" {
            guard::admit_site(headers)?;
        }
        if path == SETTINGS {
            return Ok(json_response(StatusCode::OK, self.settings.clone().into_bytes()));
        }
        if path == LIVE {
            self.viewers.admit_token(headers)?;
            return self.live.listen();
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
        self.viewers.admit_token(headers)?;
        let (name, input) = queries::parse(path, query)?;
        let _room = self.queries.try_acquire().map_err(|_| Refusal::Queries)?;
        let rows = queries::ask(&self.bus, name, &input, self.timeout).await?;
        Ok(json_response(StatusCode::OK, rows))
    }
}
