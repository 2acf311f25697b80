//! Connections: limits in total and per client, timeouts of idle and unread connections, and
//! graceful shutdown.

mod slots;

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

use self::slots::{ConnectionSlot, ConnectionSlots};
use crate::client::Clients;
use crate::error::ErrorArgs;
use crate::metrics::Metrics;
use crate::protocol;

/// Limits of connections: a part of the section `[http]`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ConnectionLimits {
    /// Maximum number of connections; excess connections get 503. It is never higher than the limit
    /// of open files (`ulimit -n`, raised to its hard limit) minus 256, or half of that limit if it
    /// is below 512.
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

/// Open files reserved for other uses: connections to servers, logs, keys. At a low limit, half of
/// the files.
const OTHER_FILES: u64 = 256;
/// Maximum number of open files on macOS if the hard limit is unlimited.
#[cfg(unix)]
const MACOS_FILES: u64 = 10_240;
/// Maximum number of concurrent rejections with 503; more connections are closed without a
/// response.
const REFUSALS: usize = 64;
/// Timeout for the request header of a rejected connection.
const REFUSAL_HEAD_TIMEOUT: Duration = Duration::from_millis(200);
/// Timeout of a rejected connection in total.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);
/// Delay after a failed accept.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(200);

/// The listener, and the services of accepted and rejected connections.
pub(crate) struct Connections {
    listener: TcpListener,
    app: Router,
    /// Service of rejected connections.
    refusing: Router,
    http: http1::Builder,
    limits: ConnectionLimits,
    slots: Arc<ConnectionSlots>,
    clients: Arc<Clients>,
    refusals: Arc<Semaphore>,
    metrics: Metrics,
    errors: ErrorArgs,
}

impl Connections {
    pub(crate) fn new(
        listener: TcpListener,
        (app, refusing): (Router, Router),
        limits: ConnectionLimits,
        clients: Arc<Clients>,
        metrics: Metrics,
        errors: ErrorArgs,
    ) -> Self {
        let files = open_files();
        let files = usize::try_from(files - OTHER_FILES.min(files / 2)).unwrap_or(usize::MAX);
        let [wanted, per_client] = [limits.max_connections, limits.max_connections_per_client]
            .map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        if files < wanted {
            tracing::warn!(
                wanted,
                files,
                "http.max_connections exceeds the limit of open files; raise it with `ulimit -n`"
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
            slots: ConnectionSlots::new(wanted.min(files), (per_client > 0).then_some(per_client)),
            clients,
            refusals: Arc::new(Semaphore::new(REFUSALS)),
            metrics,
            errors,
        }
    }

    /// Accepts connections until `until` completes, then returns when all requests in flight have
    /// their response.
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
                Ok((connection, peer)) => self.accept(connection, peer, &ending),
                // The client has disconnected.
                Err(error) if is_connection_error(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot accept connections; retrying");
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
        drop(self.listener);
        ending.shutdown().await;
    }

    fn accept(&self, connection: TcpStream, peer: SocketAddr, ending: &GracefulShutdown) {
        self.set_up(&connection);
        if let Some(slot) = self.slots.take(self.clients.holder(peer)) {
            let open = Open::new(slot, &self.metrics);
            let (app, errors) = (self.app.clone(), self.errors);
            let answer = service_fn(move |request| answer(app.clone(), errors, peer, request));
            let served = ending.watch(self.http.serve_connection(TokioIo::new(connection), answer));
            tokio::spawn(async move {
                log_error(served.await, peer);
                drop(open);
            });
            return;
        }
        self.metrics.connection_refused();
        let Ok(permit) = self.refusals.clone().try_acquire_owned() else {
            return;
        };
        let (refusing, errors) = (self.refusing.clone(), self.errors);
        let answer = service_fn(move |request| answer(refusing.clone(), errors, peer, request));
        let mut http = self.http.clone();
        http.keep_alive(false).header_read_timeout(REFUSAL_HEAD_TIMEOUT);
        let served = http.serve_connection(TokioIo::new(connection), answer);
        tokio::spawn(async move {
            if let Ok(ended) = tokio::time::timeout(REFUSAL_TIMEOUT, served).await {
                log_error(ended, peer);
            }
            drop(permit);
        });
    }

    fn set_up(&self, connection: &TcpStream) {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        #[cfg(target_os = "linux")]
        if let Err(error) =
            rustix::net::sockopt::set_tcp_user_timeout(connection, self.limits.unread_timeout_ms)
        {
            tracing::debug!(%error, "cannot set TCP_USER_TIMEOUT");
        }
    }
}

async fn answer(
    mut app: Router,
    errors: ErrorArgs,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    if let Err(error) = protocol::check(&request) {
        return Ok(error.response(errors));
    }
    request.extensions_mut().insert(ConnectInfo(peer));
    app.call(request).await
}

fn log_error(ended: Result<(), hyper::Error>, peer: SocketAddr) {
    if let Err(error) = ended
        && !error.is_timeout()
    {
        tracing::debug!(%error, %peer, "connection error");
    }
}

/// An open connection: holds its slot and is counted until dropped.
struct Open {
    metrics: Metrics,
    _slot: ConnectionSlot,
}

impl Open {
    fn new(slot: ConnectionSlot, metrics: &Metrics) -> Self {
        metrics.connected();
        Self { metrics: metrics.clone(), _slot: slot }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.disconnected();
    }
}

/// Limit of open files of this process, after raising it to the hard limit.
#[cfg(unix)]
fn open_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // With an unlimited hard limit, the kernel may still have a limit and reject the value.
    let wanted = [limit.maximum, limit.current.map(|now| now.max(MACOS_FILES))];
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

fn is_connection_error(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
