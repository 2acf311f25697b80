//! The micro service `Concert`: questions about flows, as `docs/wire.md` describes questions to concepts.

use std::sync::Arc;

use concert_runtime::nats::service::{Request, ServiceExt as _, error::Error as ServiceError};
use concert_runtime::nats::{self, one_line};
use concert_runtime::process::Shutdown;
use concert_wire::{RESERVED_CONCEPT, subject};
use futures_util::StreamExt as _;
use tokio::sync::Semaphore;

use crate::questions::{Question, Questions};

/// Offers the endpoints.
pub(crate) async fn start(questions: Arc<Questions>, at_once: u16, shutdown: &Shutdown) -> Result<(), nats::Error> {
    let builder = questions.bus().client.service_builder();
    let service = builder
        .description("what happened in any flow, and why")
        .start(RESERVED_CONCEPT, env!("CARGO_PKG_VERSION"))
        .await?;
    let room = Arc::new(Semaphore::new(usize::from(at_once)));
    for question in Question::ALL {
        let name = question.name();
        let endpoint = service.endpoint_builder().name(name);
        let mut endpoint = endpoint.add(subject::service(RESERVED_CONCEPT, name)).await?;
        let (questions, room, shutdown) = (questions.clone(), room.clone(), shutdown.clone());
        tokio::spawn(async move {
            loop {
                let request = tokio::select! {
                    () = shutdown.requested() => return,
                    request = endpoint.next() => request,
                };
                let Some(request) = request else { return };
                let Ok(permit) = room.clone().acquire_owned().await else {
                    return;
                };
                let questions = questions.clone();
                shutdown.tasks().spawn(async move {
                    answer(&questions, question, &request).await;
                    drop(permit);
                });
            }
        });
    }
    // The service lives as long as one of its handles does.
    let stop = shutdown.clone();
    tokio::spawn(async move {
        stop.requested().await;
        if let Err(error) = service.stop().await {
            tracing::debug!(%error, "the endpoints could not be taken back");
        }
    });
    Ok(())
}

async fn answer(questions: &Questions, question: Question, request: &Request) {
    let sent = match questions.answer(question, &request.message.payload).await {
        Ok(body) => request.respond(Ok(body.into())).await,
        Err(refused) => {
            let error = ServiceError {
                status: one_line(&refused.to_string()),
                code: refused.code(),
            };
            request.respond(Err(error)).await
        }
    };
    if let Err(error) = sent {
        tracing::debug!(%error, name = question.name(), "a question could not be answered");
    }
}
