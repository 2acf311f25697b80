//! Streams, consumers and KV buckets, as specified in `docs/wire.md`.

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{
    AckPolicy, DeliverPolicy, PriorityPolicy, PullConsumer, pull,
};
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::kv;
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, Republish, RetentionPolicy, StorageType, Stream,
};
use concert_wire::name::ConceptName;
use concert_wire::routes::ROUTES_KEY;
use concert_wire::subject::{self, ARCHIVES, ROUTERS, WORKERS};

mod blobs;
mod limits;
mod pinned;

pub use self::limits::LogLimits;
pub use self::pinned::{Pinned, unpin};
use crate::bus::Bus;

/// Maximum number of replicas that NATS supports.
pub const REPLICAS_MAX: usize = 5;

/// Maximum number of stored dead letters. When full, workers block instead of dropping one.
const DEAD_MAX_MESSAGES: i64 = 1_000_000;
/// Retention of dead letters.
const DEAD_MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Ack deadline of the routers: after this, the server redelivers a message. A router that takes
/// over releases the messages of its predecessor earlier ([`Pinned::release`]).
const ROUTER_ACK_WAIT: Duration = Duration::from_secs(8);
/// Ack deadline of an action, in milliseconds. A worker extends it while the action runs, so it
/// only limits how long the actions of a killed worker wait.
pub const WORKER_ACK_WAIT_MS: u64 = 1750;
/// Ack deadline of the archive. It is longer because the archive is slower and no request waits for
/// it.
const ARCHIVE_ACK_WAIT: Duration = Duration::from_secs(30);
/// Lifetime of a fetch request. After a shutdown begins, the server still delivers for this time.
pub(crate) const PULL_EXPIRES: Duration = Duration::from_secs(1);
/// Heartbeat interval of an open fetch request: without a heartbeat, a restart of the server would
/// stall the stream silently.
const PULL_HEARTBEAT: Duration = Duration::from_millis(450);
/// Maximum size of one fetch, in bytes: more than a batch of ordinary messages, but a batch of the
/// largest messages still fits in memory.
const PULL_BYTES: usize = 16 * 1024 * 1024;
/// Maximum number of unacknowledged messages of one consumer.
const MAX_ACK_PENDING: i64 = 20_000;
/// Time without activity after which a standby process replaces the active one.
const PIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Error of a stream, a consumer or a bucket.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up {what}: {source}; {advice}")]
pub struct SetupError {
    what: String,
    source: async_nats::Error,
    advice: String,
}

fn failed<E: Into<async_nats::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> SetupError {
    let what = what.into();
    let advice = "if it is missing, run `concert setup`".to_owned();
    move |source| SetupError { what, source: source.into(), advice }
}

/// Like [`failed`], for a stream whose size a setting limits: the account may require a limit, or
/// have less storage.
fn failed_sized<E: Into<async_nats::Error>>(
    what: impl Into<String>,
    key: &str,
) -> impl FnOnce(E) -> SetupError {
    let (what, key) = (what.into(), key.to_owned());
    move |source| {
        let error = failed(what)(source);
        let text = error.source.to_string();
        let advice = if text.contains("max bytes") {
            format!(
                "the JetStream account requires a maximum size of each stream: set log.{key}, and \
                 the other sizes of the section [log]"
            )
        } else if text.contains("storage") {
            format!(
                "the NATS server has less storage than the maximum sizes of all streams: free disk \
                 space, or decrease log.{key} or another size of the section [log]"
            )
        } else {
            return error;
        };
        SetupError { advice, ..error }
    }
}

/// Creates the streams of the log, of the dead letters and of the large values, or updates their
/// limits. A service in its own account only looks them up.
///
/// # Errors
/// The server rejects the request.
pub async fn log(bus: &Bus, limits: &LogLimits) -> Result<Stream, SetupError> {
    if !bus.makes_streams() {
        return existing_log(bus).await;
    }
    let dead = Config {
        name: subject::DEAD.to_owned(),
        description: Some("messages that failed in every automatic attempt".to_owned()),
        subjects: vec![subject::DEAD_SUBJECTS.to_owned()],
        max_age: DEAD_MAX_AGE,
        max_messages: DEAD_MAX_MESSAGES,
        max_bytes: limits.dead_max_bytes,
        republish: Some(Republish {
            source: subject::DEAD_SUBJECTS.to_owned(),
            destination: subject::DEAD_NOTICES.to_owned(),
            headers_only: true,
        }),
        ..stream_config(limits)
    };
    let made = bus.jetstream.create_or_update_stream(dead).await;
    made.map_err(failed_sized("the stream DEAD", "dead_max_bytes"))?;
    // A second safeguard in addition to the expected sequence of each publish.
    let one_on_a_subject = !crate::guard_disabled!("expected-sequence");
    let log = Config {
        name: subject::LOG.to_owned(),
        description: Some("the log: every completed action of every flow".to_owned()),
        subjects: vec![subject::LOG_SUBJECTS.to_owned()],
        max_age: Duration::from_secs(limits.log_max_age_hours * 3600),
        max_messages: limits.max_messages(),
        max_bytes: limits.log_max_bytes,
        // One message per subject, even if a publisher omits the expected sequence. Otherwise a
        // second root of a flow would hide the first one from routers that reread the flow.
        max_messages_per_subject: if one_on_a_subject { 1 } else { -1 },
        discard_new_per_subject: one_on_a_subject,
        ..stream_config(limits)
    };
    let made = bus.jetstream.create_or_update_stream(log).await;
    made.map_err(failed_sized("the stream COMPLETIONS", "max_bytes"))?;
    blobs::make(bus, limits).await?;
    existing_log(bus).await
}

/// Looks up the log. A router creates it, and workers and edges that start earlier retry.
///
/// # Errors
/// The stream does not exist.
pub async fn existing_log(bus: &Bus) -> Result<Stream, SetupError> {
    bus.jetstream.get_stream(subject::LOG).await.map_err(failed("the stream COMPLETIONS"))
}

/// Creates a concept's stream of invocations or looks it up, as [`log`] does.
///
/// # Errors
/// The server rejects the request, or the stream does not exist.
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

/// Returns whether a concept has a stream of invocations.
///
/// # Errors
/// The server does not respond.
pub async fn has_actions(bus: &Bus, concept: &ConceptName) -> Result<bool, SetupError> {
    let name = subject::actions_stream(concept);
    match bus.jetstream.get_stream(&name).await {
        Ok(_) => Ok(true),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(ref reason)
                if reason.error_code() == ErrorCode::STREAM_NOT_FOUND =>
            {
                Ok(false)
            }
            _ => Err(failed(format!("the stream {name}"))(error)),
        },
    }
}

async fn make_actions(
    bus: &Bus,
    concept: &ConceptName,
    limits: &LogLimits,
) -> Result<(), SetupError> {
    let name = subject::actions_stream(concept);
    let config = Config {
        description: Some(format!("invocations of {concept}")),
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
        .map_err(failed_sized(format!("the stream {name}"), "queue_max_bytes"))
}

/// Creates all streams, consumers and buckets of an application, or updates their limits.
///
/// # Errors
/// The server rejects the request.
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
        // A full stream rejects new messages, so that the publisher notices. It never drops
        // accepted messages.
        discard: DiscardPolicy::New,
        allow_direct: true,
        num_replicas: limits.stream_replicas,
        ..Config::default()
    }
}

/// Deletes one message of a stream.
///
/// # Errors
/// The message does not exist, or the server does not respond.
pub(crate) async fn delete(bus: &Bus, stream: &str, seq: u64) -> Result<(), SetupError> {
    let what = format!("the message {seq} of {stream}");
    let stream = bus.jetstream.get_stream_no_info(stream).await.map_err(failed(&what))?;
    stream.delete_message(seq).await.map_err(failed(&what))?;
    Ok(())
}

/// Deletes a note of a concept's bucket with all its revisions, without a delete marker.
///
/// # Errors
/// The server does not respond.
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
/// The server rejects the request.
pub async fn workers_consumer(bus: &Bus, stream: &Stream) -> Result<PullConsumer, SetupError> {
    if !bus.makes_streams() {
        return stream.get_consumer(WORKERS).await.map_err(failed("the workers' consumer"));
    }
    let config = pull::Config {
        durable_name: Some(WORKERS.to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: Duration::from_millis(WORKER_ACK_WAIT_MS),
        // With a maximum, delivery would stop silently; the worker host counts deliveries instead.
        max_deliver: -1,
        max_ack_pending: MAX_ACK_PENDING,
        ..pull::Config::default()
    };
    stream.create_consumer(config).await.map_err(failed("the workers' consumer"))
}

/// The consumer that the routers share: one router is active, the others are on standby. It has no
/// filter, because the router must know every sequence that it received.
///
/// # Errors
/// The server rejects the request.
pub async fn routers_consumer(bus: &Bus, log: &Stream) -> Result<PullConsumer, SetupError> {
    if !bus.makes_streams() {
        return log.get_consumer(ROUTERS).await.map_err(failed("the routers' consumer"));
    }
    log.create_consumer(one_active(ROUTERS, ROUTER_ACK_WAIT))
        .await
        .map_err(failed("the routers' consumer"))
}

/// Configuration of a consumer of a whole stream that several processes share: one is active, the
/// others are on standby.
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

/// The consumer that the archives share, on the log or on the dead-letter stream.
///
/// # Errors
/// The server rejects the request.
pub async fn archives_consumer(bus: &Bus, stream: &Stream) -> Result<PullConsumer, SetupError> {
    let what = || format!("the archives' consumer of {}", stream.cached_info().config.name);
    if !bus.makes_streams() {
        return stream.get_consumer(ARCHIVES).await.map_err(failed(what()));
    }
    stream.create_consumer(one_active(ARCHIVES, ARCHIVE_ACK_WAIT)).await.map_err(failed(what()))
}

/// Looks up the dead-letter stream, which a router creates.
///
/// # Errors
/// The stream does not exist.
pub async fn existing_dead(bus: &Bus) -> Result<Stream, SetupError> {
    bus.jetstream.get_stream(subject::DEAD).await.map_err(failed("the stream DEAD"))
}

/// Fetches `count` messages of a workers' consumer, or those that arrive within [`PULL_EXPIRES`].
///
/// # Errors
/// The server rejects the request.
pub(crate) async fn worker_messages(
    consumer: &PullConsumer,
    count: usize,
) -> Result<pull::Batch, SetupError> {
    // Without heartbeats, which the client's batches do not support; the request is equally short.
    let batch = consumer.batch().max_messages(count.max(1)).expires(PULL_EXPIRES);
    batch.messages().await.map_err(failed("the workers' messages"))
}

/// Streams the messages of a consumer with one active process; its priority group has the
/// consumer's name.
///
/// # Errors
/// The server rejects the request.
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

/// The KV bucket `concert`, created if it is missing.
///
/// # Errors
/// The server rejects the request.
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
        max_bytes: limits.bucket_max_bytes,
        num_replicas: limits.stream_replicas,
        ..kv::Config::default()
    };
    bucket_of(bus, config).await
}

/// The KV bucket of a concept's notes, created if it is missing.
///
/// # Errors
/// The server rejects the request.
pub async fn notes(
    bus: &Bus,
    concept: &ConceptName,
    limits: &LogLimits,
) -> Result<kv::Store, SetupError> {
    let config = kv::Config {
        bucket: subject::notes_bucket(concept.as_str()),
        max_bytes: limits.bucket_max_bytes,
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
    let made = bus.jetstream.create_key_value(config).await;
    made.map_err(failed_sized(format!("the KV bucket {bucket}"), "bucket_max_bytes"))
}

/// State of the log and progress of the routers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogState {
    /// Time of the first message, in milliseconds since 1970; `None` if the log is empty.
    pub first_ms: Option<u64>,
    /// Sequence of the first message.
    pub first_sequence: u64,
    /// Sequence of the last message, even if that was deleted.
    pub last_sequence: u64,
    /// Number of messages.
    pub messages: u64,
    /// Size of the messages, in bytes.
    pub bytes: u64,
    /// Sequence up to which the routers have acknowledged all messages.
    pub acknowledged: u64,
}

/// Returns the share of the log's limits that is in use: 0 if it is empty or has no limit, 1 if it is
/// full. The limit that is closest counts.
///
/// # Errors
/// The server does not respond.
pub async fn log_fill_ratio(bus: &Bus) -> Result<f64, SetupError> {
    let log = existing_log(bus).await?;
    let (state, config) = (&log.cached_info().state, &log.cached_info().config);
    let used = [(state.messages, config.max_messages), (state.bytes, config.max_bytes)];
    let ratios = used.into_iter().filter(|(_, max)| *max > 0);
    #[expect(clippy::cast_precision_loss, reason = "a ratio needs no more than 52 bits")]
    Ok(ratios.map(|(used, max)| used as f64 / max as f64).fold(0.0, f64::max))
}

/// Reads the state of the log.
///
/// # Errors
/// The server does not respond.
pub async fn log_state(bus: &Bus) -> Result<LogState, SetupError> {
    let log = existing_log(bus).await?;
    let routers: PullConsumer =
        log.get_consumer(ROUTERS).await.map_err(failed("the routers' consumer"))?;
    let state = &log.cached_info().state;
    Ok(LogState {
        first_ms: (state.messages > 0)
            .then(|| state.first_timestamp.unix_timestamp_nanos() / 1_000_000)
            .and_then(|ms| u64::try_from(ms).ok()),
        first_sequence: state.first_sequence,
        last_sequence: state.last_sequence,
        messages: state.messages,
        bytes: state.bytes,
        acknowledged: routers.cached_info().ack_floor.stream_sequence,
    })
}

/// Pending and unacknowledged messages of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Messages not delivered yet.
    pub pending: u64,
    /// Messages delivered and not acknowledged.
    pub ack_pending: usize,
    /// Number of those that were delivered more than once.
    pub redelivered: usize,
    /// Deliveries so far, less the delivered messages, of a consumer that reads its whole stream.
    pub repeated: u64,
    /// Open fetch requests.
    pub waiting: usize,
}

/// Reads the backlog of a consumer.
///
/// # Errors
/// The server does not respond, or the consumer does not exist.
pub async fn lag(bus: &Bus, stream: &str, consumer: &str) -> Result<Lag, SetupError> {
    let what = || format!("the consumer {consumer} of {stream}");
    let stream = bus.jetstream.get_stream_no_info(stream).await.map_err(failed(what()))?;
    let info = stream.consumer_info(consumer).await.map_err(failed(what()))?;
    Ok(Lag {
        pending: info.num_pending,
        ack_pending: info.num_ack_pending,
        redelivered: info.num_redelivered,
        repeated: info.delivered.consumer_sequence.saturating_sub(info.delivered.stream_sequence),
        waiting: info.num_waiting,
    })
}

/// Returns the first and the last sequence of the dead-letter stream, and the number of dead
/// letters.
///
/// # Errors
/// The server does not respond.
pub async fn dead_state(bus: &Bus) -> Result<(u64, u64, u64), SetupError> {
    let dead = existing_dead(bus).await?;
    let state = &dead.cached_info().state;
    Ok((state.first_sequence, state.last_sequence, state.messages))
}

/// Storage time of a log message, in milliseconds since 1970; `None` if the message does not exist.
///
/// # Errors
/// The server does not respond.
pub async fn log_time_ms(bus: &Bus, sequence: u64) -> Result<Option<u64>, SetupError> {
    use async_nats::jetstream::stream::DirectGetErrorKind;
    let log = existing_log(bus).await?;
    match log.direct_get(sequence).await {
        Ok(message) => Ok(u64::try_from(message.time.unix_timestamp_nanos() / 1_000_000).ok()),
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("a message of the log")(error)),
    }
}

/// Deletes all messages of the log before a sequence.
///
/// # Errors
/// The server rejects the request.
pub async fn purge_log(bus: &Bus, before: u64) -> Result<(), SetupError> {
    let log = existing_log(bus).await?;
    log.purge().sequence(before).await.map(|_| ()).map_err(failed("the stream COMPLETIONS"))
}
