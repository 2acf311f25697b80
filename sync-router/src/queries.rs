//! Queries, asked of the workers over request and reply.

use std::time::Duration;

use concert_rules::engine::{Event, Question};
use concert_runtime::bus::Bus;
use concert_runtime::nats::{CoreMessage, HeaderMap};
use concert_wire::envelope::{Object, encode};
use concert_wire::id::FlowId;
use concert_wire::{header, subject, value};
use serde_json::Value;
use tokio::sync::Semaphore;

/// Why a question has no answer now. It is asked again when its completion comes again.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("no answer: {0}")]
    NoAnswer(String),
    #[error("the worker says: {0}")]
    Unavailable(String),
    #[error("the worker refuses the question: {0}")]
    Refused(String),
    #[error("the answer is not a list of rows: {0}")]
    Unreadable(String),
}

/// Asks, and waits for the rows. What is not an answer leaves the completion to be tried again: a query is never answered wrongly.
pub(crate) async fn ask(
    bus: &Bus,
    room: &Semaphore,
    patience: Duration,
    seq: u64,
    flow: FlowId,
    question: Question,
) -> Event {
    // The room is never closed.
    let _permit = room.acquire().await;
    match rows(bus, patience, flow, &question).await {
        Ok(rows) => Event::Answered { seq, question, rows },
        Err(Unanswered::Refused(why)) => {
            tracing::error!(%flow, concept = %question.concept, query = %question.query, why, "a query is refused");
            let why = format!("{}.{} cannot be answered", question.concept, question.query);
            Event::Refused { seq, why }
        }
        Err(error) => {
            tracing::warn!(%flow, concept = %question.concept, query = %question.query, %error, "a query has no answer now");
            Event::Unanswered { seq }
        }
    }
}

fn header_of<'a>(message: &'a CoreMessage, name: &str) -> Option<&'a str> {
    message.headers.as_ref()?.get(name).map(|value| value.as_str())
}

async fn rows(bus: &Bus, patience: Duration, flow: FlowId, question: &Question) -> Result<Vec<Object>, Unanswered> {
    let mut headers = HeaderMap::new();
    headers.insert(header::FLOW, flow.to_string());
    let subject = subject::service(&question.concept, &question.query);
    let body = encode(&question.input).into();
    let asked = bus.client.request_with_headers(subject, headers, body);
    let answer = tokio::time::timeout(patience, asked)
        .await
        .map_err(|_| Unanswered::NoAnswer(format!("not within {} ms", patience.as_millis())))?
        .map_err(|error| Unanswered::NoAnswer(error.to_string()))?;
    if let Some(error) = header_of(&answer, header::SERVICE_ERROR) {
        return Err(match header_of(&answer, header::SERVICE_ERROR_CODE) {
            // The question does not fit the spec, or the answer did not: asking again would not help.
            Some("400" | "500") => Unanswered::Refused(error.to_owned()),
            _ => Unanswered::Unavailable(error.to_owned()),
        });
    }
    let mut body = value::object(&answer.payload).map_err(|error| Unanswered::Unreadable(error.to_string()))?;
    let Some(Value::Array(rows)) = body.swap_remove("rows") else {
        return Err(Unanswered::Unreadable("there is no `rows`".to_owned()));
    };
    let rows = rows.into_iter().map(|row| match row {
        Value::Object(row) => Ok(row),
        other => Err(Unanswered::Unreadable(format!("a row is {}", value::kind(&other)))),
    });
    rows.collect()
}
