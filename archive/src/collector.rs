//! Groups log messages into flows. A flow is stored when it has a response, or after a quiet
//! period.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use concert_engine::provenance::Stored;
use concert_runtime::feed::Feed;
use concert_runtime::nats::Message;
use concert_runtime::process::Shutdown;
use concert_runtime::{ack, chaos_point, guard_disabled};
use concert_wire::id::FlowId;
use concert_wire::is_response;
use concert_wire::subject::CompletionSubject;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::metrics::Metrics;
use crate::read_throttle::ReadThrottle;
use crate::repository::PartialFlow;
use crate::writer::Writer;
use crate::{ArchiveArgs, messages};

/// Interval between checks for flows to store. It delays the updates of open console pages.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Quiet period of a flow with a response: most flows end with the response.
const SETTLED: Duration = Duration::from_millis(100);
/// Age at which a request without a response is sent to open console pages as unfinished, so that
/// its progress is visible.
const SLOW: Duration = Duration::from_millis(300);
/// Maximum number of unfinished flows per report; under a load that slows all flows, more would be
/// unreadable.
const MAX_SLOW: usize = 20;
/// Timeout of the final writes after a shutdown request.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(8);

/// Messages of a flow that are not stored yet, and their deliveries.
#[derive(Default)]
struct Waiting {
    messages: Vec<Stored>,
    /// By sequence; a redelivery replaces the earlier delivery.
    deliveries: BTreeMap<u64, Message>,
    bytes: usize,
    answered: bool,
    first: Option<Instant>,
    last: Option<Instant>,
    /// `true` if the flow was reported unfinished.
    reported: bool,
}

/// Flows that are not stored yet.
#[derive(Default)]
struct Flows {
    waiting: HashMap<FlowId, Waiting>,
    messages: usize,
    bytes: usize,
    /// Maximum number and size of the messages in memory.
    most: Room,
}

/// Limits of the messages in memory.
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
        waiting.answered |= is_response(subject.concept.as_str(), subject.action.as_str());
        waiting.first.get_or_insert_with(Instant::now);
        waiting.last = Some(Instant::now());
        // Both the delivery and `stored` keep the message in memory.
        let bytes = delivery.length + stored.body.len() + stored.subject.len();
        if waiting.deliveries.insert(stored.seq, delivery).is_none() {
            waiting.messages.push(stored);
            waiting.bytes += bytes;
            self.messages += 1;
            self.bytes += bytes;
        }
    }

    /// Slow flows, each reported once.
    fn slow(&mut self) -> Vec<PartialFlow> {
        let is_slow = |waiting: &Waiting| {
            let since = waiting.first.map_or(Duration::ZERO, |first| first.elapsed());
            !waiting.reported && !waiting.answered && since >= SLOW
        };
        let slow = self.waiting.iter_mut().filter(|(_, waiting)| is_slow(waiting));
        let reported = slow.take(MAX_SLOW).map(|(flow, waiting)| {
            waiting.reported = true;
            PartialFlow { flow: *flow, messages: waiting.messages.clone() }
        });
        reported.collect()
    }

    /// Removes the flows that are due, or all flows, with the deliveries to acknowledge.
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

/// Collects and stores flows until shutdown.
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
    let mut reporting: Option<JoinHandle<()>> = None;
    let mut tick = tokio::time::interval(CHECK_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.requested() => break,
            _ = tick.tick() => {
                throttle.next_turn();
                metrics.set_waiting(flows.messages, flows.bytes);
                // The report of an unfinished flow must precede its storage; otherwise a console
                // would show a finished flow as unfinished.
                if reporting.as_ref().is_some_and(|task| !task.is_finished()) {
                    continue;
                }
                let slow = if throttle.is_behind() { Vec::new() } else { flows.slow() };
                if !slow.is_empty() {
                    reporting = Some(report(&writer, slow));
                    continue;
                }
                if writing.as_ref().is_some_and(|task| !task.is_finished()) {
                    continue;
                }
                // A flow is not quiet if its end may be among the unread messages.
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
            tracing::error!(%error, "cannot store flows; the next archive stores them");
        }
        let (due, deliveries) = flows.due(quiet, true);
        if let Err(error) = write(&writer, due, deliveries).await {
            tracing::error!(%error, "cannot store flows; the next archive stores them");
        }
        writer.hand_over().await;
    };
    if tokio::time::timeout(DRAIN_TIMEOUT, finish).await.is_err() {
        tracing::warn!("shutdown timed out; the next archive stores the remaining flows");
    }
}

/// Adds a message to its flow. Returns its storage time in microseconds.
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
        // The message is unreadable; the router makes it a dead letter.
        None => {
            ack::sent(&message).await;
            None
        }
    }
}

/// Stores flows in a separate task, retrying until it succeeds, and then acknowledges their
/// messages.
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

/// Reports unfinished flows without storing them.
fn report(writer: &Arc<Writer>, flows: Vec<PartialFlow>) -> JoinHandle<()> {
    let writer = writer.clone();
    tokio::spawn(async move { writer.report_unfinished(&flows).await })
}
