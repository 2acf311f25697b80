//! Builds HTTP responses from the outcomes of rules and actions.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use concert_wire::envelope::{Object, STATUS, encode, response_status};
use concert_wire::id::FlowId;
use concert_wire::seal::{SealError, Sealer};
use serde_json::Value;

use crate::cookie::{Cookies, Use};
use crate::error::{ANSWERED_BY, EdgeError, json_response, name_flow};

/// `Retry-After` of 429 in seconds. Login limits take longer to reset than an overload.
const THROTTLED_RETRY_AFTER_S: u16 = 60;
/// `Retry-After` of 503 in seconds.
const BUSY_RETRY_AFTER_S: u16 = 1;

/// Builds the response: the input of the respond without `request` and `status`, with decrypted
/// secrets. In cookie mode, the session moves from the body to the cookie.
///
/// # Errors
/// The decryption key of a secret is not available, or not yet.
pub(crate) fn response(
    sealer: &Sealer,
    flow: FlowId,
    mut answer: Object,
    cookie: Option<(&Cookies, Use)>,
) -> Result<Response<Body>, EdgeError> {
    answer.shift_remove("request");
    let status =
        StatusCode::from_u16(response_status(&answer)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.shift_remove(STATUS);
    let moved = match cookie {
        Some((cookies, using)) => cookies.move_out(using, sealer, flow, &mut answer)?,
        None => None,
    };
    let cookie = moved.or_else(|| cookie.and_then(|(cookies, using)| cookies.clear(using, status)));
    open(sealer, flow, &mut answer)?;
    let mut response = json_response(status, encode(&answer));
    let headers = response.headers_mut();
    headers.insert(ANSWERED_BY, HeaderValue::from_static("rules"));
    name_flow(headers, flow);
    if let Some(cookie) = cookie {
        headers.insert(header::SET_COOKIE, cookie);
    }
    set_retry_after(headers, status);
    Ok(response)
}

/// Builds the response of an action that is exposed without a rule.
///
/// # Errors
/// As [`response`].
pub(crate) fn of_output(
    sealer: &Sealer,
    flow: Option<FlowId>,
    mut output: Object,
    status: u16,
) -> Result<Response<Body>, EdgeError> {
    if let Some(flow) = flow {
        open(sealer, flow, &mut output)?;
    }
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json_response(status, encode(&output));
    let headers = response.headers_mut();
    headers.insert(ANSWERED_BY, HeaderValue::from_static("concept"));
    if let Some(flow) = flow {
        name_flow(headers, flow);
    }
    set_retry_after(headers, status);
    Ok(response)
}

/// Sets `Retry-After` for 429 and 503.
fn set_retry_after(headers: &mut HeaderMap, status: StatusCode) {
    let wait_s = match status {
        StatusCode::TOO_MANY_REQUESTS => THROTTLED_RETRY_AFTER_S,
        StatusCode::SERVICE_UNAVAILABLE => BUSY_RETRY_AFTER_S,
        _ => return,
    };
    headers.insert(header::RETRY_AFTER, wait_s.into());
}

/// Decrypts the secrets of this flow; other texts stay unchanged.
///
/// # Errors
/// The key of a seal is missing. A response must never contain a seal.
fn open(sealer: &Sealer, flow: FlowId, object: &mut Object) -> Result<(), EdgeError> {
    for (key, value) in object.iter_mut() {
        match value.as_str().map(|text| sealer.open(flow, text)) {
            Some(Ok(secret)) => *value = Value::String(secret.expose().to_owned()),
            Some(Err(SealError::UnknownKey | SealError::Broken)) => {
                return Err(EdgeError::locked(flow, key));
            }
            Some(Err(_)) | None => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use concert_wire::id::ActionId;
    use concert_wire::keyring::{Key, Keyring};
    use serde_json::json;

    use super::*;

    fn sealer(id: &str) -> Sealer {
        Sealer::new(Keyring::parse(&Key::new(id, [1; 64]).to_line()).unwrap())
    }

    fn answered(session: &str) -> Result<Response<Body>, EdgeError> {
        let flow = ActionId::injected("S", 1, 1).as_root();
        let answer = json!({ "request": flow.to_string(), "user": "ada", "session": session });
        response(&sealer("k1"), flow, answer.as_object().unwrap().clone(), None)
    }

    #[test]
    fn seal_with_an_unknown_key_is_a_503() {
        let flow = ActionId::injected("S", 1, 1).as_root();
        assert!(answered(&sealer("k1").seal(flow, "a token")).is_ok());
        // Another key with the same id.
        let other = Sealer::new(Keyring::parse(&Key::new("k1", [2; 64]).to_line()).unwrap());
        assert!(answered(&other.seal(flow, "a token")).is_err());
        let refused = answered(&sealer("k2").seal(flow, "a token")).unwrap_err().response();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        // A retry without an Idempotency-Key would repeat the action.
        assert!(!refused.headers().contains_key(header::RETRY_AFTER));
        assert_eq!(refused.headers()["concert-flow"], flow.to_string().as_str());
        // Texts that only look similar are returned unchanged.
        for text in ["sealed: with a kiss", "sealed:k2:AAAA"] {
            assert!(answered(text).is_ok(), "{text}");
        }
    }
}
