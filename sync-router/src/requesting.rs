//! Actions of the concept Requesting that do not come from the engine. Injected actions are
//! refused. A `respond` that a router of an earlier release queued is completed.

use concert_engine::requesting::completion;
use concert_runtime::bus::Bus;
use concert_runtime::dead::DeadLetter;
use concert_runtime::feed::{Feed, Source};
use concert_runtime::nats::{CoreMessage, HeaderMap, Message};
use concert_runtime::process::Shutdown;
use concert_runtime::retry::Backoff;
use concert_runtime::streams::{self, LogLimits};
use concert_runtime::{ack, log};
use concert_wire::envelope::encode;
use concert_wire::id::{ActionId, FlowId};
use concert_wire::name::{BadName, ConceptName};
use concert_wire::subject::{self, InvocationSubject, ROUTERS};
use concert_wire::{REQUESTING, RESPOND, header, value};
use futures_util::{StreamExt as _, stream};
use serde_json::json;

use crate::run::StartError;

/// Reason why an injected action is refused.
const REFUSAL: &str = "an action of Requesting cannot be injected: requests come over HTTP, and \
                       the router completes what a rule responds";
/// Messages per fetch.
const BATCH: usize = 64;

/// Starts a task that receives injected and queued actions of Requesting until shutdown.
///
/// # Errors
/// The server does not respond.
pub(crate) async fn start(
    bus: &Bus,
    log: &LogLimits,
    shutdown: &Shutdown,
) -> Result<(), StartError> {
    let concept: ConceptName = REQUESTING.parse()?;
    if streams::has_actions(bus, &concept).await? {
        let feed =
            Feed::new(bus.clone(), Source::Invocations(concept), log.clone(), BATCH, |message| {
                dead_letter(&message.subject, &message.body, message.reason()).ok()
            });
        tokio::spawn(complete_queued(bus.clone(), feed, shutdown.clone()));
    } else {
        let subscribe = async |subject: String| {
            let subscribed = bus.client.queue_subscribe(subject, ROUTERS.to_owned()).await;
            subscribed.map_err(|error| StartError::Subscribe(error.into()))
        };
        let published = subscribe(format!("action.{REQUESTING}.>")).await?;
        let called = subscribe(subject::service(REQUESTING, "*")).await?;
        let (bus, shutdown) = (bus.clone(), shutdown.clone());
        tokio::spawn(async move {
            stream::select(published, called)
                .take_until(shutdown.requested())
                .for_each(|message| refuse(&bus, message))
                .await;
        });
    }
    Ok(())
}

/// Sends one refusal in two forms: the body is the error that a JetStream publisher expects, and
/// the headers are those that a caller of a service expects.
async fn refuse(bus: &Bus, message: CoreMessage) {
    let Some(reply) = message.reply else { return };
    tracing::warn!(subject = %message.subject, "refused an injected action of Requesting");
    let mut headers = HeaderMap::new();
    headers.insert(header::SERVICE_ERROR, REFUSAL);
    headers.insert(header::SERVICE_ERROR_CODE, "400");
    let body = json!({ "error": { "code": 400, "err_code": 0, "description": REFUSAL } });
    let sent = bus.client.publish_with_headers(reply, headers, body.to_string().into()).await;
    if let Err(error) = sent {
        tracing::warn!(%error, "cannot send a refusal");
    }
}

async fn complete_queued(bus: Bus, mut feed: Feed, shutdown: Shutdown) {
    tracing::info!("completing the responds that routers of an earlier release queue");
    loop {
        tokio::select! {
            () = shutdown.requested() => break,
            message = feed.next() => complete(&bus, &message).await,
        }
    }
    let mut rest = feed.close().await;
    while let Some(message) = rest.next().await {
        complete(&bus, &message).await;
    }
}

async fn complete(bus: &Bus, message: &Message) {
    let stored = match queued(message) {
        Ok(Respond { flow, id, input }) => {
            let subject = subject::completion(flow, REQUESTING, RESPOND, id);
            let body = completion(flow, RESPOND, &input);
            log::publish_once(bus, subject, HeaderMap::new(), body.into()).await.map(drop)
        }
        Err(reason) => match dead_letter(&message.subject, &message.payload, reason) {
            Ok(letter) => letter.publish(bus).await,
            Err(error) => return tracing::error!(%error, "cannot derive a dead-letter subject"),
        },
    };
    match stored {
        Ok(()) => ack::sent(message).await,
        Err(error) => {
            tracing::warn!(%error, subject = %message.subject, "cannot complete a queued respond");
            ack::later(message, Backoff::default().first).await;
        }
    }
}

/// A `respond` that a router of an earlier release queued.
struct Respond {
    flow: FlowId,
    id: ActionId,
    input: Vec<u8>,
}

/// Reads a queued `respond`; the error is the reason for a dead letter.
fn queued(message: &Message) -> Result<Respond, String> {
    let header = |name: &str| Some(message.headers.as_ref()?.get(name)?.as_str());
    let InvocationSubject { action, id, .. } =
        InvocationSubject::parse(&message.subject).map_err(|error| error.to_string())?;
    // A router names the calling rule; a person who injects an action does not.
    let (Some(id), Some(flow), Some(_), RESPOND) =
        (id, header(header::FLOW), header(header::SYNC), action.as_str())
    else {
        return Err(REFUSAL.to_owned());
    };
    let flow = flow.parse().map_err(|_| format!("the header {} is not a UUID", header::FLOW))?;
    let input = value::object(&message.payload).map_err(|error| error.to_string())?;
    Ok(Respond { flow, id, input: encode(&input) })
}

/// The dead letter of a message of the queue. Requesting itself has no secrets, but an injected
/// body may contain some, so the body of an injected message is omitted.
fn dead_letter(subject: &str, body: &[u8], reason: String) -> Result<DeadLetter, BadName> {
    let known = InvocationSubject::parse(subject).ok();
    let body = if reason == REFUSAL { Vec::new() } else { body.to_vec() };
    let mut headers = HeaderMap::new();
    if let Some(id) = known.as_ref().and_then(|known| known.id) {
        headers.insert(header::ACTION, id.to_string());
    }
    Ok(DeadLetter {
        concept: REQUESTING.parse()?,
        action: known.map(|known| known.action),
        subject: subject.to_owned(),
        reason,
        headers,
        body,
    })
}
