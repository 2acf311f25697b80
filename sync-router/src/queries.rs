//! Queries, asked of the workers over request and reply.

use std::time::{Duration, Instant};

use concert_engine::{Event, Question};
use concert_runtime::bus::Bus;
use concert_runtime::service::{self, Answer, NoAnswer};
use concert_wire::envelope::Object;
use concert_wire::id::FlowId;
use concert_wire::value;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::query_timing::QueryTimings;

/// Asks, and waits for the rows. What is not an answer leaves the completion to be tried again: a
/// query is never answered wrongly.
pub(crate) async fn ask(
    bus: &Bus,
    room: &Semaphore,
    timeout: Duration,
    timings: &QueryTimings,
    seq: u64,
    flow: FlowId,
    question: Question,
) -> Event {
    // The room is never closed.
    let _permit = room.acquire().await;
    let (of, began) = ((&*question.concept, &*question.query), Instant::now());
    let answer = service::ask(bus, of, Some(flow), &question.input, timeout).await;
    if let Ok(answer) = &answer {
        let name = format!("{}.{}", question.concept, question.query);
        timings.answered(seq, name, began, answer.work.clone());
    }
    match answer.and_then(rows) {
        Ok(rows) => Event::Answered { seq, question, rows },
        // The question does not fit the spec, or the answer did not: asking again would not help.
        Err(NoAnswer::Refused { code, why }) if code == "400" || code == "500" => {
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

fn rows(answer: Answer) -> Result<Vec<Object>, NoAnswer> {
    let mut body = answer.body;
    let Some(Value::Array(rows)) = body.swap_remove("rows") else {
        return Err(NoAnswer::Unreadable("there is no `rows`".to_owned()));
    };
    let rows = rows.into_iter().map(|row| match row {
        Value::Object(row) => Ok(row),
        other => Err(NoAnswer::Unreadable(format!("a row is {}", value::kind(&other)))),
    });
    rows.collect()
}
