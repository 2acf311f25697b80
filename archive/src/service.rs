//! The micro service `Concert`: queries about flows, as `docs/wire.md` describes queries to
//! concepts.

use std::sync::Arc;

use concert_runtime::nats::service::{Request, error::Error as ServiceError};
use concert_runtime::nats::{self, one_line};
use concert_runtime::process::Shutdown;
use concert_runtime::service::{self, Endpoint};
use concert_wire::RESERVED_CONCEPT;
use tokio::sync::Semaphore;

use crate::queries::{Queries, Query};

/// Offers the endpoints.
pub(crate) async fn start(
    queries: Arc<Queries>,
    at_once: u16,
    shutdown: &Shutdown,
) -> Result<(), nats::Error> {
    let room = Arc::new(Semaphore::new(usize::from(at_once)));
    let endpoints =
        Query::ALL.map(|query| Endpoint { name: query.name().to_owned(), room: room.clone() });
    let about = (RESERVED_CONCEPT, "what happened in any flow, and why", env!("CARGO_PKG_VERSION"));
    let bus = queries.bus().clone();
    let answer = move |name: Arc<str>, request: Request| {
        let queries = queries.clone();
        async move {
            // Nothing else is offered.
            if let Some(query) = Query::ALL.into_iter().find(|query| query.name() == &*name) {
                answer(&queries, query, &request).await;
            }
        }
    };
    service::offer(&bus, about, endpoints, shutdown, answer).await
}

async fn answer(queries: &Queries, query: Query, request: &Request) {
    let sent = match queries.answer(query, &request.message.payload).await {
        Ok(body) => request.respond(Ok(body.into())).await,
        Err(refused) => {
            let error =
                ServiceError { status: one_line(&refused.to_string()), code: refused.code() };
            request.respond(Err(error)).await
        }
    };
    if let Err(error) = sent {
        tracing::debug!(%error, name = query.name(), "a query could not be answered");
    }
}
