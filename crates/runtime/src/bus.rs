//! The connection to NATS.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::client::FlushErrorKind;
use async_nats::{ConnectErrorKind, jetstream};
use concert_wire::{access, header};
use tokio::sync::watch;

mod identity;

use self::identity::Identity;
use crate::seeds::SeedError;

/// Where the bus is, and who we are there.
#[derive(Debug, Clone)]
pub struct BusArgs {
    /// The NATS server, or several separated by commas.
    pub nats_url: String,
    /// A NATS credentials file; without one, the URL may contain user and password.
    pub nats_creds: Option<PathBuf>,
    /// A file with the seed of this process's NATS key, as `concert setup` makes it. It is read at
    /// each connection, so that the key can be changed while the process runs.
    pub nats_nkey: Option<PathBuf>,
    /// A file with the CA certificates that must have signed the NATS server's; the connection is
    /// encrypted then.
    pub nats_ca: Option<PathBuf>,
    /// A file with the client certificate.
    pub nats_cert: Option<PathBuf>,
    /// A file with the private key of that certificate.
    pub nats_key: Option<PathBuf>,
}

impl BusArgs {
    /// A server that asks nobody who he is.
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

/// Whether a service may do on the bus what only it needs, or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the account of the streams, or on a server without accounts. What is missing is made.
    Streams,
    /// In an account of its own, which has what it needs and no more. Streams and consumers are
    /// looked up.
    Own,
}

/// A connection, and JetStream on it.
#[derive(Debug, Clone)]
pub struct Bus {
    /// Core NATS.
    pub client: async_nats::Client,
    /// JetStream.
    pub jetstream: jetstream::Context,
    /// How often the connection was made.
    connections: watch::Sender<u64>,
    /// What every inbox of this connection begins with.
    inboxes: String,
    place: Place,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server cannot be reached or refuses us.
    #[error("NATS at {url} cannot be reached: {source}")]
    Server {
        /// Where it was looked for, without credentials.
        url: String,
        /// Why not.
        source: async_nats::ConnectError,
    },
    /// A file that the connection needs cannot be read.
    #[error("the {what} {path} cannot be read: {source}", path = .path.display())]
    File {
        /// What it is.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The key file cannot be used.
    #[error(transparent)]
    Seeds(#[from] SeedError),
    /// The URL cannot be read.
    #[error("`{0}` is not a NATS URL such as nats://127.0.0.1:4222")]
    Url(String),
}

/// The client of a connection has ended.
#[derive(Debug, thiserror::Error)]
#[error(
    "the NATS client has ended by itself, as it does at a message that it cannot read; the next start puts such a message aside"
)]
pub struct ClientEnded;

/// How often it is looked at whether the client lives.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Publishes under way at once on one connection; more wait.
const MAX_ACKS_IN_FLIGHT: usize = 4096;
/// How long a publish or an API request may take before it counts as failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long what was sent may take to reach the server.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the first connection is tried, since servers and processes start together.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);

impl Bus {
    /// Connects a service; a server that is not there yet is waited for. Later interruptions are
    /// mended by the client.
    ///
    /// With a key of its own it stands in an account of its own (`concert_wire::access`), and finds
    /// streams and consumers made.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(args: &BusArgs, name: &str) -> Result<Self, ConnectError> {
        let place = if args.nats_nkey.is_some() { Place::Own } else { Place::Streams };
        Self::connect_at(args, name, place).await
    }

    /// Connects whoever makes the streams or looks at all of them: `concert setup`, and the
    /// commands of an operator.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect_to_streams(args: &BusArgs, name: &str) -> Result<Self, ConnectError> {
        Self::connect_at(args, name, Place::Streams).await
    }

    async fn connect_at(args: &BusArgs, name: &str, place: Place) -> Result<Self, ConnectError> {
        let urls = args.nats_url.split(',').map(|url| url.trim().parse::<async_nats::ServerAddr>());
        let urls: Vec<_> = urls
            .collect::<Result<_, _>>()
            .map_err(|_| ConnectError::Url(without_credentials(&args.nats_url)))?;
        let started = tokio::time::Instant::now();
        let connections = watch::Sender::new(0);
        let inboxes = format!("{}{}.{}", header::INBOX_PREFIX, name, uuid::Uuid::now_v7().simple());
        check_files(args)?;
        let identity = args.nats_nkey.as_deref().map(Identity::open).transpose()?;
        let mut chances = identity.as_ref().map_or(1, Identity::keys);
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
                    return Ok(Self { client, jetstream, connections, inboxes, place });
                }
                Err(error) => error,
            };
            // A certificate is no better a second time; a key file may hold another key.
            chances -= match error.kind() {
                ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => 1,
                ConnectErrorKind::Tls => chances,
                _ => 0,
            };
            if chances == 0 || started.elapsed() > CONNECT_PATIENCE {
                return Err(ConnectError::Server {
                    url: without_credentials(&args.nats_url),
                    source: error,
                });
            }
            tracing::debug!(%error, "NATS is not there yet");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }
}

impl Bus {
    /// Whether the connection stands now.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// Waits for the connection if it is lost; whether it is there within this time.
    pub async fn connected_within(&self, timeout: Duration) -> bool {
        // Subscribed before the check, so that a connection made in between is not missed.
        let mut connections = self.connections();
        self.is_connected()
            || matches!(tokio::time::timeout(timeout, connections.changed()).await, Ok(Ok(())))
    }

    /// The subject of a request of the JetStream API.
    pub(crate) fn api(&self, request: &str) -> String {
        format!("{}.{request}", api_prefix(self.place))
    }

    /// Whether streams and consumers that are missing are to be made; otherwise that is for
    /// `concert setup`.
    pub(crate) fn makes_streams(&self) -> bool {
        self.place == Place::Streams
    }

    /// Everything that is sent to an inbox of this connection.
    pub(crate) fn inboxes(&self) -> String {
        format!("{}.>", self.inboxes)
    }

    /// Tells whenever a connection was made anew.
    pub(crate) fn connections(&self) -> watch::Receiver<u64> {
        self.connections.subscribe()
    }

    /// Waits until what was sent has reached the server; for a process that is about to end. Not
    /// for long: what did not reach it comes again.
    pub async fn flushed(&self) {
        if !matches!(tokio::time::timeout(FLUSH_TIMEOUT, self.client.flush()).await, Ok(Ok(()))) {
            tracing::warn!("what was sent last may not have reached NATS");
        }
    }

    /// Ends when the client has ended by itself, which no reconnection mends: the process must be
    /// started again.
    pub async fn ended(&self) -> ClientEnded {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        loop {
            look.tick().await;
            // While the connection is away a flush waits.
            let flushed = tokio::time::timeout(LOOK_INTERVAL, self.client.flush()).await;
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

/// So that a file that is not there is told as such, and not as a server that cannot be reached.
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
            async move { tell(&event) }
        }))
}

fn tell(event: &async_nats::Event) {
    match event {
        async_nats::Event::Connected => tracing::info!("connected to NATS"),
        async_nats::Event::Disconnected => {
            tracing::warn!("the connection to NATS is lost; trying to connect again")
        }
        async_nats::Event::Closed => tracing::debug!("the connection to NATS is closed"),
        other => tracing::warn!(event = %other, "NATS"),
    }
}

/// A URL as it may be shown.
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
    fn no_password_is_shown_with_a_url() {
        assert_eq!(
            without_credentials("nats://bob:hunter22@a:4222,nats://b:4222"),
            "nats://a:4222,nats://b:4222"
        );
    }
}
