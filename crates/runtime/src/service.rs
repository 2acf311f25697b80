//! Asking a concept over its micro service: a query, or an action that is carried out durably.

use std::time::Duration;

use async_nats::{HeaderMap, Request};
use concert_wire::envelope::{Object, encode};
use concert_wire::id::FlowId;
use concert_wire::{header, subject, value};

use crate::bus::Bus;

/// What a concept answers.
#[derive(Debug)]
pub struct Answer {
    /// The flow that secrets in the body are sealed for, if the concept names one.
    pub flow: Option<FlowId>,
    /// The output of an action, or the rows of a query.
    pub body: Object,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// None came in time.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// Nobody could be asked.
    #[error("no answer: {0}")]
    Unreachable(String),
    /// The worker says why not, with a code as HTTP has it.
    #[error("the worker says: {why}")]
    Refused {
        /// `400`: the input is wrong. `500`: the worker is at fault. `503`: not now. `504`: no outcome yet.
        code: String,
        /// In words.
        why: String,
    },
    /// The answer is no JSON object.
    #[error("the answer cannot be read: {0}")]
    Unreadable(String),
}

/// Asks a concept, and waits for its answer. Secrets in the input may be sealed for `flow`.
///
/// # Errors
/// See [`NoAnswer`].
pub async fn ask(
    bus: &Bus,
    (concept, name): (&str, &str),
    flow: Option<FlowId>,
    input: &Object,
    within: Duration,
) -> Result<Answer, NoAnswer> {
    let mut request = Request::new().payload(encode(input).into());
    if let Some(flow) = flow {
        let mut headers = HeaderMap::new();
        headers.insert(header::FLOW, flow.to_string());
        request = request.headers(headers);
    }
    let asked = bus.client.send_request(subject::service(concept, name), request);
    let answer = tokio::time::timeout(within, asked)
        .await
        .map_err(|_| NoAnswer::TimedOut(within))?
        .map_err(|error| NoAnswer::Unreachable(error.to_string()))?;
    let header = |name| Some(answer.headers.as_ref()?.get(name)?.as_str());
    if let Some(code) = header(header::SERVICE_ERROR_CODE) {
        return Err(NoAnswer::Refused {
            code: code.to_owned(),
            why: header(header::SERVICE_ERROR).unwrap_or_default().to_owned(),
        });
    }
    Ok(Answer {
        flow: header(header::FLOW).and_then(|flow| flow.parse().ok()),
        body: value::object(&answer.payload).map_err(|error| NoAnswer::Unreadable(error.to_string()))?,
    })
}
