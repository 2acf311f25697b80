//! The subscriptions to all responses and dead letters, which answer the pending requests.

use concert_runtime::bus::Bus;
use concert_runtime::nats::{CoreMessage, Error};
use concert_runtime::process::Shutdown;
use concert_wire::envelope::Completion;
use concert_wire::subject::CompletionSubject;
use concert_wire::{REQUESTING, RESPOND, RESPOND_WITH, header, subject};
use futures_util::{StreamExt as _, stream};

use crate::pending::{Pending, PendingReply, Respond};

/// Listens for responses and dead letters until shutdown.
pub(crate) async fn listen(bus: &Bus, pending: Pending, shutdown: Shutdown) -> Result<(), Error> {
    let subscribe = |action| bus.client.subscribe(format!("done.*.{REQUESTING}.{action}.*"));
    let mut responses = stream::select(subscribe(RESPOND).await?, subscribe(RESPOND_WITH).await?);
    let mut dead = bus.client.subscribe(subject::DEAD_NOTICES).await?;
    // All subscriptions must be active before the first request is published.
    bus.client.flush().await?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                Some(message) = responses.next() => on_response(&pending, &message),
                Some(message) = dead.next() => on_dead_letter(&pending, &message),
                else => return,
            }
        }
    });
    Ok(())
}

fn on_response(pending: &Pending, message: &CoreMessage) {
    let Ok(subject) = CompletionSubject::parse(&message.subject) else {
        return;
    };
    if !pending.has(subject.flow) {
        return;
    }
    match Completion::decode(&message.payload) {
        Ok(completion) if !completion.is_failure() => {
            let respond = Respond::new(&subject, message.headers.as_ref(), completion);
            pending.notify(subject.flow, &PendingReply::Response(respond))
        }
        Ok(completion) => {
            let output = completion.output;
            tracing::warn!(flow = %subject.flow, ?output, "a response was rejected")
        }
        Err(error) => tracing::warn!(flow = %subject.flow, %error, "cannot parse a response"),
    }
}

/// A flow with a dead letter gets no response unless an operator retries the dead letter.
fn on_dead_letter(pending: &Pending, message: &CoreMessage) {
    let flow = message.headers.as_ref().and_then(|headers| headers.get(header::FLOW));
    if let Some(flow) = flow.and_then(|flow| flow.as_str().parse().ok()) {
        pending.notify(flow, &PendingReply::DeadLetter);
    }
}
