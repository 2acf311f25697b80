//! The connection to NATS.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::client::FlushErrorKind;
use async_nats::{ConnectErrorKind, Request, RequestErrorKind, jetstream};
use concert_wire::{access, header};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

mod identity;

use self::identity::Identity;
use crate::seeds::SeedError;

/// Address of the NATS servers, and the credentials for them.
#[derive(Debug, Clone)]
pub struct BusArgs {
    /// URL of the NATS server, or several URLs separated by commas.
    pub nats_url: String,
    /// NATS credentials file; without one, the URL may contain user and password.
    pub nats_creds: Option<PathBuf>,
    /// File with the seed of this process's NATS key, as created by `concert setup`. Each
    /// connection rereads it, so the key can be changed while the process runs.
    pub nats_nkey: Option<PathBuf>,
    /// File with the CA certificates, one of which must have signed the NATS server's certificate;
    /// enables TLS.
    pub nats_ca: Option<PathBuf>,
    /// File with the client certificate.
    pub nats_cert: Option<PathBuf>,
    /// File with the private key of that certificate.
    pub nats_key: Option<PathBuf>,
}

impl BusArgs {
    /// A server without authentication.
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            nats_url: url.into(),
            nats_creds: None,
            nats_nkey: None,
            nats_ca: None,
            nats_cert: None,
            nats_key: None,
        }
    }
}

/// NATS account of a connection, which determines its permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The account of the streams, or a server without accounts. Missing streams are created.
    Streams,
    /// The account of one service, with only the permissions that it needs. Streams and consumers
    /// must exist.
    Own,
}

/// A connection to NATS, with its JetStream context.
#[derive(Debug, Clone)]
pub struct Bus {
    /// Core NATS.
    pub client: async_nats::Client,
    /// JetStream.
    pub jetstream: jetstream::Context,
    /// Number of connections made so far.
    connections: watch::Sender<u64>,
    /// Prefix of every inbox of this connection.
    inboxes: String,
    place: Place,
    /// Its address and credentials, and its name, for further connections.
    origin: Arc<(BusArgs, String)>,
}

/// Error while connecting.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server is unreachable or rejects the connection.
    #[error(
        "cannot connect to NATS at {url}: {source}; check that the server runs and that the \
         credentials are right"
    )]
    Server {
        /// URL without credentials.
        url: String,
        /// Cause.
        source: async_nats::ConnectError,
    },
    /// A file that the connection needs is unreadable.
    #[error("cannot read the {what} {path}: {source}", path = .path.display())]
    File {
        /// Kind of the file.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The key file is invalid.
    #[error(transparent)]
    Seeds(#[from] SeedError),
    /// The URL is invalid.
    #[error("`{0}` is not a NATS URL such as nats://127.0.0.1:4222")]
    Url(String),
}

/// The NATS client has stopped.
#[derive(Debug, thiserror::Error)]
#[error(
    "the NATS client has stopped, probably on a message that it cannot parse; restart the process: \
     at the start it moves such messages to the dead-letter stream"
)]
pub struct ClientEnded;

/// Interval between checks that the client runs.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of concurrent publishes on one connection; further publishes wait.
const MAX_ACKS_IN_FLIGHT: usize = 4096;
/// Timeout of a publish or an API request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of a flush.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout of the first connection. Servers and processes start at the same time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

impl Bus {
    /// Connects a service. Waits for a server that is starting. The client reconnects automatically
    /// after later interruptions.
    ///
    /// With its own key, the service is in its own account (`concert_wire::access`), and its
    /// streams and consumers must exist.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(args: &BusArgs, name: &str) -> Result<Self, ConnectError> {
        let place = if args.nats_nkey.is_some() { Place::Own } else { Place::Streams };
        Self::connect_at(args, name, place).await
    }

    /// Connects with access to all streams, for `concert setup` and for operator commands.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect_to_streams(args: &BusArgs, name: &str) -> Result<Self, ConnectError> {
        Self::connect_at(args, name, Place::Streams).await
    }

    /// Opens another connection with the same address, credentials and account.
    pub(crate) async fn connect_again(&self, purpose: &str) -> Result<Self, ConnectError> {
        let (args, name) = &*self.origin;
        Self::connect_at(args, &format!("{name}-{purpose}"), self.place).await
    }

    /// Boxed, so that the connection is compiled in this crate and not in each that connects.
    fn connect_at<'a>(
        args: &'a BusArgs,
        name: &'a str,
        place: Place,
    ) -> BoxFuture<'a, Result<Self, ConnectError>> {
        Box::pin(async move {
            let urls =
                args.nats_url.split(',').map(|url| url.trim().parse::<async_nats::ServerAddr>());
            let urls: Vec<_> = urls
                .collect::<Result<_, _>>()
                .map_err(|_| ConnectError::Url(without_credentials(&args.nats_url)))?;
            let started = tokio::time::Instant::now();
            let connections = watch::Sender::new(0);
            let inboxes =
                format!("{}{}.{}", header::INBOX_PREFIX, name, uuid::Uuid::now_v7().simple());
            check_files(args)?;
            let identity = args.nats_nkey.as_deref().map(Identity::open).transpose()?;
            let mut attempts_left = identity.as_ref().map_or(1, Identity::keys);
            loop {
                let error = match options(args, name, identity.as_ref(), connections.clone())
                    .await?
                    .custom_inbox_prefix(&inboxes)
                    .connect(urls.as_slice())
                    .await
                {
                    Ok(client) => {
                        let jetstream = jetstream::context::ContextBuilder::new()
                            .api_prefix(api_prefix(place))
                            .timeout(REQUEST_TIMEOUT)
                            .max_ack_inflight(MAX_ACKS_IN_FLIGHT)
                            .backpressure_on_inflight(true)
                            .build(client.clone());
                        let origin = Arc::new((args.clone(), name.to_owned()));
                        return Ok(Self { client, jetstream, connections, inboxes, place, origin });
                    }
                    Err(error) => error,
                };
                // A rejected certificate stays rejected on a retry; a key file may contain another
                // key.
                attempts_left -= match error.kind() {
                    ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                        1
                    }
                    ConnectErrorKind::Tls => attempts_left,
                    _ => 0,
                };
                if attempts_left == 0 || started.elapsed() > CONNECT_TIMEOUT {
                    return Err(ConnectError::Server {
                        url: without_credentials(&args.nats_url),
                        source: error,
                    });
                }
                tracing::debug!(%error, "NATS is not available yet");
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        })
    }
}

impl Bus {
    /// Returns whether the client is connected.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// Waits for a lost connection. Returns whether the client is connected within this time.
    pub async fn connected_within(&self, timeout: Duration) -> bool {
        // Subscribes before the check, so that a connection made in between is not missed.
        let mut connections = self.connections();
        self.is_connected()
            || matches!(tokio::time::timeout(timeout, connections.changed()).await, Ok(Ok(())))
    }

    /// Subject of a JetStream API request.
    pub(crate) fn api(&self, request: &str) -> String {
        format!("{}.{request}", api_prefix(self.place))
    }

    /// Returns whether to create missing streams and consumers. Otherwise `concert setup` creates
    /// them.
    pub(crate) fn makes_streams(&self) -> bool {
        self.place == Place::Streams
    }

    /// Returns false if the server reports that no process serves the subject.
    pub async fn has_responder(&self, subject: String, timeout: Duration) -> bool {
        let request = Request::new().timeout(Some(timeout));
        let response = self.client.send_request(subject, request).await;
        !response.is_err_and(|error| error.kind() == RequestErrorKind::NoResponders)
    }

    /// Wildcard subject of all inboxes of this connection.
    pub(crate) fn inboxes(&self) -> String {
        format!("{}.>", self.inboxes)
    }

    /// Notifies about each new connection.
    pub fn connections(&self) -> watch::Receiver<u64> {
        self.connections.subscribe()
    }

    /// Waits until the server has received all sent messages; for a process that is about to exit.
    /// The wait has a timeout, because lost messages are redelivered.
    pub async fn flushed(&self) {
        if !matches!(tokio::time::timeout(FLUSH_TIMEOUT, self.client.flush()).await, Ok(Ok(()))) {
            tracing::warn!("the last messages may not have reached NATS; they will be redelivered");
        }
    }

    /// Returns when the client has stopped, which no reconnection repairs: the process must be
    /// restarted.
    pub async fn ended(&self) -> ClientEnded {
        let mut interval = tokio::time::interval(CHECK_INTERVAL);
        loop {
            interval.tick().await;
            // While the client is disconnected, a flush waits.
            let flushed = tokio::time::timeout(CHECK_INTERVAL, self.client.flush()).await;
            if flushed
                .is_ok_and(|flushed| flushed.is_err_and(|e| e.kind() == FlushErrorKind::SendError))
            {
                return ClientEnded;
            }
        }
    }
}

const fn api_prefix(place: Place) -> &'static str {
    match place {
        Place::Streams => "$JS.API",
        Place::Own => access::SERVICE_API,
    }
}

/// Checks that the files are readable, so that a missing file is not reported as an unreachable
/// server.
fn check_files(args: &BusArgs) -> Result<(), ConnectError> {
    let files = [
        ("file of NATS certificates", &args.nats_ca),
        ("NATS certificate", &args.nats_cert),
        ("key of the NATS certificate", &args.nats_key),
    ];
    for (what, path) in files {
        if let Some(path) = path
            && let Err(source) = std::fs::File::open(path)
        {
            let path = path.clone();
            return Err(ConnectError::File { what, path, source });
        }
    }
    Ok(())
}

async fn options(
    args: &BusArgs,
    name: &str,
    identity: Option<&Identity>,
    connections: watch::Sender<u64>,
) -> Result<async_nats::ConnectOptions, ConnectError> {
    let mut options = match identity.cloned() {
        Some(identity) => async_nats::ConnectOptions::with_auth_callback(move |nonce| {
            let signed = identity.sign(&nonce);
            async move { signed }
        }),
        None => async_nats::ConnectOptions::new(),
    };
    if let Some(path) = &args.nats_creds {
        options = options.credentials_file(path).await.map_err(|source| ConnectError::File {
            what: "NATS credentials file",
            path: path.clone(),
            source,
        })?;
    }
    if let Some(path) = &args.nats_ca {
        options = options.add_root_certificates(path.clone()).require_tls(true);
    }
    if let (Some(certificate), Some(key)) = (&args.nats_cert, &args.nats_key) {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    let identity = identity.cloned();
    Ok(options
        .name(name)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .ping_interval(Duration::from_secs(10))
        .subscription_capacity(64 * 1024)
        .reconnect_delay_callback(|attempts| {
            Duration::from_millis(u64::try_from(attempts.min(20)).unwrap_or(20) * 50)
        })
        .event_callback(move |event| {
            if matches!(event, async_nats::Event::Connected) {
                connections.send_modify(|count| *count += 1);
                if let Some(identity) = &identity {
                    identity.accepted();
                }
            }
            async move { log_event(&event) }
        }))
}

fn log_event(event: &async_nats::Event) {
    match event {
        async_nats::Event::Connected => tracing::info!("connected to NATS"),
        async_nats::Event::Disconnected => {
            tracing::warn!("the connection to NATS is lost; reconnecting")
        }
        async_nats::Event::Closed => tracing::debug!("the connection to NATS is closed"),
        other => tracing::warn!(event = %other, "NATS"),
    }
}

/// URLs without credentials, for messages.
pub fn without_credentials(urls: &str) -> String {
    let show = |url: &str| match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
        _ => url.to_owned(),
    };
    urls.split(',').map(show).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_url_has_no_password() {
        assert_eq!(
            without_credentials("nats://bob:hunter22@a:4222,nats://b:4222"),
            "nats://a:4222,nats://b:4222"
        );
    }
}
