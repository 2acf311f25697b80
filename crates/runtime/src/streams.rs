//! The streams, the consumers on them and the KV bucket, as `docs/wire.md` describes them.

use std::time::Duration;

use async_nats::jetstream::consumer::{
    AckPolicy, DeliverPolicy, PriorityPolicy, PullConsumer, pull,
};
use async_nats::jetstream::kv;
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, Republish, RetentionPolicy, StorageType, Stream,
};
use concert_wire::name::ConceptName;
use concert_wire::routes::ROUTES_KEY;
use concert_wire::subject::{self, ARCHIVES, ROUTERS, WORKERS};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bus::Bus;

/// The section `[log]`: limits of the log and of the queues.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogLimits {
    /// Hours that a completion stays in the log.
    #[serde(rename = "max_age_hours")]
    #[schemars(range(min = 1, max = HOURS_MAX))]
    pub log_max_age_hours: u64,
    /// Maximum number of completions in the log, each about 0.6 KB of the server's memory; excess
    /// requests get 503.
    #[serde(rename = "max_messages")]
    #[schemars(range(min = 1, max = i64::MAX))]
    pub log_max_messages: i64,
    /// Maximum size of the log, in bytes; excess requests get 503. 0 leaves the limit to the
    /// server's storage.
    #[serde(rename = "max_bytes")]
    #[schemars(range(min = 0, max = i64::MAX))]
    pub log_max_bytes: i64,
    /// Maximum number of invocations in the queue of one concept; the router publishes the others
    /// later.
    #[schemars(range(min = 1, max = i64::MAX))]
    pub queue_max_messages: i64,
    /// Maximum size of such a queue, in bytes; 0 leaves the limit to the server's storage.
    #[schemars(range(min = 0, max = i64::MAX))]
    pub queue_max_bytes: i64,
    /// Seconds that a completion stays in the log even if the log is nearly full.
    #[serde(rename = "keep_seconds")]
    #[schemars(range(min = 0, max = HOURS_MAX * 3600))]
    pub log_keep_seconds: u64,
    /// Replicas of each stream in a NATS cluster (`nats.replicas`).
    #[serde(skip)]
    pub stream_replicas: usize,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            log_max_age_hours: 24,
            log_max_messages: 4_000_000,
            log_max_bytes: 0,
            queue_max_messages: 1_000_000,
            queue_max_bytes: 0,
            log_keep_seconds: 600,
            stream_replicas: 1,
        }
    }
}

/// Ten years.
const HOURS_MAX: u64 = 10 * 366 * 24;
/// The most replicas that NATS makes.
pub const REPLICAS_MAX: usize = 5;

/// Dead letters that are kept at most; past it workers wait rather than lose one.
const DEAD_MAX_MESSAGES: i64 = 1_000_000;
/// How long dead letters are kept.
const DEAD_MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a delivered message may take before it is delivered again.
pub const ACK_WAIT: Duration = Duration::from_secs(8);
/// The same for an archive, which takes its time: a message that was not written is not lost, and
/// nobody waits for it.
const ARCHIVE_ACK_WAIT: Duration = Duration::from_secs(30);
/// How long a request for messages is open; so long, too, messages come to a process that ends.
pub(crate) const PULL_EXPIRES: Duration = Duration::from_secs(1);
/// How often the server gives a sign of life while such a request is open: without it a restart of
/// the server would stall the stream in silence.
const PULL_HEARTBEAT: Duration = Duration::from_millis(450);
/// Bytes that one such request asks for at most: more than a batch of ordinary messages, and few
/// enough that a batch of the largest fills no memory.
const PULL_BYTES: usize = 16 * 1024 * 1024;
/// Unacknowledged messages of one consumer at most.
const MAX_ACK_PENDING: i64 = 20_000;
/// After this without a sign, a standby router takes over from the active one.
const PIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A stream, consumer or bucket cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot be set up: {source}")]
pub struct SetupError {
    what: String,
    source: async_nats::Error,
}

fn failed<E: Into<async_nats::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> SetupError {
    let what = what.into();
    move |source| SetupError { what, source: source.into() }
}

/// Makes the log and the dead letters, or brings them to these bounds. A service in an account of
/// its own finds them made.
///
/// # Errors
/// The server refuses.
pub async fn log(bus: &Bus, limits: &LogLimits) -> Result<Stream, SetupError> {
    if !bus.makes_streams() {
        return existing_log(bus).await;
    }
    let dead = Config {
        name: subject::DEAD.to_owned(),
        description: Some("messages that no retry will fix".to_owned()),
        subjects: vec![subject::DEAD_SUBJECTS.to_owned()],
        max_age: DEAD_MAX_AGE,
        max_messages: DEAD_MAX_MESSAGES,
        republish: Some(Republish {
            source: subject::DEAD_SUBJECTS.to_owned(),
            destination: subject::DEAD_NOTICES.to_owned(),
            headers_only: true,
        }),
        ..stream_config(limits)
    };
    bus.jetstream.create_or_update_stream(dead).await.map_err(failed("the stream DEAD"))?;
    // The expected sequence of each publish and this stand one behind the other.
    let one_on_a_subject = !crate::guard_disabled!("expected-sequence");
    let log = Config {
        name: subject::LOG.to_owned(),
        description: Some("the log: every completed action of every flow".to_owned()),
        subjects: vec![subject::LOG_SUBJECTS.to_owned()],
        max_age: Duration::from_secs(limits.log_max_age_hours * 3600),
        max_messages: limits.log_max_messages,
        max_bytes: limits.log_max_bytes,
        // One subject, one message, also for whoever leaves the expected sequence out: a second
        // root behind what followed from the first would change what follows.
        max_messages_per_subject: if one_on_a_subject { 1 } else { -1 },
        discard_new_per_subject: one_on_a_subject,
        ..stream_config(limits)
    };
    bus.jetstream.create_or_update_stream(log).await.map_err(failed("the stream COMPLETIONS"))?;
    existing_log(bus).await
}

/// The log, made by a router; workers and edges that come first wait for it.
///
/// # Errors
/// It is not there.
pub async fn existing_log(bus: &Bus) -> Result<Stream, SetupError> {
    bus.jetstream.get_stream(subject::LOG).await.map_err(failed("the stream COMPLETIONS"))
}

/// Makes a concept's stream of invocations, or finds it made, as [`log`] does.
///
/// # Errors
/// The server refuses, or it is not there.
pub async fn actions(
    bus: &Bus,
    concept: &ConceptName,
    limits: &LogLimits,
) -> Result<Stream, SetupError> {
    let name = subject::actions_stream(concept);
    if bus.makes_streams() {
        make_actions(bus, concept, limits).await?;
    }
    bus.jetstream.get_stream(&name).await.map_err(failed(format!("the stream {name}")))
}

async fn make_actions(
    bus: &Bus,
    concept: &ConceptName,
    limits: &LogLimits,
) -> Result<(), SetupError> {
    let name = subject::actions_stream(concept);
    let config = Config {
        description: Some(format!("actions that {concept} is asked for")),
        subjects: vec![subject::actions_subjects(concept)],
        retention: RetentionPolicy::WorkQueue,
        max_messages: limits.queue_max_messages,
        max_bytes: limits.queue_max_bytes,
        name: name.clone(),
        ..stream_config(limits)
    };
    bus.jetstream
        .create_or_update_stream(config)
        .await
        .map(drop)
        .map_err(failed(format!("the stream {name}")))
}

/// Makes everything that the parts of an application find on the bus, or brings it to these bounds.
///
/// # Errors
/// The server refuses.
pub async fn make_all(
    bus: &Bus,
    concepts: &[ConceptName],
    limits: &LogLimits,
) -> Result<(), SetupError> {
    let log = log(bus, limits).await?;
    routers_consumer(bus, &log).await?;
    archives_consumer(bus, &log).await?;
    archives_consumer(bus, &existing_dead(bus).await?).await?;
    bucket(bus, limits).await?;
    for concept in concepts {
        let stream = actions(bus, concept, limits).await?;
        workers_consumer(bus, &stream).await?;
        notes(bus, concept, limits).await?;
    }
    Ok(())
}

fn stream_config(limits: &LogLimits) -> Config {
    Config {
        storage: StorageType::File,
        // A full stream refuses, and the publisher knows; it never drops what it has accepted.
        discard: DiscardPolicy::New,
        allow_direct: true,
        num_replicas: limits.stream_replicas,
        ..Config::default()
    }
}

/// Takes one message out of a stream.
///
/// # Errors
/// It is not there, or the server does not answer.
pub(crate) async fn delete(bus: &Bus, stream: &str, seq: u64) -> Result<(), SetupError> {
    let what = format!("the message {seq} of {stream}");
    let stream = bus.jetstream.get_stream_no_info(stream).await.map_err(failed(&what))?;
    stream.delete_message(seq).await.map_err(failed(&what))?;
    Ok(())
}

/// Takes a note out of a concept's bucket with all its revisions, and leaves no marker of that.
///
/// # Errors
/// The server does not answer.
pub async fn forget_note(bus: &Bus, concept: &ConceptName, key: &str) -> Result<(), SetupError> {
    let bucket = subject::notes_bucket(concept.as_str());
    let what = format!("the key {key} of the bucket {bucket}");
    let stream = bus.jetstream.get_stream_no_info(format!("KV_{bucket}")).await;
    let purge = stream.map_err(failed(&what))?.purge().filter(format!("$KV.{bucket}.{key}"));
    purge.await.map(drop).map_err(failed(what))
}

/// The consumer that a concept's workers share.
///
/// # Errors
/// The server refuses.
pub async fn workers_consumer(bus: &Bus, stream: &Stream) -> Result<PullConsumer, SetupError> {
    if !bus.makes_streams() {
        return stream.get_consumer(WORKERS).await.map_err(failed("the workers' consumer"));
    }
    let config = pull::Config {
        durable_name: Some(WORKERS.to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        // Past a maximum, delivery would stop without a word; the worker host counts instead.
        max_deliver: -1,
        max_ack_pending: MAX_ACK_PENDING,
        ..pull::Config::default()
    };
    stream.create_consumer(config).await.map_err(failed("the workers' consumer"))
}

/// The consumer that the routers share: one is active, the others stand by. It has no filter, since
/// the router must know every sequence that it received.
///
/// # Errors
/// The server refuses.
pub async fn routers_consumer(bus: &Bus, log: &Stream) -> Result<PullConsumer, SetupError> {
    if !bus.makes_streams() {
        return log.get_consumer(ROUTERS).await.map_err(failed("the routers' consumer"));
    }
    log.create_consumer(one_active(ROUTERS, ACK_WAIT))
        .await
        .map_err(failed("the routers' consumer"))
}

/// A consumer of a whole stream that several processes share, of which one is active and the others
/// stand by.
fn one_active(name: &str, ack_wait: Duration) -> pull::Config {
    pull::Config {
        durable_name: Some(name.to_owned()),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait,
        max_deliver: -1,
        max_ack_pending: MAX_ACK_PENDING,
        priority_policy: PriorityPolicy::PinnedClient,
        priority_groups: vec![name.to_owned()],
        priority_timeout: PIN_TIMEOUT,
        ..pull::Config::default()
    }
}

/// The consumer that the archives share, of the log or of the dead letters.
///
/// # Errors
/// The server refuses.
pub async fn archives_consumer(bus: &Bus, stream: &Stream) -> Result<PullConsumer, SetupError> {
    let what = || format!("the archives' consumer of {}", stream.cached_info().config.name);
    if !bus.makes_streams() {
        return stream.get_consumer(ARCHIVES).await.map_err(failed(what()));
    }
    stream.create_consumer(one_active(ARCHIVES, ARCHIVE_ACK_WAIT)).await.map_err(failed(what()))
}

/// The dead letters, made by a router.
///
/// # Errors
/// They are not there.
pub async fn existing_dead(bus: &Bus) -> Result<Stream, SetupError> {
    bus.jetstream.get_stream(subject::DEAD).await.map_err(failed("the stream DEAD"))
}

/// As many messages of a workers' consumer as are named, or what comes of them within
/// [`PULL_EXPIRES`].
///
/// # Errors
/// The server refuses.
pub(crate) async fn worker_messages(
    consumer: &PullConsumer,
    count: usize,
) -> Result<pull::Batch, SetupError> {
    // Without signs of life, which the client's batches do not take; the request is as short.
    let batch = consumer.batch().max_messages(count.max(1)).expires(PULL_EXPIRES);
    batch.messages().await.map_err(failed("the workers' messages"))
}

/// The messages of a consumer of which one process is active; its group has the consumer's name.
///
/// # Errors
/// The server refuses.
pub async fn active_messages(
    consumer: &PullConsumer,
    name: &str,
    batch: usize,
) -> Result<pull::Stream, SetupError> {
    consumer
        .stream()
        .max_messages_per_batch(batch)
        .max_bytes_per_batch(PULL_BYTES)
        .heartbeat(PULL_HEARTBEAT)
        .expires(PULL_EXPIRES)
        .group(name)
        .messages()
        .await
        .map_err(failed(format!("the messages of the {name}")))
}

/// The KV bucket `concert`, made where it is missing.
///
/// # Errors
/// The server refuses.
pub async fn bucket(bus: &Bus, limits: &LogLimits) -> Result<kv::Store, SetupError> {
    let routes = Republish {
        source: format!("$KV.{}.{ROUTES_KEY}", subject::BUCKET),
        destination: subject::ROUTES_NOTICE.to_owned(),
        headers_only: true,
    };
    let config = kv::Config {
        bucket: subject::BUCKET.to_owned(),
        history: 5,
        republish: Some(routes),
        num_replicas: limits.stream_replicas,
        ..kv::Config::default()
    };
    bucket_of(bus, config).await
}

/// The KV bucket of a concept's notes, made where it is missing.
///
/// # Errors
/// The server refuses.
pub async fn notes(
    bus: &Bus,
    concept: &ConceptName,
    limits: &LogLimits,
) -> Result<kv::Store, SetupError> {
    let config = kv::Config {
        bucket: subject::notes_bucket(concept.as_str()),
        num_replicas: limits.stream_replicas,
        ..kv::Config::default()
    };
    bucket_of(bus, config).await
}

async fn bucket_of(bus: &Bus, config: kv::Config) -> Result<kv::Store, SetupError> {
    let bucket = config.bucket.clone();
    let found = bus.jetstream.get_key_value(&bucket).await;
    if found.is_ok() || !bus.makes_streams() {
        return found.map_err(failed(format!("the KV bucket {bucket}")));
    }
    bus.jetstream.create_key_value(config).await.map_err(failed(format!("the KV bucket {bucket}")))
}

/// Lets a standby process take over a consumer of the log at once, instead of after
/// [`PIN_TIMEOUT`].
///
/// # Errors
/// The server refuses.
pub async fn unpin(bus: &Bus, name: &str) -> Result<(), SetupError> {
    existing_log(bus)
        .await?
        .unpin_consumer(name, name)
        .await
        .map_err(failed(format!("the consumer {name}")))
}

/// What the log holds, and how far the routers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogState {
    /// The sequence of its first message.
    pub first_sequence: u64,
    /// The sequence of its last message, also when that is gone.
    pub last_sequence: u64,
    /// How many messages it holds.
    pub messages: u64,
    /// What they take, in bytes.
    pub bytes: u64,
    /// Everything up to this sequence has been acknowledged by a router.
    pub acknowledged: u64,
}

/// Looks at the log.
///
/// # Errors
/// The server does not answer.
pub async fn log_state(bus: &Bus) -> Result<LogState, SetupError> {
    let log = existing_log(bus).await?;
    let routers: PullConsumer =
        log.get_consumer(ROUTERS).await.map_err(failed("the routers' consumer"))?;
    let state = &log.cached_info().state;
    Ok(LogState {
        first_sequence: state.first_sequence,
        last_sequence: state.last_sequence,
        messages: state.messages,
        bytes: state.bytes,
        acknowledged: routers.cached_info().ack_floor.stream_sequence,
    })
}

/// What waits at a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Messages that were not delivered yet.
    pub pending: u64,
    /// Messages that were delivered and not acknowledged.
    pub ack_pending: usize,
    /// Of those, messages that were delivered more than once.
    pub redelivered: usize,
}

/// Looks at a consumer.
///
/// # Errors
/// The server does not answer, or does not say.
pub async fn lag(bus: &Bus, stream: &str, consumer: &str) -> Result<Lag, SetupError> {
    let what = || format!("the consumer {consumer} of {stream}");
    let stream = bus.jetstream.get_stream_no_info(stream).await.map_err(failed(what()))?;
    let info = stream.consumer_info(consumer).await.map_err(failed(what()))?;
    Ok(Lag {
        pending: info.num_pending,
        ack_pending: info.num_ack_pending,
        redelivered: info.num_redelivered,
    })
}

/// The first and the last sequence of the dead letters, and how many there are.
///
/// # Errors
/// The server does not answer.
pub async fn dead_state(bus: &Bus) -> Result<(u64, u64, u64), SetupError> {
    let dead = existing_dead(bus).await?;
    let state = &dead.cached_info().state;
    Ok((state.first_sequence, state.last_sequence, state.messages))
}

/// When a message of the log was stored, in milliseconds since 1970; `None` when it is not there.
///
/// # Errors
/// The server does not answer.
pub async fn log_time_ms(bus: &Bus, sequence: u64) -> Result<Option<u64>, SetupError> {
    use async_nats::jetstream::stream::DirectGetErrorKind;
    let log = existing_log(bus).await?;
    match log.direct_get(sequence).await {
        Ok(message) => Ok(u64::try_from(message.time.unix_timestamp_nanos() / 1_000_000).ok()),
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("a message of the log")(error)),
    }
}

/// Lets go of everything before a sequence.
///
/// # Errors
/// The server refuses.
pub async fn purge_log(bus: &Bus, before: u64) -> Result<(), SetupError> {
    let log = existing_log(bus).await?;
    log.purge().sequence(before).await.map(|_| ()).map_err(failed("the stream COMPLETIONS"))
}
