//! One invocation, from its delivery to its acknowledgement.
//!
//! The order is what makes it safe: look in the log, write, publish the completion, wait for the confirmation, acknowledge.

use std::sync::Arc;

use concert_runtime::dead::DeadLetter;
use concert_runtime::log::{self, PublishError, Published};
use concert_runtime::nats::HeaderMap;
use concert_runtime::nats::Message;
use concert_runtime::unreadable::Unreadable;
use concert_runtime::{ack, chaos_point, clock, sabotaged};
use concert_wire::envelope::{Completion, ERROR, Fault, Object, encode};
use concert_wire::id::{ActionId, FlowId};
use concert_wire::name::ActionName;
use concert_wire::subject::{self, InvocationSubject};
use concert_wire::{header, value};
use serde_json::Value;

use crate::audit;
use crate::concept::{self, Call, Failed, Failure};
use crate::figures::End;
use crate::intake::{Asked, Intake, intake};
use crate::last_attempt::holding;
use crate::lease::{Held, Lease, LookError, MayNotWrite};
use crate::outcome::{self, Comparison, Outcome};
use crate::sealing;
use crate::stopwatch::Stopwatch;
use crate::worker::Worker;

/// Why a message ends without a completion for now.
enum Stop {
    /// The bus does not do its part. Again after a while, however often: nothing was wrong with the action.
    Unavailable(String),
    /// The action could not be carried out. Again after a while, until its attempts are used up.
    Failed(String),
    /// Never.
    Dead(String),
}

impl From<LookError> for Stop {
    fn from(error: LookError) -> Self {
        match error {
            LookError::Unread(error) => Self::Unavailable(error.to_string()),
            LookError::Malformed(_) => Self::Dead(error.to_string()),
        }
    }
}

fn unavailable(error: impl std::fmt::Display) -> Stop {
    Stop::Unavailable(error.to_string())
}

/// What came of the handler.
enum Handled {
    Outcome(Outcome),
    /// An earlier delivery completed the action.
    Before,
}

impl From<PublishError> for Stop {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::TooLarge => Self::Dead("the completion is larger than the server takes".to_owned()),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl Worker {
    /// Takes one message to its end. Nothing is lost when the process ends in between: the message comes again.
    pub(crate) async fn take(self: &Arc<Self>, message: Message) {
        let attempts = message.info().map_or(1, |info| info.delivered);
        let held = Held::begin();
        let _under_way = self.figures.begin(attempts);
        chaos_point!("received");
        if sabotaged!("worker-acks-first") {
            ack::sent(&message).await;
        }
        let outcome = self.carry_out(&message, attempts, &held).await;
        if outcome.is_ok() {
            chaos_point!("before-ack");
        }
        match outcome {
            Ok(()) => {
                ack::sent(&message).await;
                self.figures.ended(End::Completed);
                chaos_point!("after-ack");
            }
            // The message is with another worker by now. The server would take our word, although it is of an earlier delivery, and take the message from it.
            Err(Stop::Unavailable(why) | Stop::Failed(why)) if !held.is_ours() => {
                tracing::warn!(subject = %message.subject, attempts, why, "an action is left to its next delivery");
                self.figures.ended(End::Left);
            }
            Err(Stop::Unavailable(why) | Stop::Failed(why)) => {
                let delay = self.backoff.delay(u32::try_from(attempts).unwrap_or(u32::MAX));
                tracing::warn!(subject = %message.subject, attempts, why, "an action will be tried again");
                ack::later(&message, delay).await;
                self.figures.ended(End::Retried);
            }
            Err(Stop::Dead(reason)) => match self.dead_letter(&message, attempts, reason).publish(&self.bus).await {
                Ok(()) => {
                    ack::never_again(&message).await;
                    self.figures.ended(End::Dead);
                }
                Err(error) => {
                    tracing::warn!(subject = %message.subject, %error, "a dead letter could not be stored");
                    ack::later(&message, self.backoff.most).await;
                    self.figures.ended(End::Retried);
                }
            },
        }
    }

    async fn carry_out(self: &Arc<Self>, message: &Message, attempts: i64, held: &Held) -> Result<(), Stop> {
        let asked = asked(message).map_err(Stop::Dead)?;
        if asked.flow.root() != asked.id && self.log_start.is_after(asked.flow) {
            return Err(Stop::Dead("the flow is older than the log".to_owned()));
        }
        let subject = subject::completion(asked.flow, self.concept.name.as_str(), asked.action.as_str(), asked.id);
        let lease = Lease::new(held.clone(), self.bus.clone(), subject);
        // Delivered again, it is likely to be done; a first delivery looks when it is about to write.
        if attempts > 1 && !sabotaged!("look") && self.stands(&asked, attempts, &lease).await? {
            return Ok(());
        }
        // Counted before the handler starts: it may be the handler that ends the process.
        if attempts > self.limits.worker_attempts {
            self.carry_out_for_the_last_time(&asked, message, attempts, &lease)
                .await
        } else if attempts > 1 {
            let _guard = self.last_attempts.beside_none(message, held).await;
            self.carry_out_now(&asked, message, &lease).await
        } else {
            self.carry_out_now(&asked, message, &lease).await
        }
    }

    /// Whether an earlier delivery completed the action; whoever waits is told then.
    async fn stands(&self, asked: &Asked, attempts: i64, lease: &Lease) -> Result<bool, Stop> {
        let Some(standing) = lease.standing().await? else {
            return Ok(false);
        };
        if attempts > self.limits.worker_attempts {
            self.last_attempts.forget(&self.bus, asked.id).await;
        }
        self.reply(asked, &standing.output).await;
        Ok(true)
    }

    async fn carry_out_for_the_last_time(
        self: &Arc<Self>,
        asked: &Asked,
        message: &Message,
        attempts: i64,
        lease: &Lease,
    ) -> Result<(), Stop> {
        let turn = self.last_attempts.turn(message, lease.held()).await;
        // Another delivery of the same message may have waited as well, and been first.
        if self.stands(asked, attempts, lease).await? {
            return Ok(());
        }
        let ended = self.last_attempts.ended_its_process(&self.bus, asked.id).await;
        if ended.map_err(unavailable)? {
            let why =
                "given up: the worker ended while it carried out this action, and nothing else that had failed before";
            return Err(Stop::Dead(why.to_owned()));
        }
        let attempt = turn.begin(asked.id).await.map_err(unavailable)?;
        let outcome = self.carry_out_now(asked, message, lease).await;
        attempt.survived(&self.bus).await;
        outcome.map_err(|stop| match stop {
            Stop::Failed(why) => Stop::Dead(format!("given up after {attempts} attempts: {why}")),
            stop => stop,
        })
    }

    async fn carry_out_now(self: &Arc<Self>, asked: &Asked, message: &Message, lease: &Lease) -> Result<(), Stop> {
        let watch = Stopwatch::begin();
        let Some(completion) = self.complete(asked, message, lease, &watch).await? else {
            return self.answer_with_what_stands(asked, lease, None).await;
        };
        chaos_point!("written");
        // Another worker may have begun, and what nothing was written for may come out otherwise there: only one of the two may tell.
        if !lease.held().is_ours() {
            return Err(Stop::Unavailable(MayNotWrite::Late.to_string()));
        }
        let body = encode(&completion);
        let subject = lease.completion().to_owned();
        let mut headers = HeaderMap::new();
        headers.insert(header::WORK, watch.work().to_string());
        if log::publish_once(&self.bus, subject, headers, body.into()).await? == Published::Stored {
            tracing::debug!(flow = %asked.flow, action = %asked.id, concept = %self.concept.name, name = %asked.action, failed = completion.is_failure(), "completed");
            audit::completed(&self.concept, asked, &completion);
            self.reply(asked, &completion.output).await;
            return Ok(());
        }
        // Another delivery was faster; what stands is what happened. Where this one wrote nothing it does not matter what it would have said.
        let written = lease.writes().then_some(completion.output);
        self.answer_with_what_stands(asked, lease, written).await
    }

    /// Answers with the completion in the log; it should be what this delivery wrote, if it did.
    async fn answer_with_what_stands(&self, asked: &Asked, lease: &Lease, written: Option<Object>) -> Result<(), Stop> {
        let standing = lease
            .standing()
            .await?
            .ok_or_else(|| Stop::Unavailable("a completion is refused and not found".to_owned()))?;
        self.reply(asked, &standing.output).await;
        let Some(written) = written else { return Ok(()) };
        let spec = self.concept.action(asked.action.as_str()).map(|(spec, _)| spec);
        match outcome::compare(spec, &self.sealer, asked, &standing.output, &written) {
            Comparison::Same => Ok(()),
            Comparison::Different => {
                let why = "diverged: two deliveries of this action had different outcomes";
                Err(Stop::Dead(why.to_owned()))
            }
            Comparison::Locked(why) => Err(Stop::Failed(why)),
        }
    }

    /// Finds the outcome. What cannot have been attempted is completed with a fault, what may have been done is tried again. `None`: an earlier delivery completed it.
    async fn complete(
        self: &Arc<Self>,
        asked: &Asked,
        message: &Message,
        lease: &Lease,
        watch: &Stopwatch,
    ) -> Result<Option<Completion>, Stop> {
        let spec = self.concept.action(asked.action.as_str()).map(|(spec, _)| spec);
        let now_ms = clock::now_ms().saturating_sub(self.limits.clock_skew_ms);
        let name = &self.concept.name;
        let input = match intake(name, spec, &self.sealer, asked, &message.payload, now_ms) {
            Intake::Run(input) => input,
            Intake::Locked(why) => return Err(Stop::Failed(why)),
            Intake::Fault(completion) => {
                self.warn_of_fault(asked, &completion);
                return Ok(Some(completion));
            }
        };
        let (Handled::Outcome(outcome), Some(spec)) =
            (self.handle(asked, input.opened, message, lease, watch).await?, spec)
        else {
            return Ok(None);
        };
        let completion = outcome::completion(spec, &self.sealer, asked, input.recorded, outcome);
        self.warn_of_fault(asked, &completion);
        Ok(Some(completion))
    }

    /// Logs an action that does not fit the spec, or whose outcome does not.
    fn warn_of_fault(&self, asked: &Asked, completion: &Completion) {
        if Fault::of(&completion.output) == Some(Fault::Invalid) {
            let why = completion.output.get(ERROR).and_then(Value::as_str).unwrap_or_default();
            tracing::warn!(flow = %asked.flow, action = %asked.id, concept = %self.concept.name, name = %asked.action, why, "an action cannot be carried out");
        }
    }

    /// Runs the handler, on a task of its own so that its panic ends nothing else, and extends the message's time meanwhile.
    async fn handle(
        self: &Arc<Self>,
        asked: &Asked,
        input: Object,
        message: &Message,
        lease: &Lease,
        watch: &Stopwatch,
    ) -> Result<Handled, Stop> {
        let (worker, held) = (self.clone(), lease.clone());
        let (name, id, flow) = (asked.action.clone(), asked.id, asked.flow);
        let client = asked.client.clone();
        let handler = async move {
            match worker.concept.action(name.as_str()) {
                Some((_, handler)) => {
                    handler(Call {
                        id,
                        flow,
                        client,
                        input,
                        lease: held,
                    })
                    .await
                }
                None => Err(Failed::Mismatch("no such action".to_owned())),
            }
        };
        let running = tokio::spawn(watch.clone().over(handler));
        let joined = holding(message, lease.held(), running).await;
        match joined {
            Ok(Ok(concept::Outcome::Done(output))) => Ok(Handled::Outcome(Outcome::Done(output))),
            Ok(Ok(concept::Outcome::Refused(error))) => Ok(Handled::Outcome(Outcome::Refused(error))),
            Ok(Ok(concept::Outcome::Throttled(error))) => Ok(Handled::Outcome(Outcome::Throttled(error))),
            Ok(Err(Failed::Mismatch(why))) => Ok(Handled::Outcome(Outcome::Mismatch(why))),
            Ok(Err(Failed::Handler(Failure::Retry(why)))) => Err(Stop::Failed(why)),
            Ok(Err(Failed::Handler(Failure::MayNotWrite(MayNotWrite::Completed)))) => Ok(Handled::Before),
            // Nothing was wrong with the action.
            Ok(Err(Failed::Handler(Failure::MayNotWrite(why)))) => Err(Stop::Unavailable(why.to_string())),
            Err(panicked) => Err(Stop::Failed(format!("the handler ended in disorder: {panicked}"))),
        }
    }

    /// Tells a synchronous caller, if one waits.
    async fn reply(&self, asked: &Asked, output: &Object) {
        let Some(inbox) = asked.reply.clone() else { return };
        if let Err(error) = self.bus.client.publish(inbox, encode(output).into()).await {
            tracing::warn!(%error, action = %asked.id, "a waiting caller could not be told");
        }
    }

    /// The message as it may be kept: without what may be a secret in clear.
    fn dead_letter(&self, message: &Message, attempts: i64, reason: String) -> DeadLetter {
        let mut headers = HeaderMap::new();
        headers.insert(header::ATTEMPTS, attempts.to_string());
        for name in [
            header::FLOW,
            header::DEADLINE,
            header::CAUSE,
            header::SYNC,
            header::RULES,
            header::CLIENT,
            header::TRACEPARENT,
        ] {
            if let Some(value) = message.headers.as_ref().and_then(|headers| headers.get(name)) {
                headers.insert(name, value.clone());
            }
        }
        let known = asked(message).ok().map(|asked| (asked.action, asked.id, asked.flow));
        if let Some((.., flow)) = &known {
            headers.insert(header::FLOW, flow.to_string());
        }
        self.letter(&message.subject, &message.payload, known, headers, reason)
    }

    /// A message whose headers cannot be read. Its flow is not known and not told, so its secrets are sealed for the flow that its own id would begin; without an id its body is not kept.
    pub(crate) fn unreadable(&self, message: &Unreadable) -> DeadLetter {
        let subject = InvocationSubject::parse(&message.subject).ok();
        let known = subject.and_then(|subject| subject.id.map(|id| (subject.action, id, id.as_root())));
        let reason = format!("its headers cannot be read: {}", message.why);
        self.letter(&message.subject, &message.body, known, HeaderMap::new(), reason)
    }

    fn letter(
        &self,
        subject: &str,
        payload: &[u8],
        known: Option<(ActionName, ActionId, FlowId)>,
        mut headers: HeaderMap,
        reason: String,
    ) -> DeadLetter {
        if let Some((_, id, _)) = &known {
            headers.insert(header::ACTION, id.to_string());
        }
        let body = known.as_ref().and_then(|(action, id, flow)| {
            let (spec, _) = self.concept.action(action.as_str())?;
            let input = value::object(payload).ok()?;
            let is_root = *flow == id.as_root();
            Some(encode(&sealing::record(
                &self.sealer,
                *flow,
                is_root,
                &spec.input,
                &input,
            )))
        });
        DeadLetter {
            concept: self.concept.name.clone(),
            action: known.map(|(action, ..)| action),
            subject: subject.to_owned(),
            reason,
            headers,
            body: body.unwrap_or_default(),
        }
    }
}

/// Reads what is asked for; the error is the reason of a dead letter.
fn asked(message: &Message) -> Result<Asked, String> {
    let header = |name: &str| Some(message.headers.as_ref()?.get(name)?.as_str());
    let injected = || {
        let info = message
            .info()
            .map_err(|error| format!("the message does not say where it stands: {error}"))?;
        let timestamp_ns = u64::try_from(info.published.unix_timestamp_nanos()).unwrap_or(0);
        Ok(ActionId::injected(info.stream, info.stream_sequence, timestamp_ns))
    };
    Asked::read(&message.subject, header, injected)
}
