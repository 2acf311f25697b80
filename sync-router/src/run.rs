//! The router's loop: one task that owns the engine, with many concurrent publishes and reads.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use concert_engine::{Effect, Engine, Event, Limits};
use concert_runtime::ack;
use concert_runtime::bus::Bus;
use concert_runtime::dead::DeadLetter;
use concert_runtime::feed::{Feed, Source};
use concert_runtime::nats::{self, Message};
use concert_runtime::process::Shutdown;
use concert_runtime::retry::Backoff;
use concert_runtime::setting::{BYTES_MAX, COUNT_MAX, DAY_MS, MESSAGE_BYTES_MAX};
use concert_runtime::streams::{self, LogLimits, SetupError};
use concert_runtime::{chaos_point, guard_disabled};
use concert_wire::name::BadName;
use concert_wire::subject::ROUTERS;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::active_rules::{ActiveRules, ActiveRulesError};
use crate::effects::{self, Performer};
use crate::log_trimmer::Growth;
use crate::queries::{Queries, QueryLimits};
use crate::rules::Rules;
use crate::takeover::{Activity, OwnPin};
use crate::worker_specs::WorkerSpecs;
use crate::{log_trimmer, metrics, reload, requesting, retry};

/// The section `[router]`: limits of flows and of the router's memory.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouterLimits {
    /// Maximum number of actions per flow; a flow that reaches it stops, and its request gets 508.
    #[schemars(range(min = 1, max = 1000))]
    pub flow_actions: u64,
    /// Maximum length of a chain of actions in a flow, each caused by the previous one; a flow that
    /// reaches it stops, and its request gets 508.
    #[schemars(range(min = 1, max = 1000))]
    pub flow_depth: u32,
    /// Maximum size of an action's input, in bytes; a rule that would exceed it stops the flow, and
    /// the request gets 508.
    #[schemars(range(min = 1, max = MESSAGE_BYTES_MAX))]
    pub action_bytes: usize,
    /// Maximum number of cached flows; an evicted flow is reread from the log when it continues.
    #[schemars(range(min = 1, max = COUNT_MAX))]
    pub flows: NonZeroUsize,
    /// Maximum size of the unacknowledged messages in memory, in bytes; at the limit, the router
    /// stops fetching. Cached flows have a limit of equal size; at that limit, the router evicts
    /// the least recently used flows.
    #[schemars(range(min = 1024 * 1024, max = BYTES_MAX))]
    pub bytes: u64,
    /// Maximum number of frames (bindings of the variables of the rule) at each step of the
    /// `where` of one firing; a request that exceeds it gets 508.
    #[schemars(range(min = 1, max = COUNT_MAX))]
    pub firing_frames: usize,
    /// Maximum number of concurrent queries of each concept; further queries wait.
    #[schemars(range(min = 1, max = u16::MAX))]
    pub queries: u16,
    /// Maximum number of completions that wait for queries of one concept without a result; a
    /// further one becomes a dead letter immediately.
    #[schemars(range(min = 1, max = 10_000))]
    pub unanswered_queries: usize,
    /// Time without a response after which the router checks whether a query was lost, in
    /// milliseconds. A lost query is sent again.
    #[schemars(range(min = 1, max = DAY_MS))]
    pub query_timeout_ms: u64,
    /// Time after the start and after a change of the rules in which each worker must announce
    /// itself, in milliseconds. After that, requests get 503 if they need a worker that has not
    /// announced itself since the router started. 0 disables the checks of the workers and of
    /// their specs.
    #[schemars(range(min = 0, max = DAY_MS))]
    pub worker_grace_ms: u64,
}

impl Default for RouterLimits {
    fn default() -> Self {
        Self {
            flow_actions: 1000,
            flow_depth: 64,
            action_bytes: 512 * 1024,
            flows: NonZeroUsize::MIN.saturating_add(1023),
            bytes: 64 * 1024 * 1024,
            firing_frames: 5000,
            queries: 64,
            unanswered_queries: 2000,
            query_timeout_ms: 5000,
            worker_grace_ms: 10_000,
        }
    }
}

impl RouterLimits {
    /// Limits in the form that the engine uses.
    pub fn engine(&self) -> Limits {
        Limits {
            actions_per_flow: usize::try_from(self.flow_actions).unwrap_or(usize::MAX),
            depth: self.flow_depth,
            frames_per_firing: self.firing_frames,
            body_bytes: self.action_bytes,
            cached_flows: self.flows,
            cached_actions: self.flows.get().saturating_mul(16),
            cached_bytes: self.bytes(),
        }
    }

    fn of_queries(&self) -> QueryLimits {
        QueryLimits {
            concurrency: usize::from(self.queries),
            unanswered: self.unanswered_queries,
            timeout: Duration::from_millis(self.query_timeout_ms),
        }
    }

    fn bytes(&self) -> usize {
        usize::try_from(self.bytes).unwrap_or(usize::MAX)
    }
}

/// Error at the start of a router.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A stream, consumer or bucket is missing.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The rules cannot be activated.
    #[error(transparent)]
    ActiveRules(#[from] ActiveRulesError),
    /// The router cannot subscribe to injected actions.
    #[error("cannot subscribe to injected actions: {0}; check that the NATS server runs")]
    Subscribe(nats::Error),
    /// A built-in name is invalid; cannot happen.
    #[error(transparent)]
    Name(#[from] BadName),
}

/// A running router; it runs until shutdown.
#[derive(Debug)]
pub struct Running {
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Returns when the router has stopped consuming and has finished the messages that it
    /// received.
    pub async fn ended(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the router panicked");
        }
    }
}

/// Messages per fetch.
const BATCH: usize = 512;
/// Maximum number of concurrent publishes and reads. At the limit, the router stops consuming.
const MAX_IN_FLIGHT: usize = 2048;
/// Timeout of the drain after a shutdown request.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Starts a router. When this returns, the log exists, the rules are active and the route table is
/// published.
///
/// # Errors
/// See [`StartError`].
pub fn run(
    bus: Bus,
    rules: Rules,
    limits: &RouterLimits,
    log: LogLimits,
    shutdown: Shutdown,
) -> BoxFuture<'_, Result<Running, StartError>> {
    Box::pin(async move {
        let mut feed = Feed::new(bus.clone(), Source::Log, log.clone(), BATCH, |message| {
            DeadLetter::of_completion(&message.subject, &message.body, message.reason()).ok()
        });
        feed.open().await?;
        let bucket = streams::bucket(&bus, &log).await?;
        // Read the files again: they may have changed while the router waited for NATS, and another
        // router may have activated the change. The earlier rules must not become active again.
        let rules = Arc::new(rules.or_newer());
        let grace = Duration::from_millis(limits.worker_grace_ms);
        let workers = WorkerSpecs::new(bus.clone(), grace);
        let active_rules = ActiveRules::new(bus.clone(), bucket.clone(), rules.clone(), workers);
        active_rules.keep_limits(&limits.engine()).await?;
        active_rules.activate(&rules).await?;
        requesting::start(&bus, &log, &shutdown).await?;
        let program = &rules.program;
        tracing::info!(
            version = %program.version,
            rules = program.syncs.len(),
            routes = program.routes.routes.len(),
            "router started"
        );
        let watched = bus.clone();
        let growth = Arc::<Growth>::default();
        let mut engine = Engine::without_rules(limits.engine());
        engine.step(Event::RulesFetched(program.clone()));
        if rules.args.poll_ms > 0 {
            let every = Duration::from_millis(rules.args.poll_ms);
            let (args, seen) = (rules.args.clone(), rules.texts.clone());
            tokio::spawn(reload::watch(args, every, seen, active_rules.clone(), shutdown.clone()));
        }
        let queries = Queries::new(bus.clone(), limits.of_queries());
        let performer = Arc::new(Performer { bus, active_rules, queries });
        tokio::spawn(retry::serve(performer.clone(), limits.engine(), shutdown.clone()));
        let pin = OwnPin::default();
        pin.start(&watched, &shutdown);
        if !grace.is_zero() {
            let activity = pin.activity(&watched);
            tokio::spawn(check_workers(performer.active_rules.clone(), activity, shutdown.clone()));
        }
        let router = Router {
            pin,
            performer,
            engine,
            messages: HashMap::new(),
            held_bytes: 0,
            max_bytes: limits.bytes(),
            in_flight: FuturesUnordered::new(),
            backoff: Backoff::default(),
            growth: growth.clone(),
        };
        tokio::spawn(log_trimmer::watch(watched, bucket, log, growth, shutdown.clone()));
        let task = tokio::spawn(router.run(feed, shutdown));
        Ok(Running { task })
    })
}

/// Interval between checks of the workers.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Checks the workers of the active rules until shutdown. Only the active router publishes the
/// result, because a router that started later does not know which workers ran before.
async fn check_workers(active_rules: ActiveRules, activity: Activity, shutdown: Shutdown) {
    let mut last = None;
    loop {
        tokio::select! {
            () = shutdown.requested() => return,
            () = tokio::time::sleep(CHECK_INTERVAL) => {}
        }
        if let Err(error) = active_rules.check_workers(&mut last, &activity).await {
            tracing::debug!(%error, "cannot check the workers; retrying");
        }
    }
}

struct Router {
    pin: OwnPin,
    performer: Arc<Performer>,
    engine: Engine,
    /// Unacknowledged messages by sequence; a redelivery replaces the earlier delivery.
    messages: HashMap<u64, Message>,
    held_bytes: usize,
    max_bytes: usize,
    in_flight: FuturesUnordered<BoxFuture<'static, Option<Event>>>,
    backoff: Backoff,
    growth: Arc<Growth>,
}

impl Router {
    async fn run(mut self, mut feed: Feed, shutdown: Shutdown) {
        loop {
            let has_room = self.in_flight.len() < MAX_IN_FLIGHT && self.held_bytes < self.max_bytes;
            tokio::select! {
                biased;
                Some(event) = self.in_flight.next() => self.step(event),
                () = shutdown.requested() => break,
                message = feed.next(), if has_room => {
                    chaos_point!("received");
                    if guard_disabled!("router-acks-first") {
                        ack::sent(&message).await;
                    }
                    self.take(message);
                }
            }
        }
        let bus = self.performer.bus.clone();
        let mut rest = feed.close().await;
        // Finish the remaining work. The next router may run concurrently, because repeated work
        // has no effect.
        unpin(&bus).await;
        let finish = async {
            let mut more = true;
            while more || !self.in_flight.is_empty() {
                tokio::select! {
                    biased;
                    Some(event) = self.in_flight.next() => self.step(event),
                    message = rest.next(), if more => match message {
                        Some(message) => self.take(message),
                        None => more = false,
                    },
                }
            }
        };
        if tokio::time::timeout(DRAIN_TIMEOUT, finish).await.is_err() {
            tracing::warn!("the drain timed out; the next router continues the unfinished work");
        }
        // A fetch request that was still open may have made this process the active router again,
        // because the server pins the process that fetches.
        unpin(&bus).await;
        bus.flushed().await;
    }

    fn take(&mut self, message: Message) {
        let seq = match message.info() {
            Ok(info) => {
                metrics::delivered(info.delivered);
                info.stream_sequence
            }
            Err(error) => {
                tracing::error!(%error, "a log message has no sequence");
                return;
            }
        };
        self.growth.received(seq);
        self.pin.received(&message);
        let event = effects::delivered(seq, &message);
        self.held_bytes += message.length;
        if let Some(earlier) = self.messages.insert(seq, message) {
            self.held_bytes -= earlier.length;
        }
        metrics::unacknowledged(self.messages.len());
        self.step(Some(event));
    }

    fn step(&mut self, event: Option<Event>) {
        let Some(event) = event else { return };
        for effect in self.engine.step(event) {
            self.perform(effect);
        }
        for (flow, why) in self.engine.take_mismatches() {
            tracing::error!(%flow, why, "a worker contradicts its spec");
        }
    }

    fn perform(&mut self, effect: Effect) {
        let stored_ms = match &effect {
            Effect::Ask { seq, .. } => self.messages.get(seq).map_or(0, stored_ms),
            _ => 0,
        };
        let effect = match self.performer.start(effect, stored_ms) {
            Ok(started) => return self.in_flight.push(Box::pin(async { Some(started.await) })),
            Err(effect) => effect,
        };
        let bus = self.performer.bus.clone();
        let effect = match effect {
            Effect::Retry { seq } if self.growth.is_blocked_by(seq) => {
                let reason = "the log was full, and this message blocked it".to_owned();
                Effect::DeadLetter { seq, reason }
            }
            effect => effect,
        };
        match effect {
            Effect::Ack { seq } => self.with_message(seq, |message| async move {
                chaos_point!("before-ack");
                ack::sent(&message).await;
            }),
            Effect::Retry { seq } => {
                let backoff = self.backoff;
                let least = self.performer.queries.delay(seq);
                self.with_message(seq, move |message| async move {
                    let attempts = message.info().map_or(1, |info| info.delivered);
                    let delay = backoff.delay(u32::try_from(attempts).unwrap_or(u32::MAX));
                    ack::later(&message, delay.max(least)).await;
                });
            }
            Effect::DeadLetter { seq, reason } => {
                let most = self.backoff.most;
                self.with_message(seq, move |message| async move {
                    match DeadLetter::of_completion(&message.subject, &message.payload, reason) {
                        Ok(letter) => match letter.publish(&bus).await {
                            Ok(()) => ack::never_again(&message).await,
                            Err(error) => {
                                tracing::warn!(%error, "cannot store a dead letter; retrying");
                                ack::later(&message, most).await;
                            }
                        },
                        Err(error) => {
                            tracing::error!(%error, "cannot derive a dead-letter subject")
                        }
                    }
                });
            }
            // The performer has started all other effects.
            _ => {}
        }
    }

    fn with_message<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        seq: u64,
        act: impl FnOnce(Message) -> F,
    ) {
        self.performer.queries.timings().forget(seq);
        if let Some(message) = self.messages.remove(&seq) {
            self.held_bytes -= message.length;
            metrics::unacknowledged(self.messages.len());
            let acting = act(message);
            self.in_flight.push(Box::pin(async move {
                acting.await;
                None
            }));
        }
    }
}

/// Storage time of a message, in milliseconds since 1970.
fn stored_ms(message: &Message) -> u64 {
    let nanos = message.info().map_or(0, |info| info.published.unix_timestamp_nanos());
    u64::try_from(nanos / 1_000_000).unwrap_or(0)
}

async fn unpin(bus: &Bus) {
    if let Err(error) = streams::unpin(bus, ROUTERS).await {
        tracing::debug!(%error, "cannot hand over; a standby router takes over after a timeout");
    }
}
