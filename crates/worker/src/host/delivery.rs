//! Executes the effects of a delivery's state machine: NATS calls and the concept's handler.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use concert_lang::spec::{self, ActionSpec};
use concert_runtime::log::{self, PublishError};
use concert_runtime::nats::{HeaderMap, Message};
use concert_runtime::streams::WORKER_ACK_WAIT_MS as ACK_WAIT_MS;
use concert_runtime::{ack, chaos_point, clock, guard_disabled};
use concert_wire::envelope::{Completion, ERROR, Fault, Object, encode};
use concert_wire::{header, subject};
use futures_util::future::{Fuse, FutureExt as _};
use serde_json::Value;
use tokio::time::{Instant, interval_at};

use super::turns::Turn;
use crate::audit;
use crate::concept::{Call, Failure};
use crate::intake::{Input, Intake, Invocation, intake};
use crate::large::{LargeError, Resolved};
use crate::lease::{Lease, MayNotWrite, find, look};
use crate::order::{Delivery, Effect, Effects, End, Event, Handled, Limits, Published, Wait};
use crate::outcome::{self, Outcome};
use crate::stopwatch::Stopwatch;
use crate::worker::Worker;

/// Subtracted from the ack deadline: the server counts from sending, this process from receiving.
const MARGIN_MS: u64 = 500;
/// Interval between extensions: one of them may remain unconfirmed.
const EXTENSION_INTERVAL: Duration = Duration::from_millis(ACK_WAIT_MS / 4);

/// A delivery whose subject and headers are read.
struct Doing<'a> {
    worker: &'a Arc<Worker>,
    message: &'a Message,
    attempt: i64,
    invocation: Invocation,
    lease: Lease,
    turn: Option<Turn>,
    /// Starts when the handler's turn comes.
    watch: Option<Stopwatch>,
}

impl Worker {
    /// Processes one message completely. If the process exits in between, the message is
    /// redelivered.
    pub(crate) async fn take(self: &Arc<Self>, message: Message) {
        let attempt = message.info().map_or(1, |info| info.delivered);
        let received = Instant::now();
        let _in_flight = self.metrics.begin(attempt);
        chaos_point!("received");
        if guard_disabled!("worker-acks-first") {
            ack::sent(&message).await;
        }
        let limits = Limits {
            attempts: self.limits.worker_attempts,
            ack_wait_ms: ACK_WAIT_MS,
            margin_ms: MARGIN_MS,
        };
        let invocation = match self.invocation(&message) {
            Ok(invocation) => invocation,
            Err(reason) => {
                let mut delivery = Delivery::dead(attempt, limits, 0);
                let stored = self.store_letter(&message, attempt, reason).await;
                for effect in delivery.on(stored, ms_since(received)) {
                    if let Effect::End(end) = effect {
                        self.end(&message, attempt, end).await;
                    }
                }
                return;
            }
        };
        let (delivery, effects) = Delivery::new(attempt, limits, 0);
        let is_repeated = attempt > 1 || invocation.is_retry;
        let completion = subject::completion(
            invocation.flow,
            self.concept.name.as_str(),
            invocation.action.as_str(),
            invocation.id,
        );
        let doing = Doing {
            worker: self,
            message: &message,
            attempt,
            invocation,
            lease: Lease::new(delivery, received, self.bus.clone(), completion, is_repeated),
            turn: None,
            watch: None,
        };
        doing.execute_all(effects).await;
    }

    /// Reads the invocation; the error is the reason of a dead letter.
    fn invocation(&self, message: &Message) -> Result<Invocation, String> {
        let invocation = super::letter::invocation(message)?;
        if !invocation.is_root() && self.oldest_message.is_after(invocation.flow) {
            return Err("the flow is older than the log".to_owned());
        }
        Ok(invocation)
    }

    /// Sends the final acknowledgement of the delivery.
    async fn end(&self, message: &Message, attempt: i64, end: End) {
        self.metrics.ended(&end);
        match end {
            End::Ack => {
                chaos_point!("before-ack");
                ack::sent(message).await;
                chaos_point!("after-ack");
            }
            End::Nak { wait, why } => {
                let subject = &message.subject;
                tracing::warn!(%subject, attempt, why, "action failed; it will be retried");
                let delay = match wait {
                    Wait::Backoff => self.backoff.delay(u32::try_from(attempt).unwrap_or(u32::MAX)),
                    Wait::Longest => self.backoff.most,
                };
                ack::later(message, delay).await;
            }
            End::Term => ack::never_again(message).await,
            End::Leave(why) => {
                let subject = &message.subject;
                tracing::warn!(%subject, attempt, why, "delivery left to its redelivery");
            }
        }
    }
}

impl Doing<'_> {
    async fn execute_all(mut self, mut effects: Effects) {
        while !effects.is_empty() {
            let mut answer = None;
            for effect in effects {
                answer = self.execute(effect).await;
            }
            effects = match answer {
                Some(event) => self.lease.on(event),
                None => Effects::new(),
            };
        }
    }

    /// Returns the event that answers the effect, if there is one.
    async fn execute(&mut self, effect: Effect) -> Option<Event> {
        let (worker, id) = (self.worker, self.invocation.id);
        let turns = &worker.turns;
        Some(match effect {
            Effect::Look => Event::Found(look(&worker.bus, self.lease.completion()).await),
            Effect::AwaitTurn { isolated } => {
                self.turn = Some(self.holding(turns.next(isolated)).await);
                Event::Turn
            }
            Effect::ReleaseTurn => {
                self.turn = None;
                return None;
            }
            Effect::TakeNote => match turns.take_note(&worker.bus, id).await {
                Ok(was_there) => Event::NoteTaken(was_there),
                Err(error) => Event::NoteFailed(error.to_string()),
            },
            Effect::LeaveNote => match turns.leave_note(id).await {
                Ok(()) => Event::NoteLeft,
                Err(error) => Event::NoteFailed(error.to_string()),
            },
            Effect::ForgetNote => {
                turns.forget_note(&worker.bus, id).await;
                Event::NoteForgotten
            }
            Effect::Run => Event::Handled(self.run().await),
            Effect::Publish(completion) => Event::Published(self.publish(&completion).await),
            Effect::Find => Event::Found(find(&worker.bus, self.lease.completion()).await),
            Effect::Compare { existing, own } => {
                let spec =
                    worker.concept.action(self.invocation.action.as_str()).map(|(spec, _)| spec);
                let (existing, own) = (&existing.output, &own.output);
                Event::Compared(outcome::compare(
                    spec,
                    &worker.sealer,
                    &self.invocation,
                    existing,
                    own,
                ))
            }
            Effect::Audit(completion) => {
                let invocation = &self.invocation;
                let failed = completion.is_failure();
                let (flow, name) = (invocation.flow, &invocation.action);
                let concept = &worker.concept.name;
                tracing::debug!(%flow, action = %id, %concept, %name, failed, "completed");
                audit::completed(&worker.concept, invocation, &completion);
                return None;
            }
            Effect::Reply(completion) => {
                self.reply(&completion).await;
                return None;
            }
            Effect::StoreLetter(reason) => {
                worker.store_letter(self.message, self.attempt, reason).await
            }
            Effect::End(end) => {
                worker.end(self.message, self.attempt, end).await;
                return None;
            }
        })
    }

    /// Checks the invocation, and runs its handler if it fits the spec.
    async fn run(&mut self) -> Handled {
        let watch = self.watch.insert(Stopwatch::begin()).clone();
        let (worker, invocation) = (self.worker, &self.invocation);
        let spec = worker.concept.action(invocation.action.as_str()).map(|(spec, _)| spec);
        let now_ms = clock::now_ms().saturating_sub(worker.limits.clock_skew_ms);
        let name = &worker.concept.name;
        let taken = intake(name, spec, &worker.sealer, invocation, &self.message.payload, now_ms);
        let completion = match (taken, spec) {
            (Intake::Run(input), Some(spec)) => match self.handled(spec, input, watch).await {
                Ok(completion) => completion,
                Err(handled) => return handled,
            },
            (Intake::Fault(completion), _) => completion,
            (Intake::Locked(why), _) => return Handled::Failed(why),
            (Intake::Run(_), None) => return Handled::Failed("the action has no spec".to_owned()),
        };
        if Fault::of(&completion.output) == Some(Fault::Invalid) {
            let why = completion.output.get(ERROR).and_then(Value::as_str).unwrap_or_default();
            let (flow, id, action) = (invocation.flow, invocation.id, &invocation.action);
            let concept = name;
            tracing::warn!(%flow, action = %id, %concept, name = %action, why, "invalid action");
        }
        chaos_point!("written");
        Handled::Completed(Arc::new(completion))
    }

    /// Runs the handler with the large values of its input, and stores those of its output.
    async fn handled(
        &self,
        spec: &ActionSpec,
        Input { opened, recorded }: Input,
        watch: Stopwatch,
    ) -> Result<Completion, Handled> {
        let (worker, invocation) = (self.worker, &self.invocation);
        let Resolved { input, budget } = match self.holding(worker.large.resolve(opened)).await {
            Ok(resolved) => resolved,
            Err(error) => return large_fault(recorded, error),
        };
        if budget.is_some()
            && let Err(mistakes) = spec::check_input(&spec.input, &input)
        {
            let output = Fault::Invalid.output(mistakes.to_string());
            return Ok(Completion { input: recorded, output });
        }
        let outcome = self.handle(input, watch).await?;
        drop(budget);
        let mut completion =
            outcome::completion(spec, &worker.sealer, invocation, recorded, outcome);
        if !completion.is_failure()
            && let Err(error) = self.holding(worker.large.store(&mut completion.output)).await
        {
            return large_fault(completion.input, error);
        }
        Ok(completion)
    }

    /// Runs the handler on a separate task, which contains its panics.
    async fn handle(&self, input: Object, watch: Stopwatch) -> Result<Outcome, Handled> {
        let (worker, lease) = (self.worker.clone(), self.lease.clone());
        let (name, id, flow) =
            (self.invocation.action.clone(), self.invocation.id, self.invocation.flow);
        let (client, device) = (self.invocation.client.clone(), self.invocation.device.clone());
        let position = self.invocation.position;
        let handler = async move {
            match worker.concept.action(name.as_str()) {
                Some((_, handler)) => {
                    handler(Call { id, flow, client, device, position, input, lease }).await
                }
                None => Ok(Outcome::Mismatch("no such action".to_owned())),
            }
        };
        let running = tokio::spawn(watch.over(handler));
        match self.holding(running).await {
            Ok(Ok(outcome)) => Ok(outcome),
            Ok(Err(Failure::Mismatch(why) | Failure::Unreadable(why))) => {
                Ok(Outcome::Mismatch(why))
            }
            Ok(Err(Failure::Retry(why))) => Err(Handled::Failed(why)),
            Ok(Err(Failure::MayNotWrite(MayNotWrite::Completed))) => Err(Handled::Before),
            Ok(Err(Failure::MayNotWrite(why))) => Err(Handled::NoPermit(why.to_string())),
            Err(panicked) => Err(Handled::Failed(format!("the handler panicked: {panicked}"))),
        }
    }

    /// Waits for the future, and extends the ack deadline in the meantime.
    async fn holding<T>(&self, awaited: impl Future<Output = T>) -> T {
        let mut awaited = pin!(awaited);
        let mut extension = pin!(Fuse::terminated());
        let mut tick = interval_at(Instant::now() + EXTENSION_INTERVAL, EXTENSION_INTERVAL);
        loop {
            tokio::select! {
                got = &mut awaited => return got,
                _ = tick.tick() => {
                    if let Some(asked_at_ms) = self.lease.extends() {
                        let confirmed = ack::in_progress(self.message);
                        let asked = confirmed.map(move |is_ok| is_ok.then_some(asked_at_ms));
                        extension.set(asked.fuse());
                    }
                }
                asked_at_ms = &mut extension => {
                    if let Some(asked_at_ms) = asked_at_ms {
                        self.lease.extended(asked_at_ms);
                    }
                }
            }
        }
    }

    async fn publish(&self, completion: &Completion) -> Published {
        let mut headers = HeaderMap::new();
        if let Some(watch) = &self.watch {
            headers.insert(header::WORK, watch.work().to_string());
        }
        let subject = self.lease.completion().to_owned();
        match log::publish_once(&self.worker.bus, subject, headers, encode(completion).into()).await
        {
            Ok(log::Published::Stored) => Published::Stored,
            Ok(log::Published::AlreadyThere) => Published::AlreadyThere,
            Err(PublishError::TooLarge) => Published::TooLarge,
            Err(error) => Published::Failed(error.to_string()),
        }
    }

    /// Sends the output to a synchronous caller, if one is waiting.
    async fn reply(&self, completion: &Completion) {
        let Some(inbox) = self.invocation.reply.clone() else { return };
        let body = encode(&completion.output).into();
        if let Err(error) = self.worker.bus.client.publish(inbox, body).await {
            let action = self.invocation.id;
            tracing::warn!(%error, %action, "cannot send the output to the waiting caller");
        }
    }
}

/// The result of an action with a large value that cannot be read or stored.
fn large_fault(input: Object, error: LargeError) -> Result<Completion, Handled> {
    let fault = match error {
        LargeError::Expired => Fault::Expired,
        LargeError::OverBudget { .. } | LargeError::Broken(_) => Fault::Invalid,
        // The attempt does not count, because the bus is the cause.
        LargeError::Unavailable(_) => return Err(Handled::NoPermit(error.to_string())),
    };
    Ok(Completion { input, output: fault.output(error.to_string()) })
}

fn ms_since(received: Instant) -> u64 {
    u64::try_from(received.elapsed().as_millis()).unwrap_or(u64::MAX)
}
