//! Responses of the edge itself and of the router, in contrast to responses of rules.

use std::fmt;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use concert_wire::id::FlowId;
use concert_wire::nested;
use concert_wire::openapi::ErrorShape;
use concert_wire::routes::{Method, Violation};
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use crate::routes::allow;

/// Header with the source of a response: `rules`, `concept`, or `edge`.
pub(crate) const ANSWERED_BY: &str = "concert-answered-by";
/// Header with the flow of the request.
pub(crate) const FLOW: &str = "concert-flow";

/// Errors of the edge: a part of the section `[http]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ErrorArgs {
    /// Body of errors that no rule sends: those of the edge, and the router's responses to faults.
    /// `plain`: `{"error": "…"}`. `problem`: problem details
    /// (RFC 9457). `fields`: `{"errors": {"<key>": ["…"]}}` with the last part of each key, or
    /// `body` for other errors.
    #[schemars(with = "Shape")]
    pub errors: ErrorShape,
    /// Status of a request with a missing or invalid key: 400 or 422.
    #[serde(deserialize_with = "misfit_status")]
    #[schemars(extend("enum" = [400, 422]))]
    pub misfit_status: u16,
}

/// The values of [`ErrorShape`] in the schema of the configuration.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "only its schema is used")]
enum Shape {
    Plain,
    Problem,
    Fields,
}

impl Default for ErrorArgs {
    fn default() -> Self {
        Self { errors: ErrorShape::default(), misfit_status: 400 }
    }
}

fn misfit_status<'de, D: Deserializer<'de>>(from: D) -> Result<u16, D::Error> {
    match u16::deserialize(from)? {
        status @ (400 | 422) => Ok(status),
        other => Err(D::Error::custom(format!("{other} is not 400 or 422"))),
    }
}

/// A key of a request that is missing or has no valid value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// The key of the route, such as `user.email`.
    key: String,
    /// The part of the value, such as `[2]`; empty for the whole value.
    part: String,
    /// The problem, as the end of a sentence about the part.
    problem: String,
}

impl Misfit {
    pub(crate) fn new(key: &str, problem: &str) -> Self {
        Self { key: key.to_owned(), part: String::new(), problem: problem.to_owned() }
    }

    /// A violation of the type of a key.
    pub(crate) fn within(key: &str, found: &Violation) -> Self {
        let (part, problem) = (found.path.clone(), found.problem.clone());
        Self { key: key.to_owned(), part, problem }
    }

    /// The text under the key in the shape `fields`.
    fn text(&self) -> String {
        match self.part.as_str() {
            "" => self.problem.clone(),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}{}` {}", self.key, self.part, self.problem)
    }
}

/// All keys of a request that are missing or have no valid value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misfits(pub(crate) Vec<Misfit>);

impl fmt::Display for Misfits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, misfit) in self.0.iter().enumerate() {
            write!(f, "{}{misfit}", if number == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl From<Misfit> for EdgeError {
    fn from(misfit: Misfit) -> Self {
        Self::Misfit(Misfits(vec![misfit]))
    }
}

/// A response of the edge itself, or of the router.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EdgeError {
    #[error("{0}")]
    BadRequest(String),
    #[error("{0}")]
    Misfit(Misfits),
    #[error("not found")]
    NotFound,
    /// With the methods of the path.
    #[error("method not allowed; use {}", allow(_0).replace(", ", " or "))]
    Method(Vec<Method>),
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("`{0}` is larger than {1} bytes")]
    LargeValue(String, u64),
    #[error("this client has stored too many large values; retry in {0} s")]
    Quota(u64),
    #[error("the storage for large values is full; retry later")]
    StorageFull,
    #[error("the response contains a large value that has expired")]
    Expired(Option<FlowId>),
    #[error(
        "the response contains a large value that cannot be read now; retry with the same \
         Idempotency-Key"
    )]
    ValueUnavailable(Option<FlowId>),
    #[error("the request is too large to be stored; send a smaller body")]
    Unstorable,
    #[error("a request needs exactly one Host header")]
    Host,
    #[error("unsupported transfer coding; use chunked")]
    TransferCoding,
    #[error("unsupported content encoding; send the body as plain JSON")]
    ContentEncoding,
    #[error("too many failed or unanswered requests from this client; retry in {0} s")]
    Rate(u64),
    #[error(
        "this request was answered before, and its response holds a secret; send a new request \
         with another Idempotency-Key"
    )]
    Repeated(FlowId),
    #[error("the session cookie is accepted only from same-origin pages and allowed origins")]
    CrossSite,
    #[error("a request with the session cookie needs the header `concert-session: cookie`")]
    CookieUnasked,
    #[error("the content type must be application/json")]
    ContentType,
    #[error("timed out reading the request body")]
    SlowBody,
    #[error("too many concurrent requests; retry later")]
    Overloaded,
    #[error("too many connections; retry later")]
    Connections,
    #[error("the service is not ready; retry later")]
    Unavailable,
    /// With the reason that the router found.
    #[error("{0}; retry later")]
    Worker(String),
    #[error("no response in time; the action may still complete")]
    Deadline(FlowId),
    #[error("no response in time; the action may still complete")]
    NoAnswer,
    #[error(
        "the action completed, but its response cannot be decrypted yet; retry with the same \
         Idempotency-Key"
    )]
    Locked(FlowId),
    #[error("the request failed; some of its actions may have completed")]
    Failed(FlowId),
    /// The router responds, because no rule does.
    #[error("{error}")]
    Router { flow: FlowId, status: StatusCode, error: String, wait_s: Option<u64> },
}

impl EdgeError {
    /// The status, unless the configuration has another one.
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::Misfit(_) => StatusCode::BAD_REQUEST,
            Self::CrossSite | Self::CookieUnasked => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Host => StatusCode::BAD_REQUEST,
            Self::Repeated(_) => StatusCode::CONFLICT,
            Self::TooLarge(_) | Self::LargeValue(..) | Self::Unstorable => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            Self::Expired(_) => StatusCode::GONE,
            Self::Rate(_) | Self::Quota(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::TransferCoding => StatusCode::NOT_IMPLEMENTED,
            Self::ContentType | Self::ContentEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::Overloaded
            | Self::Connections
            | Self::Unavailable
            | Self::Worker(_)
            | Self::StorageFull
            | Self::ValueUnavailable(_)
            | Self::Locked(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Deadline(_) | Self::NoAnswer => StatusCode::GATEWAY_TIMEOUT,
            Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Router { status, .. } => *status,
        }
    }

    /// Error for a response with a secret whose decryption key is missing. Logs it.
    pub(crate) fn locked(flow: FlowId) -> Self {
        tracing::error!(
            %flow,
            "cannot decrypt a response: its key is missing; check app.keys_dir"
        );
        Self::Locked(flow)
    }

    /// The response, in the shape of the configuration.
    pub(crate) fn response(&self, args: ErrorArgs) -> Response<Body> {
        let status = match self {
            Self::Misfit(_) => StatusCode::from_u16(args.misfit_status).ok(),
            _ => None,
        };
        let status = status.unwrap_or_else(|| self.status());
        let body = self.body(args.errors, status).to_string();
        let mut response = json_response(status, Body::from(body));
        let headers = response.headers_mut();
        let media_type = HeaderValue::from_static(args.errors.media_type());
        headers.insert(header::CONTENT_TYPE, media_type);
        headers.insert(ANSWERED_BY, HeaderValue::from_static("edge"));
        match self {
            Self::Method(methods) => {
                if let Ok(methods) = HeaderValue::from_str(&allow(methods)) {
                    headers.insert(header::ALLOW, methods);
                }
            }
            Self::Overloaded
            | Self::Connections
            | Self::Unavailable
            | Self::StorageFull
            | Self::Worker(_) => {
                drop(headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1")))
            }
            Self::Rate(wait_s) | Self::Quota(wait_s) => {
                drop(headers.insert(header::RETRY_AFTER, (*wait_s).into()))
            }
            // The connection may hold a body that was not read.
            Self::TransferCoding => {
                drop(headers.insert(header::CONNECTION, HeaderValue::from_static("close")))
            }
            Self::Deadline(flow)
            | Self::Failed(flow)
            | Self::Locked(flow)
            | Self::Expired(Some(flow))
            | Self::ValueUnavailable(Some(flow))
            | Self::Repeated(flow) => name_flow(headers, *flow),
            Self::Router { flow, wait_s, .. } => {
                headers.insert(ANSWERED_BY, HeaderValue::from_static("rules"));
                name_flow(headers, *flow);
                set_retry_after(headers, *wait_s);
            }
            _ => {}
        }
        response
    }

    fn body(&self, shape: ErrorShape, status: StatusCode) -> Value {
        let misfits = match self {
            Self::Misfit(Misfits(misfits)) => misfits.as_slice(),
            _ => &[],
        };
        match shape {
            ErrorShape::Plain => json!({ "error": self.to_string() }),
            ErrorShape::Problem => {
                let mut problem = json!({
                    "title": status.canonical_reason().unwrap_or_default(),
                    "status": status.as_u16(),
                    "detail": self.to_string(),
                });
                if let (Some(problem), false) = (problem.as_object_mut(), misfits.is_empty()) {
                    let errors = misfits.iter().map(|misfit| {
                        let pointer = misfit.key.replace(nested::SEPARATOR, "/");
                        json!({ "pointer": format!("#/{pointer}"), "detail": misfit.text() })
                    });
                    problem.insert("errors".to_owned(), errors.collect());
                }
                problem
            }
            ErrorShape::Fields if misfits.is_empty() => {
                json!({ "errors": { "body": [self.to_string()] } })
            }
            ErrorShape::Fields => {
                let mut errors: Map<String, Value> = Map::new();
                for misfit in misfits {
                    let texts = errors.entry(nested::last(&misfit.key)).or_insert(json!([]));
                    texts.as_array_mut().into_iter().for_each(|t| t.push(misfit.text().into()));
                }
                json!({ "errors": errors })
            }
        }
    }
}

/// Sets the header with the flow of a response.
pub(crate) fn name_flow(headers: &mut axum::http::HeaderMap, flow: FlowId) {
    if let Ok(value) = HeaderValue::from_str(&flow.to_string()) {
        headers.insert(FLOW, value);
    }
}

/// Sets the header with the seconds after which a client may repeat its request, if it must wait.
pub(crate) fn set_retry_after(headers: &mut axum::http::HeaderMap, wait_s: Option<u64>) {
    if let Some(wait_s) = wait_s {
        headers.insert(header::RETRY_AFTER, wait_s.into());
    }
}

/// A JSON response that must not be cached.
pub(crate) fn json_response<B>(status: StatusCode, body: B) -> Response<B> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    #[tokio::test]
    async fn shape_of_errors_is_configured() {
        let violation =
            Violation { path: "[1]".to_owned(), problem: "must be a string".to_owned() };
        let misfits = EdgeError::Misfit(Misfits(vec![
            Misfit::new("user.email", "is missing"),
            Misfit::within("user.tags", &violation),
        ]));
        let text = "`user.email` is missing; `user.tags[1]` must be a string";
        let (other, other_text) = (EdgeError::NotFound, "not found");
        for (errors, error, status, expected) in [
            (ErrorShape::Plain, &misfits, 422, json!({ "error": text })),
            (ErrorShape::Plain, &other, 404, json!({ "error": other_text })),
            (
                ErrorShape::Problem,
                &misfits,
                422,
                json!({
                    "title": "Unprocessable Entity",
                    "status": 422,
                    "detail": text,
                    "errors": [
                        { "pointer": "#/user/email", "detail": "is missing" },
                        { "pointer": "#/user/tags", "detail": "`user.tags[1]` must be a string" },
                    ],
                }),
            ),
            (
                ErrorShape::Problem,
                &other,
                404,
                json!({ "title": "Not Found", "status": 404, "detail": other_text }),
            ),
            (
                ErrorShape::Fields,
                &misfits,
                422,
                json!({ "errors": {
                    "email": ["is missing"],
                    "tags": ["`user.tags[1]` must be a string"],
                } }),
            ),
            (ErrorShape::Fields, &other, 404, json!({ "errors": { "body": [other_text] } })),
        ] {
            let response = error.response(ErrorArgs { errors, misfit_status: 422 });
            assert_eq!(response.status().as_u16(), status);
            let media_type = response.headers()[header::CONTENT_TYPE].clone();
            assert_eq!(media_type == "application/problem+json", errors == ErrorShape::Problem);
            let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
            assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
        }
        assert_eq!(misfits.response(ErrorArgs::default()).status(), StatusCode::BAD_REQUEST);
        assert!(serde_json::from_value::<ErrorArgs>(json!({ "misfit_status": 404 })).is_err());
    }
}
