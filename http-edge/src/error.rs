//! What the edge itself answers, as opposed to an outcome of the rules.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use concert_wire::id::FlowId;
use serde_json::json;

/// Tells who answered: the rules, or the edge because the request never got to them or they did not
/// answer.
pub(crate) const ANSWERED_BY: &str = "concert-answered-by";
/// The flow of the request.
pub(crate) const FLOW: &str = "concert-flow";

/// Why the edge answers by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EdgeError {
    #[error("{0}")]
    BadRequest(String),
    #[error("there is nothing at this path")]
    NotFound,
    #[error("this path takes POST only")]
    Method,
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the session cookie is taken from pages of this site only")]
    CrossSite,
    #[error(
        "a request that relies on the session cookie must carry the header `concert-session: cookie`"
    )]
    CookieUnasked,
    #[error("the content type must be application/json")]
    ContentType,
    #[error("the body did not arrive in time")]
    SlowBody,
    #[error("too many requests are under way; try again later")]
    Overloaded,
    #[error("too many connections are open; try again later")]
    Connections,
    #[error("the service is not ready; try again later")]
    Unavailable,
    #[error("no answer in time; the action may still happen")]
    Deadline(FlowId),
    #[error("no answer in time; the action may still happen")]
    NoAnswer,
    #[error(
        "the action has happened, and its answer cannot be read yet; a repetition under the same Idempotency-Key has it later"
    )]
    Locked(FlowId),
    #[error("the request could not be carried out; the action may have happened")]
    Failed(FlowId),
}

impl EdgeError {
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::CrossSite | Self::CookieUnasked => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::Overloaded | Self::Connections | Self::Unavailable | Self::Locked(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Deadline(_) | Self::NoAnswer => StatusCode::GATEWAY_TIMEOUT,
            Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What is said of an answer that is sealed, under this key of its body, with a key that this
    /// process does not have; the log hears of it.
    pub(crate) fn locked(flow: FlowId, key: &str) -> Self {
        tracing::error!(%flow, key, "an answer is sealed under a key that this process does not have, and not given");
        Self::Locked(flow)
    }

    pub(crate) fn response(&self) -> Response<Body> {
        let mut response = json_response(
            self.status(),
            json!({ "error": self.to_string() }).to_string().into_bytes(),
        );
        let headers = response.headers_mut();
        headers.insert(ANSWERED_BY, HeaderValue::from_static("edge"));
        match self {
            Self::Method => drop(headers.insert(header::ALLOW, HeaderValue::from_static("POST"))),
            Self::Overloaded | Self::Connections | Self::Unavailable => {
                drop(headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1")))
            }
            Self::Deadline(flow) | Self::Failed(flow) | Self::Locked(flow) => {
                name_flow(headers, *flow)
            }
            _ => {}
        }
        response
    }
}

/// Says which flow a response belongs to.
pub(crate) fn name_flow(headers: &mut axum::http::HeaderMap, flow: FlowId) {
    if let Ok(value) = HeaderValue::from_str(&flow.to_string()) {
        headers.insert(FLOW, value);
    }
}

/// A response with a JSON body, which no cache keeps.
pub(crate) fn json_response(status: StatusCode, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
