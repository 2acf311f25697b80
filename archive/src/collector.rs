//! From the log's messages to flows: a flow is written when it is answered, or has been quiet for a
//! while.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use concert_engine::provenance::Stored;
use concert_runtime::feed::Feed;
use concert_runtime::nats::Message;
use concert_runtime::process::Shutdown;
use concert_runtime::{ack, chaos_point, guard_disabled};
use concert_wire::id::FlowId;
use concert_wire::subject::CompletionSubject;
use concert_wire::{REQUESTING, RESPOND};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::metrics::Metrics;
use crate::read_throttle::ReadThrottle;
use crate::repository::PartialFlow;
use crate::writer::Writer;
use crate::{ArchiveArgs, messages};

/// How often it is looked for flows that are to be written. Pages that are open hear of a flow so
/// much later.
const EVERY: Duration = Duration::from_millis(100);
/// For how long a flow that is answered must be quiet: most end with the answer.
const SETTLED: Duration = Duration::from_millis(100);
/// After so long a request that is not answered yet is told of as it is, so that who waits for it
/// sees how far it got.
const SLOW: Duration = Duration::from_millis(300);
/// Such flows that are told of at once at most; under a load that makes every flow slow nobody
/// could read them.
const SLOW_TOLD: usize = 20;
/// How long what was read may take to be written once shutdown is asked for.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(8);

/// Messages of a flow that are not written yet, with what acknowledges them.
#[derive(Default)]
struct Waiting {
    messages: Vec<Stored>,
    /// By sequence: what is delivered again while it waits takes the place of the delivery before.
    deliveries: BTreeMap<u64, Message>,
    bytes: usize,
    answered: bool,
    first: Option<Instant>,
    last: Option<Instant>,
    /// Whether it was told of before it was written.
    told: bool,
}

/// Flows that wait to be written.
#[derive(Default)]
struct Flows {
    waiting: HashMap<FlowId, Waiting>,
    messages: usize,
    bytes: usize,
    /// As many as may wait.
    most: Room,
}

/// How much may wait.
#[derive(Default)]
struct Room {
    messages: usize,
    bytes: usize,
}

impl Flows {
    const fn are_full(&self) -> bool {
        self.messages >= self.most.messages || self.bytes >= self.most.bytes
    }

    fn take(&mut self, subject: &CompletionSubject, stored: Stored, delivery: Message) {
        let waiting = self.waiting.entry(subject.flow).or_default();
        waiting.answered |=
            subject.concept.as_str() == REQUESTING && subject.action.as_str() == RESPOND;
        waiting.first.get_or_insert_with(Instant::now);
        waiting.last = Some(Instant::now());
        // As it was delivered, and as it will be written.
        let bytes = delivery.length + stored.body.len() + stored.subject.len();
        if waiting.deliveries.insert(stored.seq, delivery).is_none() {
            waiting.messages.push(stored);
            waiting.bytes += bytes;
            self.messages += 1;
            self.bytes += bytes;
        }
    }

    /// Flows that are slow, once each.
    fn slow(&mut self) -> Vec<PartialFlow> {
        let is_slow = |waiting: &Waiting| {
            let since = waiting.first.map_or(Duration::ZERO, |first| first.elapsed());
            !waiting.told && !waiting.answered && since >= SLOW
        };
        let slow = self.waiting.iter_mut().filter(|(_, waiting)| is_slow(waiting));
        let told = slow.take(SLOW_TOLD).map(|(flow, waiting)| {
            waiting.told = true;
            PartialFlow { flow: *flow, messages: waiting.messages.clone() }
        });
        told.collect()
    }

    /// The flows that are due; all of them when there is no room for more, or nothing more comes.
    fn due(&mut self, quiet: Duration, all: bool) -> (Vec<PartialFlow>, Vec<Message>) {
        let is_due = |waiting: &Waiting| {
            let silent = waiting.last.map_or(Duration::MAX, |last| last.elapsed());
            all || silent >= quiet || (waiting.answered && silent >= SETTLED)
        };
        let due = self.waiting.extract_if(|_, waiting| is_due(waiting));
        let (mut flows, mut deliveries) = (Vec::new(), Vec::new());
        for (flow, waiting) in due {
            self.messages -= waiting.messages.len();
            self.bytes -= waiting.bytes;
            deliveries.extend(waiting.deliveries.into_values());
            flows.push(PartialFlow { flow, messages: waiting.messages });
        }
        (flows, deliveries)
    }
}

/// Reads until shutdown.
pub(crate) async fn run(
    mut feed: Feed,
    writer: Writer,
    metrics: Metrics,
    args: ArchiveArgs,
    shutdown: Shutdown,
) {
    let writer = Arc::new(writer);
    let quiet = Duration::from_millis(args.quiet_ms);
    let mut flows = Flows {
        most: Room {
            messages: usize::try_from(args.messages).unwrap_or(usize::MAX),
            bytes: usize::try_from(args.bytes).unwrap_or(usize::MAX),
        },
        ..Flows::default()
    };
    let mut throttle = ReadThrottle::new(Duration::from_secs(args.yield_seconds));
    let mut writing: Option<JoinHandle<()>> = None;
    let mut telling: Option<JoinHandle<()>> = None;
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.requested() => break,
            _ = tick.tick() => {
                throttle.next_turn();
                metrics.waits(flows.messages, flows.bytes);
                // What is told of a flow under way is told before it is written.
                if telling.as_ref().is_some_and(|task| !task.is_finished()) {
                    continue;
                }
                let slow = if throttle.is_behind() { Vec::new() } else { flows.slow() };
                if !slow.is_empty() {
                    telling = Some(tell(&writer, slow));
                    continue;
                }
                if writing.as_ref().is_some_and(|task| !task.is_finished()) {
                    continue;
                }
                // A flow is not quiet because its end is not read yet.
                let quiet = if throttle.is_behind() { Duration::MAX } else { quiet };
                let (due, deliveries) = flows.due(quiet, flows.are_full());
                writing = (!due.is_empty()).then(|| write(&writer, due, deliveries));
            }
            message = feed.next(), if !flows.are_full() && throttle.may_read() => {
                if let Some(stored_us) = take(&writer, &mut flows, message).await {
                    throttle.on_read(stored_us);
                }
            }
        }
    }
    let finish = async {
        let mut rest = feed.close().await;
        while let Some(message) = rest.next().await {
            take(&writer, &mut flows, message).await;
        }
        if let Some(task) = writing
            && let Err(error) = task.await
        {
            tracing::error!(%error, "flows were not written");
        }
        let (due, deliveries) = flows.due(quiet, true);
        if let Err(error) = write(&writer, due, deliveries).await {
            tracing::error!(%error, "flows were not written");
        }
        writer.hand_over().await;
    };
    if tokio::time::timeout(DRAIN_TIMEOUT, finish).await.is_err() {
        tracing::warn!("some flows are left to the next archive");
    }
}

/// Takes a message; when it was stored.
async fn take(writer: &Writer, flows: &mut Flows, message: Message) -> Option<u64> {
    match messages::delivered(&message) {
        Some((subject, stored)) => {
            let stored_us = stored.time_us;
            writer.received(subject.flow, &stored);
            if subject.flow == FlowId::of_rules() {
                ack::sent(&message).await;
            } else {
                if guard_disabled!("archive-acks-first") {
                    ack::sent(&message).await;
                }
                flows.take(&subject, stored, message);
                chaos_point!("received");
            }
            Some(stored_us)
        }
        // The router makes a dead letter of it.
        None => {
            ack::sent(&message).await;
            None
        }
    }
}

/// Writes flows, however often it takes, and acknowledges their messages; beside the reading.
fn write(
    writer: &Arc<Writer>,
    flows: Vec<PartialFlow>,
    deliveries: Vec<Message>,
) -> JoinHandle<()> {
    let writer = writer.clone();
    tokio::spawn(async move {
        writer.write(flows).await;
        chaos_point!("written");
        for delivery in &deliveries {
            ack::sent(delivery).await;
        }
        chaos_point!("after-ack");
    })
}

/// Tells of flows as they are now; nothing is written.
fn tell(writer: &Arc<Writer>, flows: Vec<PartialFlow>) -> JoinHandle<()> {
    let writer = writer.clone();
    tokio::spawn(async move { writer.under_way(&flows).await })
}
