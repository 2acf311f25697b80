//! Calls the workers' queries by request and reply.

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

/// Runs a query and waits for its rows. After an error the completion is retried, because a wrong
/// result is never acceptable.
pub(crate) async fn ask(
    bus: &Bus,
    permits: &Semaphore,
    timeout: Duration,
    timings: &QueryTimings,
    seq: u64,
    flow: FlowId,
    question: Question,
) -> Event {
    // The semaphore is never closed.
    let _permit = permits.acquire().await;
    let (of, began) = ((&*question.concept, &*question.query), Instant::now());
    let result = service::ask(bus, of, Some(flow), &question.input, timeout).await;
    if let Ok(answer) = &result {
        let name = format!("{}.{}", question.concept, question.query);
        timings.answered(seq, name, began, answer.work.clone());
    }
    match result.and_then(rows) {
        Ok(rows) => Event::Answered { seq, question, rows },
        // The query or its result does not match the spec, so a retry would not help.
        Err(NoAnswer::Refused { code, why }) if code == "400" || code == "500" => {
            tracing::error!(
                %flow,
                concept = %question.concept,
                query = %question.query,
                why,
                "a worker rejects a query"
            );
            let why = format!("{}.{} cannot be answered", question.concept, question.query);
            Event::Refused { seq, why }
        }
        Err(error) => {
            tracing::warn!(
                %flow,
                concept = %question.concept,
                query = %question.query,
                %error,
                "a query has no result; retrying"
            );
            Event::Unanswered { seq }
        }
    }
}

fn rows(answer: Answer) -> Result<Vec<Object>, NoAnswer> {
    let mut body = answer.body;
    let Some(Value::Array(rows)) = body.swap_remove("rows") else {
        return Err(NoAnswer::Unreadable("`rows` is missing".to_owned()));
    };
    let rows = rows.into_iter().map(|row| match row {
        Value::Object(row) => Ok(row),
        other => Err(NoAnswer::Unreadable(format!("a row is {}", value::kind(&other)))),
    });
    rows.collect()
}
