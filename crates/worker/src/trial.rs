//! Runs a concept against temporary servers, for tests.

mod direct;
mod host;

use std::time::Duration;

use concert_local_servers::{FindError, FindOptions, TestServers, TestServersError};
use concert_runtime::blobs::{Blobs, BlobsConnectError};
use concert_runtime::bus::{Bus, BusArgs, ConnectError};
use concert_runtime::keys::{self, KeyError, Purpose};
use concert_runtime::log::{self, PublishError};
use concert_runtime::nats::{CoreMessage, HeaderMap};
use concert_runtime::process::Shutdown;
use concert_runtime::streams::{self, SetupError};
use concert_runtime::telemetry::{self, BadFilter, LogArgs, LogFormat};
use concert_runtime::{clock, service};
use concert_wire::client::ClientTag;
use concert_wire::envelope::{Object, encode};
use concert_wire::id::{ActionId, FiringId, FlowId};
use concert_wire::keyring::Keyring;
use concert_wire::name::ConceptName;
use concert_wire::position::Position;
use concert_wire::seal::{Sealer, looks_sealed};
use concert_wire::{header, large, subject, value};
use futures_util::StreamExt as _;
use mongodb::Collection;
use mongodb::bson::Document;
use serde_json::Value;

use self::host::Host;
use crate::large::{LargeError, LargeValues};
use crate::start::{Options, StartError};
use crate::store::{StoreArgs, StoreError};
use crate::{HostLimits, Worker, store};

pub use self::direct::Bench;

/// Size of the large values that a test reads, in bytes.
const LARGE_BUDGET_BYTES: u64 = 1 << 30;
/// Longer than a test.
const EPOCH: Duration = Duration::from_secs(24 * 3600);
/// Timeout of an action.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A point in the host's processing of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// The host has the invocation, and has not called the handler.
    Received,
    /// The handler has returned, and its completion is not published.
    Written,
    /// The completion is stored, and the invocation is not acknowledged.
    BeforeAck,
}

impl Point {
    const fn name(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Written => "written",
            Self::BeforeAck => "before-ack",
        }
    }
}

/// An action that was invoked, and its output.
#[derive(Debug, Clone)]
pub struct Act {
    /// The flow, which the action is the root of.
    pub flow: FlowId,
    /// The output. Its secrets are in clear.
    pub output: Value,
    name: String,
    input: Object,
    client: Option<ClientTag>,
    position: Option<Position>,
}

/// An invoked action without an output so far.
#[must_use = "wait for it with Trial::finished"]
pub struct Invoked {
    act: Act,
    replies: concert_runtime::nats::Subscriber,
    dead: concert_runtime::nats::Subscriber,
}

/// Reason why a trial fails.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct TrialError(Box<Why>);

#[derive(Debug, thiserror::Error)]
enum Why {
    #[error(transparent)]
    Find(#[from] FindError),
    #[error(transparent)]
    Servers(#[from] TestServersError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Blobs(#[from] BlobsConnectError),
    #[error(transparent)]
    Large(#[from] LargeError),
    #[error(transparent)]
    Log(#[from] BadFilter),
    #[error("{0}")]
    Bus(String),
    #[error("the query has no response: {0}")]
    Query(#[from] service::NoAnswer),
    #[error("the action became a dead letter: {0}")]
    Dead(String),
    #[error("`{0}` has no output after {TIMEOUT:?}")]
    Late(String),
    #[error("the input is not a JSON object")]
    Input,
    #[error("the worker is not running; call restart()")]
    NotRunning,
}

impl<E> From<E> for TrialError
where
    Why: From<E>,
{
    fn from(error: E) -> Self {
        Self(Box::new(error.into()))
    }
}

fn bus(error: impl std::fmt::Display) -> TrialError {
    Why::Bus(error.to_string()).into()
}

/// A worker on temporary servers. Dropping it stops them.
pub struct Trial {
    worker: Worker,
    concept: ConceptName,
    host: Option<Host>,
    options: Options,
    bus: Bus,
    sealer: Sealer,
    large: LargeValues,
    servers: TestServers,
}

impl Trial {
    /// Starts servers and the worker, with default settings.
    ///
    /// # Errors
    /// A server or the worker does not start. A missing server is an error, never a reason to skip
    /// a test.
    pub async fn of(worker: Worker) -> Result<Self, TrialError> {
        Self::with(worker, Value::Null).await
    }

    /// Starts servers and the worker, with these settings. The process logs warnings to standard
    /// error.
    ///
    /// # Errors
    /// A server or the worker does not start.
    pub async fn with(worker: Worker, settings: Value) -> Result<Self, TrialError> {
        worker.check().map_err(StartError::from)?;
        // Without its warnings, a retried action only seems slow.
        let log = LogArgs { filter: "warn".to_owned(), log_format: LogFormat::Text };
        telemetry::start(&log)?;
        let servers = TestServers::start(&FindOptions::of_user()?).await?;
        let keys_dir = servers.dir().join("keys");
        let own: Vec<Purpose> =
            worker.keys().iter().map(|name| Purpose::Concept((*name).to_owned())).collect();
        keys::make_missing(&keys_dir, &own)?;
        let options = direct::options(keys_dir, Some(store_args(&servers)), settings);
        let sealer = Sealer::new(keys::load(&options.keys_dir, &Purpose::Seal)?);
        let bus = Bus::connect(&BusArgs::at(servers.nats.url()), "trial").await?;
        streams::log(&bus, &options.log).await?;
        let concept: ConceptName = worker.concept().parse().map_err(self::bus)?;
        let large = LargeValues::new(
            Blobs::connect(&bus).await?,
            sealer.clone(),
            concept.clone(),
            LARGE_BUDGET_BYTES,
            EPOCH,
        );
        let mut trial = Self { concept, large, worker, host: None, options, bus, sealer, servers };
        trial.restart().await?;
        Ok(trial)
    }

    /// The limits of the host. [`Trial::restart`] applies them.
    pub fn limits_mut(&mut self) -> &mut HostLimits {
        &mut self.options.host
    }

    /// Starts the worker again. If it still runs, it is stopped as by a crash.
    ///
    /// # Errors
    /// The worker does not start.
    pub async fn restart(&mut self) -> Result<(), TrialError> {
        let options = Options { shutdown: Shutdown::new(), ..self.options.clone() };
        if let Some(before) = self.host.take() {
            before.crash();
        }
        let host = Host::start(self.worker.clone(), self.servers.nats.url(), options).await?;
        self.host = Some(host);
        self.answers().await
    }

    /// Waits until the server has the worker's endpoints. Registration is asynchronous.
    async fn answers(&self) -> Result<(), TrialError> {
        let ping = format!("$SRV.PING.{}", self.concept);
        let answers = async {
            // Each attempt is a round trip, so this does not spin.
            while self.bus.client.request(ping.clone(), "".into()).await.is_err() {}
        };
        let late = |_| Why::Late(ping.clone());
        Ok(tokio::time::timeout(TIMEOUT, answers).await.map_err(late)?)
    }

    /// Invokes an action and waits for its output. Strings of more than 32 KiB are stored beside
    /// the log, as the edge does; then a rule calls the action, because the edge begins no other
    /// flow.
    ///
    /// # Errors
    /// The action is dead-lettered, or times out.
    pub async fn act(&self, name: &str, input: Value) -> Result<Act, TrialError> {
        self.act_from(None, name, input).await
    }

    /// Like [`Trial::act`], for the request of a client.
    ///
    /// # Errors
    /// See [`Trial::act`].
    pub async fn act_from(
        &self,
        client: Option<ClientTag>,
        name: &str,
        input: Value,
    ) -> Result<Act, TrialError> {
        let invoked = self.invoke(client, name, input).await?;
        self.finished(invoked).await
    }

    /// Like [`Trial::act`], for an action that follows from these positions in the log.
    ///
    /// # Errors
    /// See [`Trial::act`].
    pub async fn act_at(
        &self,
        position: Position,
        name: &str,
        input: Value,
    ) -> Result<Act, TrialError> {
        let mut act = act(name, input)?;
        act.position = Some(position);
        let invoked = self.deliver(act, false).await?;
        self.finished(invoked).await
    }

    /// Invokes an action without waiting.
    ///
    /// # Errors
    /// The invocation cannot be published.
    pub async fn invoke(
        &self,
        client: Option<ClientTag>,
        name: &str,
        input: Value,
    ) -> Result<Invoked, TrialError> {
        self.deliver(Act { client, ..act(name, input)? }, false).await
    }

    /// Redelivers an action, as after a lost acknowledgement. The output is that of the first
    /// delivery, from the log.
    ///
    /// # Errors
    /// See [`Trial::act`].
    pub async fn redeliver(&self, act: &Act) -> Result<Value, TrialError> {
        let invoked = self.deliver(act.clone(), true).await?;
        Ok(self.finished(invoked).await?.output)
    }

    /// Redelivers an action, as after a crash between its writes and the publish of its completion.
    /// Only the stamps show that it was executed.
    ///
    /// # Errors
    /// See [`Trial::act`].
    pub async fn redeliver_uncompleted(&self, act: &Act) -> Result<Value, TrialError> {
        let log = streams::existing_log(&self.bus).await?;
        log.purge().filter(subject::flow(act.flow)).await.map_err(bus)?;
        self.redeliver(act).await
    }

    /// Invokes an action, and crashes the worker at this point. Continue with [`Trial::restart`]
    /// and [`Trial::finished`].
    ///
    /// # Errors
    /// The action does not reach the point in time.
    pub async fn crash_at(
        &mut self,
        point: Point,
        name: &str,
        input: Value,
    ) -> Result<Invoked, TrialError> {
        let invoked = self.hold_at(point, name, input).await?;
        if let Some(host) = self.host.take() {
            host.crash();
        }
        Ok(invoked)
    }

    /// Invokes an action, and pauses it at this point until [`Trial::release`].
    ///
    /// # Errors
    /// The action does not reach the point in time.
    pub async fn hold_at(
        &self,
        point: Point,
        name: &str,
        input: Value,
    ) -> Result<Invoked, TrialError> {
        let gate = &self.host.as_ref().ok_or(Why::NotRunning)?.gate;
        gate.arm(point.name());
        let invoked = self.invoke(None, name, input).await?;
        let late = |_| Why::Late(name.to_owned());
        tokio::time::timeout(TIMEOUT, gate.reached()).await.map_err(late)?;
        Ok(invoked)
    }

    /// Resumes the paused action.
    pub fn release(&self) {
        if let Some(host) = &self.host {
            host.gate.release();
        }
    }

    /// Waits for the output of an action.
    ///
    /// # Errors
    /// See [`Trial::act`].
    pub async fn finished(&self, invoked: Invoked) -> Result<Act, TrialError> {
        let Invoked { mut act, mut replies, mut dead } = invoked;
        let flow = act.flow.to_string();
        let of_flow =
            |message: &CoreMessage| header_of(message, header::FLOW) == Some(flow.clone());
        let output = async {
            loop {
                tokio::select! {
                    Some(reply) = replies.next() => {
                        return value::object(&reply.payload).map_err(bus);
                    }
                    Some(message) = dead.next() => if of_flow(&message) {
                        let reason = header_of(&message, header::REASON).unwrap_or_default();
                        return Err(Why::Dead(reason).into());
                    },
                    else => return Err(bus("the connection is closed")),
                }
            }
        };
        let late = |_| Why::Late(act.name.clone());
        let output = tokio::time::timeout(TIMEOUT, output).await.map_err(late)??;
        act.output = Value::Object(self.opened(act.flow, output).await?);
        Ok(act)
    }

    /// Runs a query and returns its rows, with secrets in clear.
    ///
    /// # Errors
    /// The query fails, or has no response.
    pub async fn ask(&self, query: &str, input: Value) -> Result<Value, TrialError> {
        let Value::Object(mut input) = input else {
            return Err(Why::Input.into());
        };
        self.large.store(&mut input).await?;
        let flow = clock::new_flow();
        let asked = (self.concept.as_str(), query);
        let answer = service::ask(&self.bus, asked, Some(flow), &input, TIMEOUT).await?;
        let rows = answer.body.get("rows").and_then(Value::as_array).cloned();
        let mut opened = Vec::new();
        for row in rows.unwrap_or_default() {
            opened.push(match row {
                Value::Object(row) => Value::Object(self.opened(flow, row).await?),
                other => other,
            });
        }
        Ok(Value::Array(opened))
    }

    /// A collection of the concept in MongoDB.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn collection(&self, name: &str) -> Result<Collection<Document>, TrialError> {
        let database = store::connect(&store_args(&self.servers), self.concept.as_str()).await?;
        Ok(database.collection(name))
    }

    /// The worker's own keys of this name.
    ///
    /// # Errors
    /// The worker does not declare them.
    pub fn keys(&self, name: &str) -> Result<Keyring, TrialError> {
        Ok(keys::load(&self.servers.dir().join("keys"), &Purpose::Concept(name.to_owned()))?)
    }

    async fn deliver(&self, act: Act, is_repeated: bool) -> Result<Invoked, TrialError> {
        let client = &self.bus.client;
        let inbox = client.new_inbox();
        let replies = client.subscribe(inbox.clone()).await.map_err(bus)?;
        let dead = client.subscribe(subject::DEAD_NOTICES).await.map_err(bus)?;
        // The server must have both subscriptions before anything is published.
        client.flush().await.map_err(bus)?;
        let mut headers = HeaderMap::new();
        headers.insert(header::FLOW, act.flow.to_string());
        headers.insert(header::REPLY, inbox);
        if is_repeated {
            headers.insert(header::ATTEMPTS, "1");
        }
        if let Some(client) = &act.client {
            headers.insert(header::CLIENT, client.as_str());
        }
        if let Some(position) = act.position {
            headers.insert(header::POSITION, position.to_string());
        }
        let (mut input, mut id) = (act.input.clone(), act.flow.root());
        self.large.store(&mut input).await?;
        if large::is_in(&input) {
            id = ActionId::of_call(FiringId::of(act.flow, "Trial", [id]), 0, 0);
        }
        let subject = subject::invocation(self.concept.as_str(), &act.name, id);
        log::publish_once(&self.bus, subject, headers, encode(&input).into()).await?;
        Ok(Invoked { act, replies, dead })
    }

    /// Secrets in clear, and large values whole.
    async fn opened(&self, flow: FlowId, mut object: Object) -> Result<Object, TrialError> {
        for value in object.values_mut() {
            if let (true, Some(sealed)) = (looks_sealed(value), value.as_str())
                && let Ok(secret) = self.sealer.open(flow, sealed)
            {
                *value = Value::String(secret.expose().to_owned());
            }
        }
        Ok(self.large.resolve(object).await?.input)
    }

    /// The number of messages and bytes in a stream, such as `BLOBS`.
    ///
    /// # Errors
    /// The stream cannot be read.
    pub async fn stream_size(&self, stream: &str) -> Result<(u64, u64), TrialError> {
        let mut stream = self.bus.jetstream.get_stream(stream).await.map_err(bus)?;
        let state = &stream.info().await.map_err(bus)?.state;
        Ok((state.messages, state.bytes))
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if let Some(host) = self.host.take() {
            host.crash();
        }
    }
}

/// An action that is not invoked yet.
fn act(name: &str, input: Value) -> Result<Act, TrialError> {
    let Value::Object(input) = input else {
        return Err(Why::Input.into());
    };
    Ok(Act {
        flow: clock::new_flow(),
        output: Value::Null,
        name: name.to_owned(),
        input,
        client: None,
        position: None,
    })
}

fn store_args(servers: &TestServers) -> StoreArgs {
    StoreArgs {
        mongodb_uri: servers.mongo.uri(),
        keys_dir: None,
        database_prefix: "trial".to_owned(),
        database_connections: 32,
    }
}

fn header_of(message: &CoreMessage, name: &str) -> Option<String> {
    let headers = message.headers.as_ref()?;
    Some(headers.get(name)?.to_string())
}
