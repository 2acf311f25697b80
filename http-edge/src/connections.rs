//! Connections: how many there may be of all clients and of each, how long one may be idle or leave
//! unread what it was sent, and how all of them end.

mod places;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, Response};
use concert_runtime::setting::DAY_MS;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower_service::Service as _;

use self::places::{Place, Places};
use crate::client::Clients;
use crate::metrics::Metrics;

/// Limits of connections: a part of the section `[http]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ConnectionLimits {
    /// Maximum number of connections; excess connections get 503. The limit of open files
    /// (`ulimit -n`, raised to its hard limit), less 256 or half of it, is a limit as well.
    #[schemars(range(min = 1, max = u32::MAX))]
    pub max_connections: u32,
    /// Maximum number of connections per client address (per /64 for IPv6); excess connections get
    /// 503. Trusted proxies are exempt. 0 disables the limit.
    #[schemars(range(min = 0, max = u32::MAX))]
    pub max_connections_per_client: u32,
    /// Maximum time to receive the next request header, in milliseconds; then the connection is
    /// closed.
    #[schemars(range(min = 1, max = DAY_MS))]
    pub idle_timeout_ms: u64,
    /// Maximum size of a request header, in bytes; larger headers get 431.
    #[schemars(range(min = 8192, max = u32::MAX))]
    pub head_limit_bytes: u32,
    /// Maximum time that a client may leave a response unread, in milliseconds; then the connection
    /// is closed (Linux only).
    #[schemars(range(min = 1, max = i32::MAX))]
    pub unread_timeout_ms: u32,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_connections_per_client: 1000,
            idle_timeout_ms: 75_000,
            head_limit_bytes: 32 * 1024,
            unread_timeout_ms: 30_000,
        }
    }
}

/// Files that are open for something else than connections of clients: those to the servers, logs,
/// keys. Where there are few, half of them.
const OTHER_FILES: u64 = 256;
/// What macOS allows a process where it says that there is no limit.
#[cfg(unix)]
const FEW_FILES: u64 = 10_240;
/// Connections past the bound that are told so at once; more are closed without a word.
const REFUSALS: usize = 64;
/// How long one that is told so may take until the head of its request is there, and altogether.
const REFUSAL_HEAD_TIMEOUT: Duration = Duration::from_millis(200);
/// See [`REFUSAL_HEAD_TIMEOUT`].
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long nothing is accepted after it could not be.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// Where connections come from, and what they get.
pub(crate) struct Connections {
    listener: TcpListener,
    app: Router,
    /// What they get past their bound.
    refusing: Router,
    http: http1::Builder,
    limits: ConnectionLimits,
    places: Arc<Places>,
    clients: Arc<Clients>,
    refusals: Arc<Semaphore>,
    metrics: Metrics,
}

impl Connections {
    pub(crate) fn new(
        listener: TcpListener,
        (app, refusing): (Router, Router),
        limits: ConnectionLimits,
        clients: Arc<Clients>,
        metrics: Metrics,
    ) -> Self {
        let files = open_files();
        let files = usize::try_from(files - OTHER_FILES.min(files / 2)).unwrap_or(usize::MAX);
        let [wanted, for_each] = [limits.max_connections, limits.max_connections_per_client]
            .map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        if files < wanted {
            tracing::warn!(
                wanted,
                files,
                "fewer connections than wanted: so many files may be open"
            );
        }
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(limits.idle_timeout_ms))
            .max_header_size(usize::try_from(limits.head_limit_bytes).unwrap_or(usize::MAX));
        Self {
            listener,
            app,
            refusing,
            http,
            limits,
            places: Places::new(wanted.min(files), (for_each > 0).then_some(for_each)),
            clients,
            refusals: Arc::new(Semaphore::new(REFUSALS)),
            metrics,
        }
    }

    /// Takes connections until the time comes, and then ends when the last request that was begun
    /// is answered.
    pub(crate) async fn serve(self, until: impl Future<Output = ()>) {
        let ending = GracefulShutdown::new();
        let mut until = std::pin::pin!(until);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut until => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((connection, peer)) => self.take(connection, peer, &ending),
                // Of somebody who has gone again.
                Err(error) if is_of_connection(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "no connection can be accepted");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
        drop(self.listener);
        ending.shutdown().await;
    }

    fn take(&self, connection: TcpStream, peer: SocketAddr, ending: &GracefulShutdown) {
        self.set_up(&connection);
        if let Some(place) = self.places.take(self.clients.holder(peer)) {
            let open = Open::new(place, &self.metrics);
            let app = self.app.clone();
            let answer = service_fn(move |request| answer(app.clone(), peer, request));
            let served = ending.watch(self.http.serve_connection(TokioIo::new(connection), answer));
            tokio::spawn(async move {
                tell(served.await, peer);
                drop(open);
            });
            return;
        }
        self.metrics.connection_refused();
        let Ok(place) = self.refusals.clone().try_acquire_owned() else {
            return;
        };
        let refusing = self.refusing.clone();
        let answer = service_fn(move |request| answer(refusing.clone(), peer, request));
        let mut http = self.http.clone();
        http.keep_alive(false).header_read_timeout(REFUSAL_HEAD_TIMEOUT);
        let served = http.serve_connection(TokioIo::new(connection), answer);
        tokio::spawn(async move {
            if let Ok(ended) = tokio::time::timeout(REFUSAL_TIMEOUT, served).await {
                tell(ended, peer);
            }
            drop(place);
        });
    }

    fn set_up(&self, connection: &TcpStream) {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps its delay");
        }
        #[cfg(target_os = "linux")]
        if let Err(error) =
            rustix::net::sockopt::set_tcp_user_timeout(connection, self.limits.unread_timeout_ms)
        {
            tracing::debug!(%error, "a connection keeps its patience");
        }
    }
}

async fn answer(
    mut app: Router,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    request.extensions_mut().insert(ConnectInfo(peer));
    app.call(request).await
}

fn tell(ended: Result<(), hyper::Error>, peer: SocketAddr) {
    if let Err(error) = ended
        && !error.is_timeout()
    {
        tracing::debug!(%error, %peer, "a connection ended in disorder");
    }
}

/// A connection that has its place and is counted, until this is dropped.
struct Open {
    metrics: Metrics,
    _place: Place,
}

impl Open {
    fn new(place: Place, metrics: &Metrics) -> Self {
        metrics.connected();
        Self { metrics: metrics.clone(), _place: place }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.disconnected();
    }
}

/// How many files this process may have open, once it may have as many as it may allow itself.
#[cfg(unix)]
fn open_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where the hard limit is none, the kernel may have one of its own, and refuse it.
    let wanted = [limit.maximum, limit.current.map(|now| now.max(FEW_FILES))];
    let allowed = |current: &Option<u64>| {
        let current = *current;
        setrlimit(Resource::Nofile, Rlimit { current, ..limit }).is_ok()
    };
    let raised = wanted.into_iter().find(allowed);
    raised.unwrap_or(limit.current).unwrap_or(u64::MAX)
}

#[cfg(not(unix))]
fn open_files() -> u64 {
    u64::MAX
}

fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
