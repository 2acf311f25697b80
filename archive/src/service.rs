//! The micro service `Concert`: questions about flows, as `docs/wire.md` describes questions to
//! concepts.

use std::sync::Arc;

use concert_runtime::nats::service::{Request, error::Error as ServiceError};
use concert_runtime::nats::{self, one_line};
use concert_runtime::process::Shutdown;
use concert_runtime::service::{self, Endpoint};
use concert_wire::RESERVED_CONCEPT;
use tokio::sync::Semaphore;

use crate::questions::{Question, Questions};

/// Offers the endpoints.
pub(crate) async fn start(
    questions: Arc<Questions>,
    at_once: u16,
    shutdown: &Shutdown,
) -> Result<(), nats::Error> {
    let room = Arc::new(Semaphore::new(usize::from(at_once)));
    let endpoints = Question::ALL
        .map(|question| Endpoint { name: question.name().to_owned(), room: room.clone() });
    let about = (RESERVED_CONCEPT, "what happened in any flow, and why", env!("CARGO_PKG_VERSION"));
    let bus = questions.bus().clone();
    let answer = move |name: Arc<str>, request: Request| {
        let questions = questions.clone();
        async move {
            // Nothing else is offered.
            if let Some(question) =
                Question::ALL.into_iter().find(|question| question.name() == &*name)
            {
                answer(&questions, question, &request).await;
            }
        }
    };
    service::offer(&bus, about, endpoints, shutdown, answer).await
}

async fn answer(questions: &Questions, question: Question, request: &Request) {
    let sent = match questions.answer(question, &request.message.payload).await {
        Ok(body) => request.respond(Ok(body.into())).await,
        Err(refused) => {
            let error =
                ServiceError { status: one_line(&refused.to_string()), code: refused.code() };
            request.respond(Err(error)).await
        }
    };
    if let Err(error) = sent {
        tracing::debug!(%error, name = question.name(), "a question could not be answered");
    }
}
