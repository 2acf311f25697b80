//! Builds HTTP responses from the outcomes of rules and actions.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use concert_wire::envelope::{BODY, ERROR, Object, RETRY_AFTER, STATUS, response_status};
use concert_wire::id::FlowId;
use concert_wire::seal::{SealError, Sealer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cookie::{Cookies, Use};
use crate::error::{ANSWERED_BY, EdgeError, json_response, name_flow, set_retry_after};
use crate::pending::Respond;
use crate::splice::Pieces;

/// Status of responses to refusals, for `http.refusals`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Refusals {
    /// The status of the rule.
    #[default]
    #[serde(rename = "status")]
    Status,
    /// 200, for clients that read only the body.
    #[serde(rename = "200")]
    Ok,
}

impl Refusals {
    /// Returns whether refusals of rules get status 200.
    pub fn are_200(self) -> bool {
        self == Self::Ok
    }

    /// Changes a 4xx of a rule to 200 if this is set. A 429 and responses of the edge and of the
    /// router keep their status.
    pub(crate) fn apply(self, response: &mut Response<Body>) {
        let status = response.status();
        let is_of_rules = response.extensions().get::<OfRules>().is_some();
        let is_refusal = status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS;
        if self.are_200() && is_of_rules && is_refusal {
            *response.status_mut() = StatusCode::OK;
        }
    }
}

/// `Retry-After` of a 429 without a time of its own, in seconds.
const THROTTLED_RETRY_AFTER_S: u64 = 60;
/// `Retry-After` of a 503, in seconds.
const BUSY_RETRY_AFTER_S: u64 = 1;
/// Maximum time that a throttled action can name, in seconds: a year.
const RETRY_AFTER_MAX_S: f64 = 31_536_000.0;

/// Marks responses of rules, to which `http.refusals` applies.
#[derive(Clone, Copy)]
struct OfRules;

/// Builds the response: the body of a `respondWith`, or the input of a `respond` without `request`
/// and `status`, with decrypted secrets. In cookie mode, the session moves from the body to the
/// cookie.
///
/// # Errors
/// The router itself responds, or the decryption key of a secret is not available, or not yet.
pub(crate) fn response(
    sealer: &Sealer,
    flow: FlowId,
    respond: Respond,
    cookie: Option<(&Cookies, Use)>,
) -> Result<Response<Pieces>, EdgeError> {
    let Respond { has_body, is_of_router, input: mut answer } = respond;
    answer.shift_remove("request");
    let status =
        StatusCode::from_u16(response_status(&answer)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.shift_remove(STATUS);
    let wait_s = wait_s(status, &answer);
    if is_of_router {
        let error = answer.get(ERROR).and_then(Value::as_str).unwrap_or_default().to_owned();
        return Err(EdgeError::Router { flow, status, error, wait_s });
    }
    if status == StatusCode::TOO_MANY_REQUESTS {
        answer.shift_remove(RETRY_AFTER);
    }
    let moved = match cookie {
        Some((cookies, using)) if !has_body => {
            cookies.move_out(using, sealer, flow, &mut answer)?
        }
        _ => None,
    };
    let cookie = moved.or_else(|| cookie.and_then(|(cookies, using)| cookies.clear(using, status)));
    let body = match has_body {
        true => answer.shift_remove(BODY).unwrap_or_default(),
        false => Value::Object(answer),
    };
    let mut response = with_body(sealer, Some(flow), status, &body)?;
    response.extensions_mut().insert(OfRules);
    let headers = response.headers_mut();
    headers.insert(ANSWERED_BY, HeaderValue::from_static("rules"));
    name_flow(headers, flow);
    if let Some(cookie) = cookie {
        headers.insert(header::SET_COOKIE, cookie);
    }
    set_retry_after(headers, wait_s);
    Ok(response)
}

/// Builds the response of an action that is exposed without a rule.
///
/// # Errors
/// As [`response`].
pub(crate) fn of_output(
    sealer: &Sealer,
    flow: Option<FlowId>,
    output: Object,
    status: u16,
) -> Result<Response<Pieces>, EdgeError> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let wait_s = wait_s(status, &output);
    let mut response = with_body(sealer, flow, status, &Value::Object(output))?;
    let headers = response.headers_mut();
    headers.insert(ANSWERED_BY, HeaderValue::from_static("concept"));
    if let Some(flow) = flow {
        name_flow(headers, flow);
    }
    set_retry_after(headers, wait_s);
    Ok(response)
}

/// Seconds until the client may retry, if the status asks it to: the time that a throttled action
/// names, or a default.
fn wait_s(status: StatusCode, answer: &Object) -> Option<u64> {
    match status {
        StatusCode::TOO_MANY_REQUESTS => {
            let named = answer.get(RETRY_AFTER).and_then(Value::as_f64);
            let named = named.filter(|named| *named >= 1.0 && *named <= RETRY_AFTER_MAX_S);
            Some(named.map_or(THROTTLED_RETRY_AFTER_S, |named| named.ceil() as u64))
        }
        StatusCode::SERVICE_UNAVAILABLE => Some(BUSY_RETRY_AFTER_S),
        _ => None,
    }
}

/// A response with a JSON body, in which secrets of this flow are decrypted at any depth. A secret
/// in the form of a reference is not a large value. The statuses 204 and 304 have no body.
///
/// # Errors
/// The key of a seal is missing. A response must never contain a seal.
fn with_body(
    sealer: &Sealer,
    flow: Option<FlowId>,
    status: StatusCode,
    value: &Value,
) -> Result<Response<Pieces>, EdgeError> {
    let mut body = Pieces::default();
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        let mut response = json_response(status, body);
        response.headers_mut().remove(header::CONTENT_TYPE);
        return Ok(response);
    }
    body.tree(value, &|body: &mut Pieces, leaf: &Value| {
        let opened = flow.zip(leaf.as_str()).map(|(flow, text)| (flow, sealer.open(flow, text)));
        match opened {
            Some((_, Ok(secret))) => body.plain(&Value::String(secret.expose().to_owned())),
            Some((flow, Err(SealError::UnknownKey | SealError::Broken))) => {
                return Err(EdgeError::locked(flow));
            }
            Some((_, Err(SealError::Form))) | None => body.leaf(leaf),
        }
        Ok(())
    })?;
    Ok(json_response(status, body))
}

#[cfg(test)]
mod tests {
    use concert_wire::id::ActionId;
    use concert_wire::keyring::{Key, Keyring};
    use concert_wire::openapi::ErrorShape;
    use serde_json::json;

    use super::*;
    use crate::error::ErrorArgs;

    fn sealer(id: &str) -> Sealer {
        Sealer::new(Keyring::parse(&Key::new(id, [1; 64]).to_line()).unwrap())
    }

    fn respond(input: &Value) -> Respond {
        Respond { input: input.as_object().unwrap().clone(), ..Respond::default() }
    }

    #[test]
    fn refusals_of_rules_become_200_if_set() {
        let flow = ActionId::injected("S", 1, 1).as_root();
        let shown = |refusals: Refusals, mut response: Response<Body>| {
            refusals.apply(&mut response);
            response.status().as_u16()
        };
        for (status, expected) in [(404, 200), (400, 200), (429, 429), (503, 503), (201, 201)] {
            let of_rule = || {
                let input = json!({ "error": "x", "status": status });
                response(&sealer("k1"), flow, respond(&input), None).unwrap().map(|_| Body::empty())
            };
            assert_eq!(shown(Refusals::Ok, of_rule()), expected);
            assert_eq!(shown(Refusals::Status, of_rule()), status);
        }
        let of_action = of_output(&sealer("k1"), None, Object::new(), 400).unwrap();
        assert_eq!(shown(Refusals::Ok, of_action.map(|_| Body::empty())), 400);
        assert_eq!(shown(Refusals::Ok, EdgeError::NotFound.response(ErrorArgs::default())), 404);
    }

    #[tokio::test]
    async fn response_of_the_router_has_the_shape_of_the_edge() {
        let flow = ActionId::injected("S", 1, 1).as_root();
        let input = |status: u16| json!({ "status": status, "error": "late", "retryAfter": 7 });
        for (errors, expected) in [
            (ErrorShape::Plain, json!({ "error": "late" })),
            (ErrorShape::Fields, json!({ "errors": { "body": ["late"] } })),
            (
                ErrorShape::Problem,
                json!({ "title": "Too Many Requests", "status": 429, "detail": "late" }),
            ),
        ] {
            let of_router = Respond { is_of_router: true, ..respond(&input(429)) };
            let failed = response(&sealer("k1"), flow, of_router, None).unwrap_err();
            let response = failed.response(ErrorArgs { errors, misfit_status: 422 });
            assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
            let headers = response.headers();
            for (name, value) in [
                ("content-type", errors.media_type()),
                ("retry-after", "7"),
                ("concert-answered-by", "rules"),
                ("concert-flow", &flow.to_string()),
            ] {
                assert_eq!(headers[name], value, "{errors:?}");
            }
            let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
            assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
        }
        // It is no refusal.
        let expired = Respond { is_of_router: true, ..respond(&input(410)) };
        let expired = response(&sealer("k1"), flow, expired, None).unwrap_err();
        let mut expired = expired.response(ErrorArgs::default());
        Refusals::Ok.apply(&mut expired);
        assert_eq!(expired.status(), StatusCode::GONE);
    }

    #[test]
    fn body_of_respond_with_is_any_value() {
        let flow = ActionId::injected("S", 1, 1).as_root();
        for body in [json!([{ "error": "x" }]), json!("text"), json!(null), json!({ "status": 1 })]
        {
            let input = json!({ "request": flow.to_string(), "body": body, "status": 404 });
            let respond = Respond { has_body: true, ..respond(&input) };
            let response = response(&sealer("k1"), flow, respond, None).unwrap();
            assert_eq!(response.status(), StatusCode::NOT_FOUND);
            let mut expected = Pieces::default();
            expected.text(&body.to_string());
            assert_eq!(*response.body(), expected);
        }
    }

    #[test]
    fn secrets_are_decrypted_at_any_depth() {
        let flow = ActionId::injected("S", 1, 1).as_root();
        let sealer = sealer("k1");
        let user = |token: &str| json!([{ "user": { "token": token, "bio": null } }]);
        for (has_body, key) in [(true, "body"), (false, "users")] {
            let input = json!({ key: user(&sealer.seal(flow, "a token")) });
            let respond = Respond { has_body, ..respond(&input) };
            let found = response(&sealer, flow, respond, None).unwrap();
            let expected = if has_body { user("a token") } else { json!({ key: user("a token") }) };
            let mut pieces = Pieces::default();
            pieces.text(&expected.to_string());
            assert_eq!(*found.body(), pieces);
        }
    }

    #[test]
    fn status_204_and_304_have_no_body() {
        let flow = ActionId::injected("S", 1, 1).as_root();
        for (status, has_body) in [(200, true), (204, false), (304, false)] {
            let input = respond(&json!({ "status": status, "a": 1 }));
            let response = response(&sealer("k1"), flow, input, None).unwrap();
            assert_eq!(*response.body() != Pieces::default(), has_body);
            assert_eq!(response.headers().contains_key(header::CONTENT_TYPE), has_body);
        }
    }

    fn answered(session: &str) -> Result<Response<Pieces>, EdgeError> {
        let flow = ActionId::injected("S", 1, 1).as_root();
        let answer = json!({ "request": flow.to_string(), "user": "ada", "session": session });
        response(&sealer("k1"), flow, respond(&answer), None)
    }

    #[test]
    fn secret_in_the_form_of_a_reference_is_not_a_large_value() {
        let flow = ActionId::injected("S", 1, 1).as_root();
        let look_alike = format!("large:{}:40000:{}", "A".repeat(22), "0".repeat(64));
        let mut expected = Pieces::default();
        expected.text(&format!(r#"{{"user":"ada","session":"{look_alike}"}}"#));
        let of_secret = answered(&sealer("k1").seal(flow, &look_alike)).unwrap();
        assert_eq!(*of_secret.body(), expected);
        assert_ne!(*answered(&look_alike).unwrap().body(), expected);
    }

    #[test]
    fn retry_after_is_the_time_that_a_throttled_action_names() {
        let flow = ActionId::injected("S", 1, 1).as_root();
        for (status, named, expected) in [
            (429, json!(534), Some("534")),
            (429, json!(0.5), Some("60")),
            (429, json!("soon"), Some("60")),
            (503, json!(534), Some("1")),
            (400, json!(534), None),
        ] {
            let answer = json!({ "status": status, "error": "later", "retryAfter": named });
            let response = response(&sealer("k1"), flow, respond(&answer), None).unwrap();
            let wait = response.headers().get(header::RETRY_AFTER);
            let wait = wait.map(|wait| wait.to_str().unwrap());
            assert_eq!(wait, expected, "{status} {named}");
        }
    }

    #[test]
    fn seal_with_an_unknown_key_is_a_503() {
        let flow = ActionId::injected("S", 1, 1).as_root();
        assert!(answered(&sealer("k1").seal(flow, "a token")).is_ok());
        // Another key with the same id.
        let other = Sealer::new(Keyring::parse(&Key::new("k1", [2; 64]).to_line()).unwrap());
        assert!(answered(&other.seal(flow, "a token")).is_err());
        let refused = answered(&sealer("k2").seal(flow, "a token")).unwrap_err();
        let refused = refused.response(ErrorArgs::default());
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
