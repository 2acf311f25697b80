//! From a respond to an HTTP response.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use concert_wire::envelope::{Object, STATUS, answer_status, encode};
use concert_wire::id::FlowId;
use concert_wire::seal::{Sealer, looks_sealed};
use serde_json::Value;

use crate::cookie::{Cookies, Use};
use crate::error::{ANSWERED_BY, json_response, name_flow};

/// How long a client that was told to wait does so, in seconds: too many attempts take longer to be forgotten than a busy service takes to be free.
const THROTTLED_RETRY_AFTER_S: u16 = 60;
const BUSY_RETRY_AFTER_S: u16 = 1;

/// Makes the response: the input of the respond without `request` and `status`, with its secrets opened. With a cookie, the secret that it stands for leaves the body for it.
pub(crate) fn response(
    sealer: &Sealer,
    flow: FlowId,
    mut answer: Object,
    cookie: Option<(&Cookies, Use)>,
) -> Response<Body> {
    answer.shift_remove("request");
    let status = StatusCode::from_u16(answer_status(&answer)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.shift_remove(STATUS);
    let moved = cookie.and_then(|(cookies, using)| cookies.move_out(using, sealer, flow, &mut answer));
    let cookie = moved.or_else(|| cookie.and_then(|(cookies, using)| cookies.end(using, status)));
    open(sealer, flow, &mut answer);
    let mut response = json_response(status, encode(&answer));
    let headers = response.headers_mut();
    headers.insert(ANSWERED_BY, HeaderValue::from_static("rules"));
    name_flow(headers, flow);
    if let Some(cookie) = cookie {
        headers.insert(header::SET_COOKIE, cookie);
    }
    say_when(headers, status);
    response
}

/// Makes the response to an action that was asked for without a rule.
pub(crate) fn of_output(sealer: &Sealer, flow: Option<FlowId>, mut output: Object, status: u16) -> Response<Body> {
    if let Some(flow) = flow {
        open(sealer, flow, &mut output);
    }
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json_response(status, encode(&output));
    let headers = response.headers_mut();
    headers.insert(ANSWERED_BY, HeaderValue::from_static("concept"));
    if let Some(flow) = flow {
        name_flow(headers, flow);
    }
    say_when(headers, status);
    response
}

/// Says when to try again, where that is what the status asks for.
fn say_when(headers: &mut HeaderMap, status: StatusCode) {
    let wait_s = match status {
        StatusCode::TOO_MANY_REQUESTS => THROTTLED_RETRY_AFTER_S,
        StatusCode::SERVICE_UNAVAILABLE => BUSY_RETRY_AFTER_S,
        _ => return,
    };
    headers.insert(header::RETRY_AFTER, wait_s.into());
}

/// Opens what was sealed in this flow; nothing else opens.
fn open(sealer: &Sealer, flow: FlowId, object: &mut Object) {
    for value in object.values_mut() {
        if let (true, Some(text)) = (looks_sealed(value), value.as_str())
            && let Ok(secret) = sealer.open(flow, text)
        {
            *value = Value::String(secret.expose().to_owned());
        }
    }
}
