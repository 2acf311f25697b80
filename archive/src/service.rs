//! The micro service `Concert`, which serves queries about flows (`docs/wire.md`).

use std::collections::HashMap;
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
    max_concurrent: u16,
    shutdown: &Shutdown,
) -> Result<(), nats::Error> {
    let room = Arc::new(Semaphore::new(usize::from(max_concurrent)));
    let endpoints =
        Query::ALL.map(|query| Endpoint { name: query.name().to_owned(), room: room.clone() });
    let about =
        (RESERVED_CONCEPT, "history and provenance of all flows", env!("CARGO_PKG_VERSION"));
    let bus = queries.bus().clone();
    let answer = move |name: Arc<str>, request: Request| {
        let queries = queries.clone();
        async move {
            // There are no other endpoints.
            if let Some(query) = Query::ALL.into_iter().find(|query| query.name() == &*name) {
                answer(&queries, query, &request).await;
            }
        }
    };
    service::offer(&bus, about, HashMap::new(), endpoints, shutdown, answer).await
}

async fn answer(queries: &Queries, query: Query, request: &Request) {
    let sent = match queries.run(query, &request.message.payload).await {
        Ok(body) => request.respond(Ok(body.into())).await,
        Err(refused) => {
            let error =
                ServiceError { status: one_line(&refused.to_string()), code: refused.code() };
            request.respond(Err(error)).await
        }
    };
    if let Err(error) = sent {
        tracing::debug!(%error, name = query.name(), "cannot send the response to a query");
    }
}
