//! Responses of the edge itself, in contrast to responses of rules.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use concert_wire::id::FlowId;
use concert_wire::routes::Method;
use serde_json::json;

use crate::routes::allow;

/// Header with the source of a response: `rules`, `concept`, or `edge`.
pub(crate) const ANSWERED_BY: &str = "concert-answered-by";
/// Header with the flow of the request.
pub(crate) const FLOW: &str = "concert-flow";

/// A response of the edge itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EdgeError {
    #[error("{0}")]
    BadRequest(String),
    #[error("not found")]
    NotFound,
    /// With the methods of the path.
    #[error("method not allowed; use {}", allow(_0).replace(", ", " or "))]
    Method(Vec<Method>),
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("`{0}` is larger than {1} bytes")]
    LargeValue(String, u64),
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
}

impl EdgeError {
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::CrossSite | Self::CookieUnasked => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Host => StatusCode::BAD_REQUEST,
            Self::Repeated(_) => StatusCode::CONFLICT,
            Self::TooLarge(_) | Self::LargeValue(..) | Self::Unstorable => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            Self::Expired(_) => StatusCode::GONE,
            Self::Rate(_) => StatusCode::TOO_MANY_REQUESTS,
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
        }
    }

    /// Error for a response with a secret, at this key of its body, whose decryption key is
    /// missing. Logs it.
    pub(crate) fn locked(flow: FlowId, key: &str) -> Self {
        tracing::error!(
            %flow,
            key,
            "cannot decrypt a response: its key is missing; check app.keys_dir"
        );
        Self::Locked(flow)
    }

    pub(crate) fn response(&self) -> Response<Body> {
        let mut response = json_response(
            self.status(),
            Body::from(json!({ "error": self.to_string() }).to_string()),
        );
        let headers = response.headers_mut();
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
            Self::Rate(wait_s) => drop(headers.insert(header::RETRY_AFTER, (*wait_s).into())),
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
            _ => {}
        }
        response
    }
}

/// Sets the header with the flow of a response.
pub(crate) fn name_flow(headers: &mut axum::http::HeaderMap, flow: FlowId) {
    if let Ok(value) = HeaderValue::from_str(&flow.to_string()) {
        headers.insert(FLOW, value);
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
